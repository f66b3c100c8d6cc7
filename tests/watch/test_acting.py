"""A fault that the watch sees is acted on: from windows to a drained node, its metrics and its document."""

from __future__ import annotations

import json
import time
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import jsonschema
import pytest

from skewscope.acting.engine import Engine, Extras
from skewscope.acting.lines import MemoryLines
from skewscope.errors import UsageError
from skewscope.policy.settings import Policy
from skewscope.reports.json_schema import schema
from skewscope.watch.acting import Acting, ActOptions, engine_of
from skewscope.watch.openapi import document

W = SimpleNamespace(**run_path(str(Path(__file__).with_name("_watched.py"))))
A = SimpleNamespace(**run_path(str(Path(__file__).parents[1] / "acting" / "_world.py")))
HOT = "gpu-hw-slowdown"
POLICY = {
    "mode": "act", "schedulers": {"fake": {"dry_run": False}}, "ladder": {"start": "drain", "verbs": ["drain"]},
    "capacity": {"spare_nodes": 0}, "retest": {"required": False}, "evidence": {"steps": 1},
    "hysteresis": {"enter_ratio": 1.02, "leave_ratio": 1.01},
}  # fmt: skip


class Inline(Acting):
    """Does its turns at once."""

    def tell(self, cases, around, steps):
        self.turn(cases, around, steps)


class Site:
    """A watched job, a scheduler that knows its nodes, an engine between them."""

    def __init__(self, policy=None, lines=None, first=-6, last=8, **changed):
        self.windows = W.told(HOT, first, last)
        names = sorted({str(name) for one in self.windows for name in one.tables["windows"]["node"].unique() if name})
        self.cluster = A.Cluster({name: {} for name in names}, {}, {"job": tuple(names)})
        self.fake = A.Fake(self.cluster)
        self.watched = W.Watched([], only=(HOT,), **changed)
        self.fake.now_ns = self.watched.clock_ns
        self.audit = A.audit(self.watched.clock_ns, lines)
        engine = Engine(
            policy or Policy.parse(POLICY), {"fake": self.fake}, self.audit, A.MemoryLease(A.Desk()),
            Extras(dry_run=False, pace=A.free_pace()),
        )  # fmt: skip
        self.acting = self.watched.service.plan.acting = Inline(engine, clock_ns=self.watched.clock_ns)

    def run(self):
        self.watched.turn(*self.windows)
        return self

    def phases(self):
        return [one["phase"] for one in self.audit.records()]


@pytest.fixture(scope="module")
def site():
    return Site().run()


def test_a_hot_gpu_s_node_is_drained_and_the_act_says_why(site):
    assert site.phases()[-2:] == ["intended", "done"]
    done = site.audit.records()[-1]
    (incident,) = [one for one in site.watched.snapshots[-1].incidents if one["condition"] == HOT]
    assert done["incident"] == incident["id"] and done["target"] == incident["subject"]["node"]
    assert site.cluster.out() == [done["target"]] and done["finding"] == HOT
    evidence = done["evidence"]
    assert 4 <= evidence["seen_count"] <= evidence["of_count"] <= 5 and evidence["steps"] > 0
    assert evidence["peers"] == 15 and evidence["confidence"] > 0.8


def test_evidence_is_gathered_window_by_window_before_anything_is_done(site):
    held = [one for one in site.audit.records() if one["phase"] == "held"]
    assert held and "evidence" in {said["guard"] for said in held[0]["why"]}


def test_records_and_document_are_as_described(site):
    check = jsonschema.Draft202012Validator(schema("action"))
    for record in site.audit.records():
        check.validate(json.loads(json.dumps(record)))
    described = document()
    acts = {"components": described["components"], **described["components"]["schemas"]["Acts"]}
    jsonschema.Draft202012Validator(acts).validate(json.loads(json.dumps(site.acting.account.document)))
    assert site.acting.account.document["head"] == site.audit.head


def test_metrics_tell_of_the_budget_the_fence_and_the_turn(site):
    text = site.watched.metrics
    node = site.cluster.out()[0]
    for line in ('skewscope_act_records_total{phase="done",scheduler="fake",verb="drain"} 1.0',
                 'skewscope_act_budget_used_ratio{budget="at_once",scheduler="fake"} 1.0',
                 f'skewscope_act_fenced_seconds{{node="{node}",scheduler="fake",verb="drain"}}',
                 "skewscope_act_breaker_open 0.0", "skewscope_act_leader 1.0", "skewscope_act_working 1.0",
                 'skewscope_act_scheduler_up{scheduler="fake"} 1.0'):  # fmt: skip
        assert line in text, line
    (turned,) = [one for one in text.splitlines() if one.startswith("skewscope_act_last_turn_timestamp_seconds ")]
    assert float(turned.split()[1]) == pytest.approx(site.watched.clock_ns() / 1e9)


def test_a_window_that_cannot_be_analysed_is_no_ground_to_act():
    site = Site()
    site.watched.service._look = None  # as a fault would
    site.run()
    assert site.phases() == [] and not site.cluster.sent


def test_who_does_not_tell_is_not_acted_on():
    site = Site(first=2, last=7)
    site.watched.turn(*(W.without(one, *sorted(site.cluster.nodes)[1:2]) for one in site.windows))
    assert not site.cluster.sent
    told = {said["guard"] for one in site.audit.records() for said in one.get("why", ())}
    assert "quality" in told


def test_a_damaged_audit_stops_acting_and_the_watch_says_so():
    class Full(MemoryLines):
        def write(self, line, offset):
            raise OSError(28, "No space left on device")

    site = Site(lines=Full()).run()
    assert not site.cluster.sent
    assert any("No space left" in reason for reason in site.watched.ready)
    assert "skewscope_act_working 0.0" in site.watched.metrics


def test_turns_are_done_beside_the_watch_and_the_lease_is_given_back():
    site = Site()
    acting = Acting(site.acting._engine, clock_ns=site.watched.clock_ns)
    acting.start()
    acting.tell([A.case(node=next(iter(site.cluster.nodes)))], A.around(), {})
    until_s = time.monotonic() + 10
    while acting.account.turned_ns < 0 and time.monotonic() < until_s:
        time.sleep(0.01)
    acting.stop()
    assert acting.account.turned_ns >= 0 and acting._engine._lease.desk.holder == ""


def test_a_live_engine_is_made_from_files(tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text(f'[schedulers.file]\nfolder = "{tmp_path}"\nnodes = ["n[1-4]"]\n')
    engine = engine_of(ActOptions(("file",), tmp_path / "audit.jsonl", policy))
    assert list(engine.hands) == ["file"] and engine.policy.mode("file") == "observe"
    policy.write_text("[schedulers.file]\nfoldr = 'x'\n")
    with pytest.raises(UsageError, match="did you mean folder"):
        engine_of(ActOptions(("file",), tmp_path / "audit.jsonl", policy))
    policy.write_text("")
    with pytest.raises(UsageError, match="keeps leases"):
        engine_of(ActOptions(("file",), tmp_path / "audit.jsonl", policy, lease="file"))
    with pytest.raises(UsageError, match="no actuator is called"):
        engine_of(ActOptions(("slurmm",), tmp_path / "audit.jsonl"))
