"""A scheduler in memory: nodes with fields that we or others set, answers that get lost, crashes at bad moments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from skewscope.acting.audit import Audit
from skewscope.acting.lease import Held
from skewscope.acting.lines import MemoryLines
from skewscope.acting.pace import Pace
from skewscope.acts import OWNER, Command, Fleet, JobState, NodeState, Outcome, Request, Step
from skewscope.errors import SkewscopeError
from skewscope.policy.cases import Around, Case

SECOND_NS = 10**9
WINDOW_NS = 30 * SECOND_NS
START_NS = 1_750_000_000 * SECOND_NS
FIELDS = {"note": "note", "avoid": "avoid", "exclude": "exclude", "drain": "drain", "quarantine": "quarantine",
          "ticket": "ticket"}  # fmt: skip
FENCED = ("drain", "quarantine", "exclude")


class Crash(BaseException):
    """The process dies here."""


@dataclass
class Cluster:
    """What a scheduler holds: for each node its fields (reason texts) and rack, the jobs; `sent` tells all writes."""

    nodes: dict[str, dict[str, str]]
    racks: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    away: bool = False
    sent: list[tuple[str, str, str, str]] = field(default_factory=list)  # act, field, before, after

    @classmethod
    def of(cls, count: int, jobs: Mapping[str, tuple[str, ...]] | None = None) -> Cluster:
        names = [f"n{number}" for number in range(count)]
        return cls(
            {name: {} for name in names}, {name: f"r{at // 4}" for at, name in enumerate(names)}, dict(jobs or {})
        )

    def owner(self, node: str) -> str:
        for name in FENCED:
            if text := self.nodes[node].get(name, ""):
                return OWNER if text.startswith(f"{OWNER}:") else text
        return ""

    def out(self) -> list[str]:
        return [node for node in self.nodes if self.owner(node)]


@dataclass
class Fake:
    """The actuator of a cluster. `faults` holds what happens at the next writes, in order; "" is nothing."""

    cluster: Cluster
    name: ClassVar[str] = "fake"
    verbs: ClassVar[tuple[str, ...]] = tuple(FIELDS)
    faults: list[str] = field(default_factory=list)
    now_ns: Callable[[], int] = lambda: -1
    seen: Callable[[Command], None] = lambda command: None  # called right before a write
    tests: dict[str, str] = field(default_factory=dict)

    def look(self) -> Fleet:
        if self.cluster.away:
            raise SkewscopeError("the scheduler does not answer")
        nodes = {name: self._node(name) for name in self.cluster.nodes}
        jobs = {job: JobState(job, job, nodes=nodes, wants_nodes=len(nodes), may_restart=True)
                for job, nodes in self.cluster.jobs.items()}  # fmt: skip
        return Fleet(self.name, nodes, jobs, self.now_ns())

    def _node(self, name: str) -> NodeState:
        owner = self.cluster.owner(name)
        jobs = tuple(job for job, nodes in self.cluster.jobs.items() if name in nodes)
        reason = next(
            (self.cluster.nodes[name].get(one, "") for one in FENCED if self.cluster.nodes[name].get(one)), ""
        )
        return NodeState(
            name, not owner, owner, reason, not jobs, jobs, ("batch",), self.cluster.racks.get(name, ""),
            native=dict(self.cluster.nodes[name]),
        )  # fmt: skip

    def command(self, request: Request, fleet: Fleet) -> Command:
        if request.target not in fleet.nodes:
            return Command(request, self.name, refused=f"there is no node {request.target!r}")
        name, node = FIELDS[request.verb], fleet.nodes[request.target]
        before = node.native.get(name, "")
        told = {"before": {name: before}, "after": {name: request.reason}, "undo": {"field": name, "was": before}}
        if node.owner not in ("", OWNER) or (before and not before.startswith(f"{OWNER}:")):
            return Command(request, self.name, refused=f"{request.target} belongs to somebody else", **told)
        step = Step("http", ("PUT", f"/nodes/{request.target}/{name}"), request.reason)
        return Command(request, self.name, (step,), nothing=before == request.reason, **told)

    def apply(self, command: Command, *, dry_run: bool = True) -> Outcome:
        if dry_run:
            return Outcome("done", "it would be")
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "crash before":
            raise Crash
        if fault == "fails":
            return Outcome("failed", "the scheduler is busy")
        if fault == "breaks":
            raise ValueError("a bug of the actuator")
        if fault == "waits":
            return Outcome("waiting", "a budget says wait", 60.0)
        return self._written(command, fault)

    def _written(self, command: Command, fault: str) -> Outcome:
        node = self.cluster.nodes[command.request.target]
        ((name, before),), after = command.before.items(), next(iter(command.after.values()))
        if node.get(name, "") == after:
            return Outcome("nothing")
        taken = command.undo and self.cluster.owner(command.request.target) not in ("", OWNER)
        if node.get(name, "") != before or taken:
            return Outcome("conflict", "it changed meanwhile")
        self.seen(command)
        self.cluster.sent.append((command.request.act, name, before, after))
        node[name] = after
        if fault == "crash after":
            raise Crash
        if fault == "away":
            self.cluster.away = True
            return Outcome("failed", "no answer")
        return Outcome("failed", "timed out") if fault == "answer lost" else Outcome("done")

    def undo(self, record: Mapping[str, Any], fleet: Fleet) -> Command:
        request = Request(record["act"], record["verb"], record["target"], record["incident"], "")
        if record["target"] not in fleet.nodes:
            return Command(request, self.name, refused="the node is gone")
        name, was = record["undo"]["field"], record["undo"]["was"]
        now = fleet.nodes[record["target"]].native.get(name, "")
        told = {"before": {name: now}, "after": {name: was}}
        if now in (was, ""):
            return Command(request, self.name, nothing=True, **told)
        if now != record["reason"]:
            return Command(request, self.name, refused="it is not ours any more", **told)
        return Command(request, self.name, (Step("http", ("PUT", f"/nodes/{record['target']}/{name}"), was),), **told)

    def holds(self, record: Mapping[str, Any], fleet: Fleet) -> bool | None:
        node = fleet.nodes.get(record["target"])
        return None if node is None else node.native.get(FIELDS[record["verb"]], "") == record["reason"]

    def test(self, record: Mapping[str, Any], words: tuple[str, ...], timeout_s: float) -> str:
        return self.tests[record["target"]]


@dataclass
class Desk:
    """A lease in memory for several instances: `holder` has it."""

    holder: str = ""
    gone: bool = False


@dataclass
class MemoryLease:
    """One instance's hand on a desk."""

    desk: Desk
    owner: str = "a"

    def take(self) -> Held:
        before, gone = self.desk.holder, self.desk.gone
        if before not in ("", self.owner) and not gone:
            return Held(False, before)
        self.desk.holder, self.desk.gone = self.owner, False
        return Held(True, self.owner, before if before not in ("", self.owner) else "")

    def working(self):
        from contextlib import nullcontext

        return nullcontext()

    def release(self) -> None:
        self.desk.holder = ""


@dataclass
class Clock:
    """A clock that a test moves."""

    now_ns: int = START_NS

    def __call__(self) -> int:
        return self.now_ns

    def on(self, seconds: float) -> int:
        self.now_ns += int(seconds * SECOND_NS)
        return self.now_ns


def free_pace() -> Pace:
    return Pace(1e9, clock_s=lambda: 0.0, sleep=lambda _: None)


def audit(clock: Clock, lines: MemoryLines | None = None) -> Audit:
    return Audit(lines or MemoryLines(), clock)


def case(node: str = "n3", now_ns: int = START_NS, incident: str = "c0ffee", **changed: Any) -> Case:
    """Return a case that is well known and dear."""
    told: dict[str, Any] = {
        "condition": "gpu-thermal", "subject": node, "job": "train", "ranks": 64, "severity": "S2", "confidence": 0.99,
        "share": 0.4, "lost_gpus": 25.0, "opened_ns": now_ns - 3600 * SECOND_NS, "seen_ns": now_ns, "seen_count": 5,
        "of_count": 5, "steps": 500, "peers": 63, "summary": f"{node} is slow", "rack": "",
    }  # fmt: skip
    return Case(incident, node=node, **{**told, **changed})


def around(now_ns: int = START_NS, **changed: Any) -> Around:
    return Around(now_ns, **changed)
