from pathlib import Path
from runpy import run_path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skewscope.policy.ledger import PHASES, Ledger

WORLD = run_path(str(Path(__file__).with_name("_world.py")))
record, done, undone, NOW_NS = WORLD["record"], WORLD["done"], WORLD["undone"], WORLD["NOW_NS"]


def test_an_act_stands_from_done_to_undone():
    lines = done("a", 100, undo={"was": "idle"})
    ledger = Ledger.of(lines)
    assert list(ledger.standing) == ["a"] and ledger.standing["a"]["undo"] == {"was": "idle"}
    assert [act.id for act in ledger.fences("slurm")] == ["a"] and not ledger.fences("ray")
    ledger = Ledger.of([*lines, *undone("a", 50)])
    assert not ledger.standing and not ledger.fences("slurm") and not ledger.open_intents
    assert [act.id for act in ledger.fenced("slurm")] == ["a"]


def test_a_crash_leaves_an_open_intent_and_recovery_closes_it():
    ledger = Ledger.of([record("intended", "a", 100, undo={"was": "idle"})])
    assert list(ledger.open_intents) == ["a"] and not ledger.standing and ledger.fences("slurm")
    assert Ledger.of([record("intended", "a"), record("recovered", "a", result="nothing")]).fences("slurm") == []
    ledger.after(record("recovered", "a", result="done"))
    assert not ledger.open_intents and ledger.standing["a"]["undo"] == {"was": "idle"}


def test_a_crash_while_undoing_leaves_it_standing_until_somebody_looked():
    lines = [*done("a", 100), record("undoing", "u", 50, of="a")]
    ledger = Ledger.of(lines)
    assert list(ledger.standing) == list(ledger.open_intents) == ["a"]
    assert list(Ledger.of([*lines, record("recovered", "u", of="a", result="done")]).standing) == ["a"]
    gone = Ledger.of([*lines, record("recovered", "u", of="a", result="nothing")])
    assert not gone.standing and not gone.open_intents


@pytest.mark.parametrize("phase", ["undo-failed", "waiting", "refused", "failed"])
def test_what_could_not_be_undone_still_stands(phase):
    ledger = Ledger.of([*done("a", 100), record("undoing", "u", 50, of="a"), record(phase, "u", 49, of="a")])
    assert list(ledger.standing) == ["a"] and not ledger.open_intents


def test_what_took_nothing_does_not_stand():
    assert not Ledger.of([record("done", "a", result="nothing")]).standing
    assert not Ledger.of(done("a", 9, verb="requeue")).standing
    assert not Ledger.of([record("intended", "a"), record("failed", "a")]).fences("slurm")


def test_a_dry_run_changes_nothing_but_when_it_began():
    lines = [{**line, "dry_run": True} for line in done("a", 100)]
    ledger = Ledger.of(lines)
    assert not ledger.standing and not ledger.counted_ns and ledger.began_ns == lines[0]["time_ns"]


def test_a_proposal_waits_until_it_is_answered_or_expires():
    asked = record("proposed", "a", 100, expires_ns=NOW_NS)
    assert list(Ledger.of([asked]).waiting) == ["a"]
    assert Ledger.of([asked]).proposals("slurm", NOW_NS - 1) and not Ledger.of([asked]).proposals("slurm", NOW_NS)
    for phase in ("rejected", "expired", "intended"):
        assert not Ledger.of([asked, record(phase, "a")]).waiting
    ledger = Ledger.of([asked, *(record("approved", "a", actor=name) for name in ("ann", "bob", "ann"))])
    assert ledger.waiting and set(ledger.acts["a"].approvals) == {"ann", "bob"}


def test_the_breaker_opens_and_a_person_closes_it():
    lines = [*done("a", 9), record("failed", "b", 8), {"phase": "breaker", "result": "open", "detail": "3 acts"}]
    ledger = Ledger.of(lines)
    assert ledger.breaker == "3 acts" and len(ledger.counted_ns) == len(ledger.failures_ns) == 1
    ledger.add({"phase": "breaker", "result": "closed"})
    assert not ledger.breaker and not ledger.counted_ns and not ledger.failures_ns


def test_an_act_that_waits_counts_once():
    lines = [record("intended", "a", 100), record("waiting", "a", 99), record("intended", "a", 50)]
    assert len(Ledger.of(lines).counted_ns) == 1 and list(Ledger.of(lines).open_intents) == ["a"]


RESULTS = ("done", "nothing", "pass", "open", "closed", None)
OTHERS = ("observed", "held", "proved", "lease", "breaker", "reapplied")


def line(phase, act, result, of):
    told = {"phase": phase, "act": act, "result": result, "of": of, "time_ns": 1}
    return {**told, "verb": "drain", "scheduler": "slurm", "target": f"n-{act}"}


LINES = st.builds(
    line,
    st.sampled_from([*PHASES, *OTHERS]),
    st.sampled_from("abc"),
    st.sampled_from(RESULTS),
    st.sampled_from(["", "a"]),
)


@given(st.lists(LINES, max_size=40))
def test_any_past_is_folded_and_stays_of_a_piece(lines):
    ledger = Ledger.of(lines)
    states = {name: act.state for name, act in ledger.acts.items()}
    assert set(ledger.standing) == {name for name, state in states.items() if state in ("standing", "undoing")}
    assert set(ledger.open_intents) == {name for name, state in states.items() if state in ("intended", "undoing")}
    assert set(ledger.waiting) == {name for name, state in states.items() if state == "proposed"}
