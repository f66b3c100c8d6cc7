"""Random histories: incidents, people, other owners, failures, crashes, clocks that jump, two instances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from runpy import run_path
from typing import Any

from skewscope.acting.audit import Audit
from skewscope.acting.engine import Engine, Extras
from skewscope.acting.lines import MemoryLines
from skewscope.acting.retesting import Came
from skewscope.policy.cases import Case
from skewscope.policy.settings import Policy

W = run_path(str(Path(__file__).with_name("_world.py")))
Crash, SECOND_NS = W["Crash"], W["SECOND_NS"]
FOREIGN = ("NHC: bad fan", "ops: rack move", "skew: not ours")
FAULTS = ("fails", "breaks", "waits", "crash before", "crash after", "answer lost", "away")


def _policies() -> list[Policy]:
    made = []
    for mode in ("act", "act", "act", "approve"):
        for start, verbs in (("drain", ["drain"]), ("note", ["note", "avoid", "drain", "ticket"]),
                             ("avoid", ["avoid", "exclude", "quarantine"])):  # fmt: skip
            for at_once, day in ((1, 2), (2, 3)):
                made.append(Policy.parse({
                    "mode": mode, "schedulers": {"fake": {"dry_run": False}},
                    "ladder": {"start": start, "verbs": verbs, "step_s": 300.0}, "capacity": {"spare_nodes": 0},
                    "budget": {"nodes_at_once": at_once, "share_at_once": 0.5, "nodes_per_day": day,
                               "share_per_day": 0.5, "nodes_per_group": 8},
                    "retest": {"required": at_once == 1, "after_s": 60.0}, "reconcile": {"every_s": 60.0},
                    "cool_down": {"node_s": 7200.0, "job_s": 1800.0},
                    "breaker": {"acts": 3 if day == 2 else 2, "out_share": 0.4},
                }))  # fmt: skip
    return made


POLICIES = _policies()


class CrashingLines(MemoryLines):
    """Lines in whose writing the process may die: with half of the line there, or all of it."""

    fault = ""

    def write(self, line: bytes, offset: int) -> None:
        fault, self.fault = self.fault, ""
        super().write(line[: len(line) // 2] if fault == "torn" else line, offset)
        if fault:
            raise Crash


@dataclass
class Box:
    """A file of answers, read from its start by every new instance."""

    said: list[Mapping[str, Any]]
    at: int = 0

    def new(self) -> list[Mapping[str, Any]]:
        some, self.at = self.said[self.at :], len(self.said)
        return some


@dataclass(frozen=True)
class Write:
    """One change of the cluster by an engine, and what was so right before it."""

    act: str
    node: str
    field: str
    before: str
    after: str
    by: str
    holder: str
    owner: str
    lines: int  # of the audit
    now_ns: int
    stopped: bool
    out: frozenset[str]
    foreign: frozenset[str]
    jobs: Mapping[str, tuple[str, ...]]


@dataclass
class Story:
    """One history. `writes` is all that engines changed."""

    seed: int
    writes: list[Write] = field(default_factory=list)
    said: list[Mapping[str, Any]] = field(default_factory=list)
    incidents: dict[str, Case] = field(default_factory=dict)
    stopped: str = ""
    count: int = 0

    def __post_init__(self) -> None:
        self.pick = Random(self.seed)
        self.policy = self.pick.choice(POLICIES)
        self.clock, self.lines, self.desk = W["Clock"](), CrashingLines(), W["Desk"]()
        jobs = {"train": ("n0", "n1", "n2"), "tune": ("n4", "n5")}
        self.cluster = W["Cluster"].of(8, jobs)
        self.engines = {name: self._instance(name) for name in "ab"}
        self.person = Audit(self.lines, self.clock, actor="ada")

    def _instance(self, name: str) -> Engine:
        fake = W["Fake"](self.cluster, now_ns=self.clock, tests=dict.fromkeys(self.cluster.nodes, ""))
        fake.seen = lambda command: self._saw(name, command)
        result = Came("pass" if self.pick.random() < 0.8 else "fail", "")
        extras = Extras(False, Box(self.said), lambda *_: result, None, W["free_pace"]())
        audit = Audit(self.lines, self.clock, actor="skewscope")
        return Engine(self.policy, {"fake": fake}, audit, W["MemoryLease"](self.desk, name), extras)

    def _saw(self, by: str, command: Any) -> None:
        cluster, node = self.cluster, command.request.target
        ((name, before),) = command.before.items()
        out = cluster.out()
        foreign = [one for one in out if cluster.owner(one) != "skewscope"]
        self.writes.append(Write(
            command.request.act, node, name, before, command.after[name], by, self.desk.holder, cluster.owner(node),
            self.lines.data.count(b"\n"), self.clock.now_ns, bool(self.stopped), frozenset(out), frozenset(foreign),
            dict(cluster.jobs),
        ))  # fmt: skip

    def run(self, turns: int = 12) -> Story:
        for _ in range(turns):
            self._pass_time()
            self._happens()
            self._turn()
        return self._end()

    def _pass_time(self) -> None:
        chance = self.pick.random()
        if chance < 0.05:
            self.clock.on(-self.pick.choice((5, 600, 7200)))
        else:
            self.clock.on(self.pick.choice((30, 30, 30, 90, 400, 700, 3700, 90_000 if chance > 0.95 else 30)))

    def _happens(self) -> None:
        pick = self.pick
        if pick.random() < 0.45:
            self._new_incident()
        for name, case in list(self.incidents.items()):
            if pick.random() < 0.12:
                self.incidents[name] = replace(case, healthy=not case.healthy)
        if pick.random() < 0.15:
            node = pick.choice(list(self.cluster.nodes))
            self.cluster.nodes[node]["drain"] = pick.choice((*FOREIGN, "", ""))
        if pick.random() < 0.05:
            self.cluster.nodes[pick.choice(list(self.cluster.nodes))].clear()
        self.cluster.away = pick.random() < 0.04
        self.stopped = "a person" if pick.random() < 0.04 else ""
        if pick.random() < 0.1 and self.cluster.jobs:
            job = pick.choice(list(self.cluster.jobs))
            self.cluster.jobs[job] = tuple(pick.sample(list(self.cluster.nodes), 2))
        if pick.random() < 0.3:
            self._answers()
        if pick.random() < 0.1:
            self.person.append("breaker", result="closed", detail="looked at")

    def _new_incident(self) -> None:
        pick = self.pick
        self.count += 1
        name = f"i{self.count}"
        node = pick.choice(list(self.cluster.nodes))
        job = next((job for job, nodes in self.cluster.jobs.items() if node in nodes), "")
        weak = {"seen_count": 2} if pick.random() < 0.15 else {}
        self.incidents[name] = W["case"](node, self.clock.now_ns, name, job=job, **weak)

    def _answers(self) -> None:
        for one in [one for one in self.person.records() if one["phase"] == "proposed"][-2:]:
            self.count += 1
            decision = self.pick.choice(("approve", "approve", "approve", "reject", "snooze"))
            self.said.append({"act": one["act"], "decision": decision, "person": self.pick.choice(("ada", "bob")),
                              "key": f"k{self.count}", "reason": "so", "seconds": 600})  # fmt: skip

    def _turn(self) -> None:
        pick = self.pick
        name = pick.choice(list(self.engines))
        if pick.random() < 0.03:
            self.desk.gone = True  # the holder hangs; the other may take over
        engine = self.engines[name]
        if pick.random() < 0.25:
            engine.hands["fake"].actuator.faults[:] = [pick.choice(FAULTS)] * pick.choice((1, 1, 3))
        if pick.random() < 0.04:
            self.lines.fault = pick.choice(("torn", "whole"))
        self._one_turn(name)

    def _one_turn(self, name: str) -> None:
        engine = self.engines[name]
        now_ns = self.clock.now_ns
        cases = list(self.incidents.values())
        for case in cases:
            object.__setattr__(case, "seen_ns", now_ns)  # ten times as fast as `replace`
        try:
            engine.turn(cases, W["around"](now_ns, stopped=self.stopped))
        except Crash:
            self.desk.gone = self.desk.gone or self.desk.holder == name
            del self.engines[name]
            fresh = f"{name}{len(self.writes)}{now_ns % 997}"
            self.engines[fresh] = self._instance(fresh)
        self.lines.fault = ""

    def _end(self) -> Story:
        """Let a quiet day pass: everything is healthy, everybody answers, tests pass."""
        self.cluster.away, self.stopped = False, ""
        self.incidents = {name: replace(case, healthy=True) for name, case in self.incidents.items()}
        self.desk.gone, self.engines = True, {"z": self._instance("z")}
        self.engines["z"]._tests._judge = lambda *_: Came("pass", "")
        self.cluster.jobs.clear()
        latest = max((one["time_ns"] for one in self.engines["z"].book.audit.records()), default=0)
        self.clock.now_ns = max(self.clock.now_ns, latest)
        for seconds in (4000, 60, 4000, 60, 4000, 60):
            self.clock.on(seconds)
            self._one_turn("z")
        return self
