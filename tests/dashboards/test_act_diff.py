"""The dry-run difference: what was, what becomes, what is sent; the same on the page and on the form."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

from hypothesis import given, settings
from hypothesis import strategies as some

from skewscope.catalogue import load

world = run_path(str(Path(__file__).with_name("_act_world.py")))
diff = load("dashboards._act_diff")
plain = some.none() | some.booleans() | some.integers() | some.text(max_size=8)
states = some.dictionaries(some.text(min_size=1, max_size=4), plain | some.dictionaries(some.text(max_size=4), plain))


def test_a_drain_is_three_lines():
    told = diff.lines(world["SLURM"])
    assert told[:3] == ("- State: ALLOCATED", "+ State: ALLOCATED+DRAIN", '- Reason: ""')
    assert told[-1].startswith("> scontrol update NodeName=n006 State=DRAIN 'Reason=skewscope:c0ffee12 gpu4")
    assert not any("rack 3" in one for one in told)


def test_a_foreign_taint_does_not_come_or_go():
    told = diff.changes(world["KUBERNETES"]["before"], world["KUBERNETES"]["after"])
    assert told == [
        "- spec.unschedulable: false", "+ spec.unschedulable: true",
        '+ spec.taints: {"effect": "NoSchedule", "key": "skewscope/slow", "value": "c0ffee13"}',
    ]  # fmt: skip


def test_a_whole_list_that_loses_a_foreign_taint_is_seen():
    foreign, ours = world["FOREIGN"], world["TAINT"]
    told = diff.changes({"taints": [foreign]}, {"taints": [ours]})
    assert [one[:2] for one in told] == ["- ", "+ "] and "example.com/pool" in told[0]


@settings(deadline=None)
@given(states)
def test_what_stays_is_not_shown(state):
    assert diff.changes(state, state) == []


@settings(deadline=None)
@given(states, states)
def test_each_field_that_changes_is_shown(before, after):
    told = diff.changes(before, after)
    assert bool(told) == any(not _same(before.get(key, ...), after.get(key, ...)) for key in {*before, *after})
    assert all(one[:2] in ("- ", "+ ") for one in told)


def _same(one, two):
    return one == two


def test_words_are_quoted_and_control_characters_seen():
    step = {"kind": "run", "words": ["scontrol", "update", "NodeName=a b;reboot", "Reason=x\n\x1b[31my"]}
    (told,) = diff.sent({"sent": [step]})
    assert told == "> scontrol update 'NodeName=a b;reboot' 'Reason=x??[31my'"


def test_what_is_very_long_is_cut_and_says_so():
    many = {
        "before": {},
        "after": {f"k{at}": "v" for at in range(100)},
        "sent": [{"kind": "file", "words": ["x" * 5000]}],
    }
    told = diff.lines(many)
    assert len(told) == 81 and told[-1] == "21 more lines are in the audit file."
    (long,) = diff.lines({"sent": many["sent"]})
    assert len(long) < 700 and "more in the audit file" in long
