"""The engine on a scheduler in memory: acts, dry runs, crashes, returns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from runpy import run_path

import pytest

from skewscope.acting.audit import AuditError
from skewscope.acting.lines import MemoryLines
from skewscope.acting.retesting import Came

S = run_path(str(Path(__file__).with_name("_site.py")))
W, Site, policy, phases = S["W"], S["Site"], S["policy"], S["phases"]
Cluster, Fake, Clock, Desk, MemoryLease = W["Cluster"], W["Fake"], W["Clock"], W["Desk"], W["MemoryLease"]
OURS = "skewscope:c0ffee n3 is slow"


def test_an_act_is_written_down_before_it_is_sent_and_after():
    site = Site()
    said = []
    site.fake.seen = lambda command: said.append(phases(site.audit.records()))
    done = site.turn(W["case"]())
    assert phases(done) == ["intended", "done"] and said == [["intended"]]
    assert site.cluster.nodes["n3"]["drain"] == OURS
    intended, end = done
    assert intended["before"] == {"drain": ""} and intended["after"] == {"drain": OURS}
    assert intended["sent"][0]["words"] == ["PUT", "/nodes/n3/drain"] and intended["reason"] == OURS
    assert end["act"] == intended["act"] and end["result"] == "done" and end["undo"] == intended["undo"]
    assert end["evidence"]["share"] == 0.4 and end["predicted"]["gain_gpu_hours"] > 0 and end["policy"] != ""


def test_nothing_is_done_twice():
    site = Site()
    for _ in range(5):
        site.turn(W["case"]())
    assert [one for one in site.phases() if one in ("intended", "done")] == ["intended", "done"]
    assert len(site.cluster.sent) == 1


@pytest.mark.parametrize("how", ["engine", "policy", "observe"])
def test_a_dry_run_changes_nothing_and_is_told_once(how):
    made = policy("observe" if how == "observe" else "act", schedulers={"fake": {"dry_run": how == "policy"}})
    site = Site(made, dry_run=how == "engine")
    told = site.turn(W["case"]())
    assert phases(told) == ["observed"] and told[0]["dry_run"] and told[0]["after"] == {"drain": OURS}
    assert phases(site.turn(W["case"]())) == []
    assert not site.cluster.sent


def test_guards_that_hold_an_act_back_are_told_once_for_each_change():
    site = Site()
    weak = W["case"](seen_count=1)
    told = site.turn(weak)
    assert phases(told) == ["held"] and [one["guard"] for one in told[0]["why"]] == ["evidence"]
    assert site.turn(weak) == []
    told = site.turn(replace(weak, share=0.01))
    assert {one["guard"] for one in told[0]["why"]} >= {"evidence", "hysteresis"}


@pytest.mark.parametrize(("fault", "result"), [("crash before", "nothing"), ("crash after", "done")])
def test_a_crash_between_intent_and_result_is_cleared_up(fault, result):
    site = Site()
    site.fake.faults = [fault]
    with pytest.raises(W["Crash"]):
        site.turn(W["case"]())
    assert site.phases() == ["intended"]
    again = Site(lines=site.lines, desk=site.desk, cluster=site.cluster, clock=site.clock)
    told = again.turn(W["case"]())
    assert told[0]["phase"] == "recovered" and told[0]["result"] == result
    assert len(site.cluster.sent) == (result == "done")
    for _ in range(30):
        again.turn(W["case"]())
    assert len(site.cluster.sent) == 1 and site.cluster.nodes["n3"]["drain"] == OURS


def test_a_crash_within_an_undo_is_cleared_up():
    for fault, stands in (("crash before", True), ("crash after", False)):
        site = Site()
        site.turn(W["case"]())
        site.fake.faults = [fault]
        with pytest.raises(W["Crash"]):
            site.turn(W["case"](healthy=True), after_s=700)
        again = Site(lines=site.lines, desk=site.desk, cluster=site.cluster, clock=site.clock)
        told = again.turn(W["case"](healthy=True))
        assert told[0]["phase"] == "recovered" and told[0]["result"] == ("done" if stands else "nothing")
        assert site.cluster.nodes["n3"]["drain"] == "" and bool(again.audit.records())
        assert not again.engine.book.ledger.standing


def test_an_answer_that_was_lost_does_not_make_a_second_act():
    site = Site()
    site.fake.faults = ["answer lost"]
    told = site.turn(W["case"]())
    assert phases(told) == ["intended", "done"] and "it stands" in told[1]["detail"]


@pytest.mark.parametrize("fault", ["fails", "breaks"])
def test_a_failure_is_told_and_tried_again_later(fault):
    site = Site()
    site.fake.faults = [fault] * 3
    told = site.turn(W["case"]())
    assert phases(told)[:2] == ["intended", "failed"] and not site.cluster.sent
    for _ in range(25):
        site.turn(W["case"]())
    assert len(site.cluster.sent) == 1


def test_one_failure_is_tried_again_at_once():
    site = Site()
    site.fake.faults = ["fails", "breaks"]
    told = site.turn(W["case"]())
    assert phases(told) == ["intended", "done"] and len(site.cluster.sent) == 1


def test_where_nobody_can_see_what_came_of_an_act_the_next_turn_looks():
    site = Site()
    site.fake.faults = ["away"]
    assert phases(site.turn(W["case"]())) == ["intended"]
    site.cluster.away = False
    told = site.turn(W["case"]())
    assert phases(told)[:1] == ["recovered"] and told[0]["result"] == "done" and len(site.cluster.sent) == 1


def test_what_cannot_be_seen_is_taken_as_done_rather_than_done_twice():
    site = Site()
    site.fake.faults = ["crash before"]
    with pytest.raises(W["Crash"]):
        site.turn(W["case"]())
    again = Site(lines=site.lines, desk=site.desk, cluster=site.cluster, clock=site.clock)
    again.fake.__class__ = Blind
    told = again.turn(W["case"]())
    assert told[0]["phase"] == "recovered" and told[0]["result"] == "done" and "nobody can see" in told[0]["detail"]


class Blind(Fake):
    """A scheduler that does not show what stands."""

    def holds(self, record, fleet):
        return None


def test_a_wait_is_no_failure_and_the_same_act_is_tried_again():
    site = Site()
    site.fake.faults = ["waits"]
    first = site.turn(W["case"]())
    assert phases(first)[:2] == ["intended", "waiting"]
    assert "intended" not in phases(site.turn(W["case"]()))
    told = site.turn(W["case"]())
    assert phases(told)[:2] == ["intended", "done"] and told[0]["act"] == first[0]["act"]


def test_an_act_that_waits_ends_with_its_incident():
    site = Site()
    site.fake.faults = ["waits"]
    site.turn(W["case"]())
    told = site.turn(W["case"](healthy=True))
    assert phases(told) == ["failed"] and "over" in told[0]["detail"]


def test_a_node_comes_back_when_the_trouble_is_over():
    site = Site()
    before = {name: dict(told) for name, told in site.cluster.nodes.items()}
    site.turn(W["case"]())
    assert site.turn(W["case"](healthy=True)) == []  # it holds for a while
    told = site.turn(W["case"](healthy=True), after_s=700)
    assert phases(told) == ["undoing", "undone"] and told[1]["of"] == site.audit.records()[0]["act"]
    assert {name: {k: v for k, v in one.items() if v} for name, one in site.cluster.nodes.items()} == before


def test_what_somebody_else_took_over_is_not_undone():
    site = Site()
    site.turn(W["case"]())
    site.cluster.nodes["n3"]["drain"] = "NHC: bad fan"
    told = site.turn(W["case"](healthy=True), after_s=700)
    assert phases(told) == ["undone"] and told[0]["actor"] == "somebody else" and told[0]["result"] == "nothing"
    assert site.cluster.nodes["n3"]["drain"] == "NHC: bad fan"


def test_a_mark_that_the_scheduler_lost_is_set_again_a_few_times():
    site = Site(policy(ladder={"start": "note", "verbs": ["note"]}))
    site.turn(W["case"]())
    for _ in range(3):
        site.cluster.nodes["n3"].clear()
        assert phases(site.turn(W["case"](), after_s=61)) == ["reapplied", "reapplied"]
        assert site.cluster.nodes["n3"]["note"] == OURS
    site.cluster.nodes["n3"].clear()
    assert phases(site.turn(W["case"](), after_s=61))[0] == "undone"


def retested(result):
    return lambda text, node, since_ns: Came(result, text)


def test_a_node_returns_only_after_a_passed_test():
    site = Site(policy(retest={"required": True}), judge=retested("pass"))
    site.fake.tests["n3"] = "1.00 of its peers"
    site.turn(W["case"]())
    site.cluster.jobs.clear()
    site.turn(W["case"](healthy=True))
    told = site.turn(W["case"](healthy=True), after_s=700)
    assert phases(told) == ["testing", "tested"] and told[1]["result"] == "pass"
    assert phases(site.turn(W["case"](healthy=True))) == ["undoing", "undone"]


def test_a_node_that_fails_its_tests_stays_and_a_person_is_called():
    ladder = {"start": "drain", "verbs": ["drain", "ticket"]}
    site = Site(policy(retest={"required": True}, ladder=ladder), judge=retested("fail"))
    site.fake.tests["n3"] = "0.80 of its peers"
    site.turn(W["case"]())
    site.cluster.jobs.clear()
    for _ in range(8):
        site.turn(W["case"](healthy=True), after_s=3700)
    tests = [one for one in site.audit.records() if one["phase"] == "tested"]
    assert [one["result"] for one in tests] == ["fail"] * 3
    assert site.cluster.nodes["n3"]["ticket"] and site.cluster.nodes["n3"]["drain"] == OURS


def test_only_who_holds_the_lease_acts_and_the_other_follows():
    first = Site()
    second = Site(lines=first.lines, desk=first.desk, owner="b", cluster=first.cluster, clock=first.clock)
    first.turn(W["case"]())
    assert second.turn(W["case"]()) == [] and not second.engine.held.mine
    first.desk.gone = True
    told = second.turn(W["case"]())
    assert told[0]["phase"] == "lease" and "a is gone" in told[0]["detail"]
    assert len(first.cluster.sent) == 1


def test_the_kill_switch_stops_acts_and_returns(tmp_path):
    switch = tmp_path / "stop"
    site = Site(policy(calendar={"stop_file": str(switch)}))
    switch.touch()
    told = site.turn(W["case"]())
    assert phases(told) == ["held"] and not site.cluster.sent
    switch.unlink()
    site.turn(W["case"]())
    assert len(site.cluster.sent) == 1
    switch.touch()
    assert site.turn(W["case"](healthy=True), after_s=700) == []


def test_a_scheduler_that_is_away_is_told_and_nothing_is_done():
    site = Site()
    site.cluster.away = True
    assert site.turn(W["case"]()) == [] and "does not answer" in site.engine.hands["fake"].trouble
    site.cluster.away = False
    assert phases(site.turn(W["case"]())) == ["intended", "done"] and site.engine.hands["fake"].trouble == ""


def test_without_an_audit_nothing_is_done():
    class Full(MemoryLines):
        def write(self, line, offset):
            raise OSError(28, "No space left on device")

    site = Site(lines=Full())
    with pytest.raises(AuditError):
        site.turn(W["case"]())
    assert not site.cluster.sent


def test_the_breaker_is_written_down_and_stays_open():
    site = Site(policy(breaker={"acts": 1}))
    site.turn(W["case"]())
    assert site.phases() == ["intended", "done", "breaker"]
    site.turn(W["case"](), W["case"]("n6", incident="beef"), after_s=80_000)
    assert len(site.cluster.sent) == 1
    told = site.turn(W["case"](healthy=True), after_s=700)
    assert "undone" in phases(told), "a breaker never keeps a node from returning"


def test_a_gain_is_measured_against_its_promise_and_changes_the_trust():
    site = Site()
    for _ in range(5):
        site.turn(steps={"train": 2.0})
    site.turn(W["case"](), steps={"train": 2.0})
    assert site.audit.records()[0]["predicted"]["step_s"] == 2.0
    for _ in range(3):
        assert site.turn(W["case"](), steps={"train": 2.0}) == []  # it still runs there
    site.cluster.jobs["train"] = ("n2", "n5")
    for _ in range(8):
        site.turn(W["case"](healthy=True), steps={"train": 1.4})
    (proved,) = [one for one in site.audit.records() if one["phase"] == "proved"]
    assert proved["result"] == "realised" and proved["of"] == site.audit.records()[0]["act"]
    assert proved["observed"]["step_share"] == pytest.approx(0.3)
    assert proved["observed"]["of_predicted"] == pytest.approx(0.75)
    assert site.engine.trust.of("gpu-thermal") == pytest.approx((4 * 0.8 + 0.75) / 5)
