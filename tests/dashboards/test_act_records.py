"""Records become stories; what is no record, or no number, is left out."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from skewscope.catalogue import load
from skewscope.errors import SkewscopeError

world = run_path(str(Path(__file__).with_name("_act_world.py")))
records = load("dashboards._act_records")
Story, stories = records.Story, records.stories
anything = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=6),
    lambda part: some.lists(part, max_size=3) | some.dictionaries(some.text(max_size=6), part, max_size=3),
    max_leaves=6,
)  # fmt: skip


def told():
    return {one.act: one for one in stories(world["acts"]().records)}


@pytest.mark.parametrize(
    ("act", "state", "hint"),
    [
        ("beef01.drain", "undone", "-"), ("beef02.drain", "stands", "skewscope undo beef02.drain"),
        ("beef03.avoid", "failed", "-"), ("beef04.drain", "held back", "-"), ("beef05.note", "would be done", "-"),
        ("c0ffee12.drain", "waits for an answer", "-"),
    ],
)  # fmt: skip
def test_a_story_says_how_an_act_stands(act, state, hint):
    one = told()[act]
    assert (one.state, records.undo_hint(one)) == (state, hint)


def test_an_undo_belongs_to_the_act_that_it_takes_back():
    say = world["Told"]()
    say("done", "a.drain", world["SLURM"])
    say("undoing", "a.drain-undo", world["SLURM"], of="a.drain")
    say("undone", "a.drain-undo", world["SLURM"], of="a.drain")
    (one,) = stories(records.newest_first(say.records))
    assert (one.act, one.state) == ("a.drain", "undone")


def test_what_is_shown_of_an_act_is_how_it_was_done_and_not_how_it_was_undone():
    say = world["Told"]()
    say("observed", "a", {**world["SLURM"], "reason": "first"}, dry_run=True)
    say("done", "a", {**world["SLURM"], "reason": "then"})
    assert not stories(records.newest_first(say.records))[0].is_dry_run
    say("observed", "a", world["SLURM"], of="a", dry_run=True)
    say("undone", "b", {**world["SLURM"], "reason": "last"}, of="a")
    (one,) = stories(records.newest_first(say.records))
    assert one.main["reason"] == "then" and not one.is_dry_run and one.state == "undone"


@pytest.mark.parametrize(
    ("phase", "more", "state"),
    [
        ("done", {"result": "nothing"}, "was so already"), ("done", {"verb": "requeue"}, "done"),
        ("recovered", {"result": "done"}, "stands"), ("recovered", {"result": "nothing"}, "not done"),
        ("rejected", {"result": "snoozed"}, "snoozed"), ("rejected", {}, "rejected"),
        ("undo-failed", {}, "stands, undoing failed"), ("held", {"result": "leave"}, "left alone"),
        ("held", {"of": "a", "result": "escalate"}, ""), ("observed", {"of": "a", "result": "undo"}, ""),
        ("lease", {}, ""), ("tested", {"result": "pass"}, ""),
    ],
)  # fmt: skip
def test_results_count(phase, more, state):
    assert Story("a", ({"phase": phase, **more},)).state == state


def test_an_id_that_a_shell_would_read_is_no_hint():
    for name in ("a;reboot", "$(x)", "-rf", "a b", "x\ny"):
        assert records.undo_hint(Story(name, ({"phase": "done"},))) == "by the id in the audit file"


def test_records_come_the_newest_first_in_any_order():
    made = world["document"]()
    made["records"].reverse()
    assert [one["seq"] for one in records.acts_of(made, "x").records][:3] == [19, 18, 17]
    assert [one["act"] for one in records.acts_of(made, "x").waiting] == ["c0ffee13.exclude", "c0ffee12.drain"]


@pytest.mark.parametrize("told", [None, [], {"schema": "skewscope.acts/9"}, "x"])
def test_what_are_no_acts_is_told(told):
    with pytest.raises(SkewscopeError, match="no skewscope.acts/1"):
        records.acts_of(told, "http://x")


@settings(deadline=None)
@given(anything, anything, anything, anything)
def test_parts_of_any_kind_are_taken(one, two, three, four):
    made = records.acts_of({"schema": "skewscope.acts/1", "records": one, "waiting": two, "modes": three,
                            "breaker": four}, "x")  # fmt: skip
    assert made.records == () == made.waiting


FIELDS = ("why evidence predicted expires_ns persons hash of result verb target before after sent").split()


@settings(deadline=None)
@given(some.dictionaries(some.sampled_from(FIELDS), anything))
def test_fields_of_any_kind_are_read(odd):
    one = {"schema": "skewscope.action/1", "seq": 0, "time_ns": 1, "phase": "proposed", "act": "a", **odd}
    (story,) = stories([one])
    assert story.state and records.what(one) and records.said(one) is not None
    assert records.moment(one.get("expires_ns")) and records.number(one, "predicted", "step_share") is None
    assert isinstance(load("dashboards._act_diff").lines(one), tuple)
