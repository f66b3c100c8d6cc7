import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skewscope.errors import UsageError
from skewscope.policy.sections import MODES
from skewscope.policy.settings import Policy


def test_the_default_looks_on_and_goes_through_the_motions():
    told = Policy()
    assert told.mode("slurm") == told.mode("kubernetes", "n1", ("gpu",)) == "observe"
    assert told.is_dry_run("slurm", -1, 5)


def test_a_file_is_read(tmp_path):
    file = tmp_path / "policy.toml"
    file.write_text(
        'mode = "approve"\n[budget]\nnodes_at_once = 3\n[schedulers.slurm]\nmode = "act"\nnodes = ["n1", "n2"]\n'
    )
    told = Policy.load(file)
    assert (told.mode("slurm"), told.mode("ray"), told.budget.nodes_at_once) == ("act", "approve", 3)
    assert told.settings("slurm") == {"nodes": ("n1", "n2")} and told.settings("ray") == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mode = 'auto'", "mode = 'auto': is none of observe, approve, act"),
        ("[budgets]", "budgets is unknown; did you mean budget?"),
        ("[budget]\nnodes_at_onec = 3", "budget: nodes_at_onec is unknown; did you mean nodes_at_once"),
        ("[budget]\nnodes_at_once = 1.5", "budget.nodes_at_once = 1.5: wants a whole number"),
        ("[budget]\nnodes_at_once = true", "wants a whole number"),
        ("[budget]\nshare_at_once = 2", "budget.share_at_once = 2: wants at least 0 and at most 1"),
        ("[evidence]\nconfidence = nan", "wants a number"),
        ("[breaker]\nacts = 0", "breaker.acts = 0: wants at least 1"),
        ("budget = 3", "budget: wants a table, as [budget]"),
        ("[work]\nrequeue = 'yes'", "wants true or false"),
        ("[ownership]\nprotected = 'n1'", 'wants a list of texts, as ["a", "b"]'),
        ("[ladder]\nverbs = ['drain', 'note']", "ladder.verbs must name each rung once, in the order"),
        ("[ladder]\nverbs = ['note', 'requeue']", "ladder.verbs: requeue is unknown"),
        ("[ladder]\nstart = 'quarantine'", "ladder.start: quarantine is unknown"),
        ("[ladder]\nstarts = { S1 = 'dran' }", "ladder.starts.S1: dran is unknown; did you mean drain?"),
        ("[ladder]\nstarts = { S1 = 3 }", "wants a table of texts"),
        ("[approval]\nfree_verbs = ['nod']", "approval.free_verbs: nod is unknown; did you mean note"),
        ("[evidence]\nof_windows = 3", "evidence.windows is above of_windows"),
        ("[evidence]\nof_windows = 6", "evidence.of_windows = 6: wants at least 1 and at most 5"),
        ("[hysteresis]\nleave_ratio = 1.5", "leave_ratio is above enter_ratio"),
        ("[retest]\nwords = []", "retest.words is empty"),
        ("[calendar]\ntimezone = 'Mars/Base'", "no time zone is called 'Mars/Base'"),
        ("[calendar]\nwindows = ['Mon 25:00-26:00']", "calendar.windows = 'Mon 25:00-26:00'"),
        ("[calendar]\nfreezes = ['always']", "it is no span; write 'Mon-Fri 08:00-18:00'"),
        ("[alarms]\nblock = ['critical']", "wants a list of tables of texts"),
        ("schema = 'skewscope.policy/2'", "it reads 'skewscope.policy/1'"),
        ("schedulers = 3", "schedulers: wants a table"),
        ("[schedulers]\nslurm = 3", "schedulers.slurm: wants a table"),
        ("[schedulers.slurm]\nmode = 'on'", "schedulers.slurm.mode = 'on'"),
        ("[schedulers.slurm]\ndry_run = 0", "schedulers.slurm.dry_run = 0: wants true or false"),
        ("[schedulers.slurm.groups.gpu]\nnodes = []", "schedulers.slurm.groups.gpu: mode is missing"),
        ("[schedulers.slurm.groups.gpu]\nmode = 'act'\nnode = []", "node is unknown; did you mean"),
        ("[schedulers.slurm.groups.gpu]\nmode = 'act'\nnodes = 'n1'", 'wants a list of names, as ["n1*"]'),
        ("mode = ", "is not valid TOML"),
    ],
)
def test_what_cannot_be_meant_is_named_with_file_key_and_mend(tmp_path, text, says):
    file = tmp_path / "site.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=re.escape(says)) as told:
        Policy.load(file)
    assert str(file) in str(told.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match="cannot read the policy .*none.toml: No such file"):
        Policy.load(tmp_path / "none.toml")


def test_the_version_tells_settings_apart_and_not_how_they_are_written():
    plain, same = Policy.parse({}), Policy.parse({"budget": {"nodes_at_once": 1}, "mode": "observe"})
    assert plain.version == same.version == Policy().version and re.fullmatch("[0-9a-f]{12}", plain.version)
    assert Policy.parse({"budget": {"nodes_at_once": 2}}).version != plain.version
    assert Policy.parse({"schedulers": {"slurm": {"bin": "x"}}}).version != plain.version


def test_of_several_groups_the_most_cautious_counts():
    groups = {"gpu": {"mode": "approve"}, "canary": {"mode": "act", "nodes": ["n1*"]}, "debug*": {"mode": "observe"}}
    told = Policy.parse({"schedulers": {"slurm": {"mode": "act", "groups": groups}}})
    assert told.mode("slurm", "n9", ("cpu",)) == "act"
    assert told.mode("slurm", "n11", ("cpu",)) == "act"
    assert told.mode("slurm", "n11", ("gpu",)) == "approve"
    assert told.mode("slurm", "n11", ("gpu", "debug-2")) == "observe"
    assert told.mode("slurm") == "act"


@given(st.sampled_from(MODES), st.sampled_from(MODES), st.sampled_from(MODES))
def test_a_mode_is_never_bolder_than_any_group_of_the_node(one, other, scheduler):
    groups = {"a": {"mode": one}, "b": {"mode": other}}
    told = Policy.parse({"schedulers": {"slurm": {"mode": scheduler, "groups": groups}}})
    mode = told.mode("slurm", "n1", ("a", "b"))
    assert MODES.index(mode) == min(MODES.index(one), MODES.index(other))


@pytest.mark.parametrize(
    ("given", "began_days", "dry"),
    [({}, 6.9, True), ({}, 7.0, False), ({"dry_run": False}, 0, False), ({"dry_run": True}, 99, True)],
)
def test_the_first_days_are_a_dry_run(given, began_days, dry):
    told = Policy.parse({"schedulers": {"slurm": given}})
    day_ns = 86_400 * 10**9
    assert told.is_dry_run("slurm", 10**9, 10**9 + int(began_days * day_ns)) is dry


def test_no_days_of_dry_run_are_none():
    told = Policy.parse({"dry_run": {"first_days": 0}})
    assert not told.is_dry_run("slurm", -1, 5) and not told.is_dry_run("slurm", 5, 5)
