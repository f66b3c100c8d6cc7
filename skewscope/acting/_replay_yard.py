"""The scheduler of a replay: the contract of an actuator over a simulated cluster, tests of speed too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, ClassVar

from ..acts import OWNER, Command, Fleet, JobState, NodeState, Outcome, Request, Step
from ..catalogue import room, rooms
from ..errors import SkewscopeError
from ..retest.document import Measure, Result, line
from ..simulate.week import Trouble
from ._replay_world import ACT, Run, Spot, World

Record = Mapping[str, Any]
SIMULATED = ("note", "avoid", "exclude", "drain", "quarantine", "ticket", "requeue")
MARKS = ("note", "avoid", "exclude", "drain", "quarantine", "ticket")
LINKS = ("pcie-link-degraded", "nvlink-error-rate", "nic-phy-degraded", "nic-link-down")
ROUNDS = 9


@dataclass(frozen=True)
class Manner:
    """How a scheduler does things.

    `evicts`: drain can move work away; `excludes_running`: a job that runs takes an exclusion, for its next start;
    `excludes_everybody`: a node that is excluded takes no work of anybody.
    """

    evicts: bool = True
    excludes_running: bool = True
    excludes_everybody: bool = False


MANNERS = {
    "slurm": Manner(evicts=False, excludes_running=False),
    "kubernetes": Manner(excludes_everybody=True),
}


def verbs_of(scheduler: str) -> tuple[str, ...]:
    """Return the verbs that are simulated and that the actuator of this name has; all for a name that is none.

    >>> "ticket" in verbs_of("slurm"), "ticket" in verbs_of("a-scheduler-of-ours")
    (False, True)
    """
    if scheduler not in {one.id for one in rooms("actuators")}:
        return SIMULATED
    known = room("actuators", scheduler).kind().verbs
    return tuple(verb for verb in SIMULATED if verb in known)


@dataclass
class Yard:
    """An actuator of a `World` that behaves as the `scheduler` of this name does."""

    world: World
    scheduler: str
    verbs: tuple[str, ...] = SIMULATED
    manner: Manner = Manner()
    _known: dict[str, tuple[Any, NodeState]] = field(default_factory=dict)  # most nodes are as they were
    name: ClassVar[str] = "replay"

    @classmethod
    def of(cls, world: World, scheduler: str) -> Yard:
        """Return the one that is as the scheduler of a name is."""
        return cls(world, scheduler, verbs_of(scheduler), MANNERS.get(scheduler, Manner()))

    def look(self) -> Fleet:
        """Return the nodes and jobs of now."""
        nodes = {name: self._node(name, spot) for name, spot in self.world.spots.items()}
        jobs = {run.work.id: _job(run) for run in self.world.active}
        return Fleet(self.scheduler, nodes, jobs, self.world.now_ns)

    def _node(self, name: str, spot: Spot) -> NodeState:
        key = (spot.foreign, *spot.marks.items(), spot.run and spot.run.work.id)
        known = self._known.get(name)
        if known is None or known[0] != key:
            known = self._known[name] = (key, _node(spot))
        return known[1]

    def command(self, request: Request, fleet: Fleet) -> Command:
        """Return what would change; refused for a node that is not there or is somebody else's."""
        empty = Command(request, self.scheduler)
        if request.verb == "requeue":
            step = Step("run", ("requeue", request.job or request.target))
            return replace(empty, steps=(step,))
        node = fleet.nodes.get(request.target)
        if node is None:
            return replace(empty, refused=f"there is no node {request.target}")
        if request.verb in ("drain", "quarantine") and node.owner not in ("", OWNER):
            return replace(empty, refused=f"{request.target} is {node.owner}'s")
        of_job = request.verb == "exclude" and not self.manner.excludes_everybody
        return self._exclusion(request) if of_job else self._mark(request)

    def _mark(self, request: Request) -> Command:
        before = self.world.spots[request.target].marks.get(request.verb, "")
        told = {"verb": request.verb, "target": request.target, "before": before}
        return Command(
            request, self.scheduler, (Step("run", (request.verb, request.target)),), {request.verb: before},
            {request.verb: request.reason}, told, nothing=bool(before),
        )  # fmt: skip

    def _exclusion(self, request: Request) -> Command:
        run = self.world.runs.get(request.job)
        if run is None or run.state == "over":
            return Command(request, self.scheduler, refused=f"there is no job {request.job or 'named'}")
        if run.state == "running" and not (self.manner.excludes_running or request.params.get("requeue")):
            return Command(request, self.scheduler, refused=f"job {request.job} runs: an exclusion needs a requeue")
        before = sorted(run.excluded)
        told = {"verb": "exclude", "target": request.target, "job": request.job}
        return Command(
            request, self.scheduler, (Step("run", ("exclude", request.target, request.job)),), {"excluded": before},
            {"excluded": sorted({*before, request.target})}, told, nothing=request.target in run.excluded,
        )  # fmt: skip

    def apply(self, command: Command, *, dry_run: bool = True) -> Outcome:
        """Change the cluster."""
        request = command.request
        if dry_run:
            return Outcome("done")
        if command.undo.get("undo"):
            self._take_away(command.undo)
        elif request.verb == "requeue":
            self._restart(request.job or request.target)
        elif command.undo.get("job"):
            self.world.runs[request.job].excluded[request.target] = request.reason
        else:
            self.world.spots[request.target].marks[request.verb] = request.reason
        self._move(request)
        return Outcome("done")

    def _move(self, request: Request) -> None:
        """Start anew the job that has to leave, where that is asked for and can be."""
        run = self.world.spots[request.target].run if request.target in self.world.spots else None
        if request.params.get("requeue"):
            self._restart(request.job)
        elif self.manner.evicts and request.params.get("evict") and run is not None:
            self.world.restart(run, ACT)

    def _restart(self, job: str) -> None:
        run = self.world.runs.get(job)
        if run is not None:
            self.world.restart(run, ACT)

    def _take_away(self, told: Mapping[str, Any]) -> None:
        if told.get("job"):
            self.world.runs[told["job"]].excluded.pop(told["target"], None)
        else:
            self.world.spots[told["target"]].marks.pop(told["verb"], None)

    def undo(self, record: Record, fleet: Fleet) -> Command:
        """Return what takes an act back."""
        request = Request(record["act"], record["verb"], record["target"], record["incident"], "undo",
                          record.get("job") or "")  # fmt: skip
        told = dict(record.get("undo") or {})
        if not told:
            return Command(request, self.scheduler, refused="nothing of it can be taken back")
        step = Step("run", ("undo", request.verb, request.target))
        before, after = dict(record.get("before") or {}), dict(record.get("after") or {})
        return Command(request, self.scheduler, (step,), after, before, {**told, "undo": True},
                       nothing=not self.holds(record, fleet))  # fmt: skip

    def holds(self, record: Record, fleet: Fleet) -> bool | None:
        """Return whether an act stands."""
        verb, target = record["verb"], record["target"]
        if (record.get("undo") or {}).get("job"):
            run = self.world.runs.get(record.get("job") or "")
            return bool(run and run.state != "over" and target in run.excluded)
        return verb in self.world.spots[target].marks if verb in MARKS else None

    def test(self, record: Record, words: tuple[str, ...], timeout_s: float) -> str:
        """Return what a re-test of the node would write, by what is truly wrong with it, after that of three peers."""
        target = record["target"]
        if self.world.spots[target].run is not None:
            raise SkewscopeError(f"{target} is not idle")
        draw = Random(f"{target} {self.world.now_ns}")
        peers = [_measured(f"peer{at}", (), self.world.now_ns, draw) for at in range(6)]
        return "\n".join(
            line(one) for one in (*peers, _measured(target, self.world.sick(target), self.world.now_ns, draw))
        )


def _node(spot: Spot) -> NodeState:
    machine, run = spot.machine, spot.run
    owner = spot.foreign or (OWNER if spot.is_fenced or "avoid" in spot.marks or "note" in spot.marks else "")
    reason = spot.foreign or spot.marks.get("drain") or spot.marks.get("quarantine") or spot.marks.get("note", "")
    return NodeState(machine.name, spot.is_open, owner, reason, run is None, (run.work.id,) if run else (),
                     machine.groups, machine.rack)  # fmt: skip


def _job(run: Run) -> JobState:
    return JobState(run.work.id, run.work.name, run.work.user, run.state, run.nodes, run.work.nodes, True)


def _measured(node: str, sick: list[Trouble] | tuple[()], time_ns: int, draw: Random) -> Result:
    """Return the result of a node: what is wrong with its links slows those, all else its products."""
    own = draw.gauss(1.0, 0.008)
    measures = []
    for name, unit, speed in (("gemm", "flops", 7e14), ("pair", "bytes", 4e10)):
        slowed = [one.share for one in sick if (one.condition in LINKS) == (name == "pair")]
        true = speed * own * (1.0 - min(0.98, max(slowed, default=0.0)))
        values = tuple(true * draw.gauss(1.0, 0.01) for _ in range(ROUNDS))
        measures.append(Measure(name, unit, "gpu0", "replay", values))
    return Result(node, time_ns, "replay", "replay", tuple(measures))
