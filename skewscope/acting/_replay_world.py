"""A cluster in simulated time: jobs are placed, slowed, restarted; nodes break, are drained by others, are mended.

It moves in turns. What others do (crashes, people who notice a broken node by themselves, maintenance) is of the week;
what we do comes through `Yard`. GPU-seconds are counted where they are lost: slowed, restarted, waiting.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..acts import FENCES
from ..simulate.week import SECOND_NS, Machine, Outage, Trouble, Week, Work

RESTART_S = 600.0
LOOK_S = 21_600.0  # after a ticket people look, mend what they find, and give the node back
WATCHDOG_S = 600.0  # a job that stands is restarted by its own watchdog
ACT, OWN, PEOPLE = "act", "own", "people"  # who restarted a job


@dataclass
class Spot:
    """One node: `marks` are ours by verb (note, drain, ticket), `foreign` why others took it."""

    machine: Machine
    marks: dict[str, str] = field(default_factory=dict)
    foreign: str = ""
    run: Run | None = None

    @property
    def is_fenced(self) -> bool:
        """Whether we took it out of service."""
        return any(verb in self.marks for verb in FENCES)

    @property
    def is_open(self) -> bool:
        """Whether new work may come."""
        return not (self.foreign or self.is_fenced)


@dataclass
class Run:
    """One job: `began_ns` is its last start, it makes steps from `ready_ns` on; `excluded` nodes by the reason."""

    work: Work
    state: str = "pending"
    nodes: tuple[str, ...] = ()
    began_ns: int = -1
    ready_ns: int = -1
    stood_ns: int = -1  # since when it stands, -1 it does not
    excluded: dict[str, str] = field(default_factory=dict)
    share: float = 0.0  # what it loses of a step now
    kind: str = ""  # of the trouble that costs most

    def since_checkpoint_s(self, now_ns: int) -> float:
        """Return the seconds of work that a restart would lose."""
        return max(0, now_ns - self.ready_ns) / SECOND_NS % self.work.checkpoint_s if self.ready_ns >= 0 else 0.0


@dataclass
class Losses:
    """GPU-seconds and node-seconds, and how often jobs restarted, by whom."""

    slowed: float = 0.0
    waiting: float = 0.0
    restarted: float = 0.0
    fenced_node_s: float = 0.0
    most_out: int = 0
    restarts: Counter[str] = field(default_factory=Counter)
    by_kind: dict[str, float] = field(
        default_factory=lambda: defaultdict(float)
    )  # of `slowed`: the truth about the trouble that cost most


class World:
    """The cluster at `now_ns`; `advance` moves it on."""

    def __init__(self, week: Week, restart_s: float = RESTART_S) -> None:
        """Begin with the week; nothing runs yet."""
        self.week, self.restart_s, self.now_ns = week, restart_s, week.start_ns
        self.spots = {one.name: Spot(one) for one in week.machines}
        self.runs = {one.id: Run(one) for one in week.works}
        self.losses = Losses()
        self._ends = {one.id: one.end_ns for one in week.troubles}
        self._known = {node for one in week.works for node in one.on}
        self._coming = list(reversed(week.troubles))  # the next one last
        self._here: list[Trouble] = []
        self._hit: dict[str, frozenset[str]] = {}  # shared trouble -> the jobs that it met
        self._called: dict[str, int] = {}  # node that people were told of -> when they will have looked
        self._drained: set[str] = set()  # troubles that people drained a node for
        self._waiting = sorted(self.runs.values(), key=lambda run: (run.work.start_ns, run.work.id), reverse=True)
        self._active: list[Run] = []

    @property
    def active(self) -> list[Run]:
        """The jobs that were submitted and are not over."""
        return self._active

    @property
    def live(self) -> list[Trouble]:
        """The troubles that are there, whether they hurt anybody or not."""
        return self._here

    def advance(self, to_ns: int) -> None:
        """Move to a time, the end of one turn: what happened in it is counted by the state at its end."""
        seconds, self.now_ns = (to_ns - self.now_ns) / SECOND_NS, to_ns
        self._outages()
        self._troubles()
        self._jobs()
        self._count(seconds)

    def hurts(self, trouble: Trouble) -> Iterator[Run]:
        """Yield the jobs that feel a trouble now, or seem to."""
        if trouble.job:
            own = self.runs.get(trouble.job)
            there = own and own.state == "running" and (not trouble.nodes or set(trouble.nodes) & set(own.nodes))
            return iter([own] if own and there else [])
        if trouble.kind == "shared":
            return (run for run in self._active if run.state == "running" and run.work.id in self._hit[trouble.id])
        runs = (self.spots[node].run for node in trouble.nodes)
        return iter({run.work.id: run for run in runs if run}.values())

    def sick(self, node: str) -> list[Trouble]:
        """Return what is truly wrong with a node now."""
        return [one for one in self._here if one.is_of_node and node in one.nodes]

    def call(self, node: str) -> None:
        """Tell people of a node: they will look after it."""
        if node in self.spots and node not in self._called:
            repair_s = max((one.repair_s for one in self.sick(node)), default=0.0) or LOOK_S
            self._called[node] = self.now_ns + int(repair_s * SECOND_NS)

    def restart(self, run: Run, by: str) -> None:
        """Start a job anew, on other nodes where its own may not be used: it loses the work since its checkpoint."""
        if run.state != "running":
            return
        lost_s = run.since_checkpoint_s(self.now_ns)
        self.losses.restarts[by] += 1
        self.losses.restarted += (self.restart_s + lost_s) * run.work.ranks
        self._release(run)
        run.state = "pending"
        self._place(run)

    def _outages(self) -> None:
        for one in self.week.outages:
            spot = self.spots.get(one.node)
            if spot is not None:
                self._outage(spot, one)

    def _outage(self, spot: Spot, outage: Outage) -> None:
        inside = outage.start_ns <= self.now_ns < outage.end_ns
        if inside and spot.is_open:
            spot.foreign = outage.why
        elif not inside and spot.foreign == outage.why:
            spot.foreign = ""

    def _troubles(self) -> None:
        while self._coming and self._coming[-1].onset_ns <= self.now_ns:
            self._begin(self._coming.pop())
        for one in self._here:
            self._mended(one)
        self._calls()
        over = [one for one in self._here if self._ends[one.id] <= self.now_ns]
        for one in over:
            self._here.remove(one)
            for node in one.nodes:
                if self.spots[node].foreign == _broken(one):
                    self.spots[node].foreign = ""

    def _begin(self, trouble: Trouble) -> None:
        self._here.append(trouble)
        if trouble.kind == "shared":
            met = {run.work.id for node in trouble.nodes if (run := self.spots[node].run)}
            self._hit[trouble.id] = frozenset(met)

    def _mended(self, trouble: Trouble) -> None:
        """Let people mend a node that we fenced, once no work is on it; or notice it by themselves in the end."""
        if trouble.kind not in ("slow", "hard"):
            return
        spot = self.spots[trouble.nodes[0]]
        if spot.is_fenced and spot.run is None:
            known_ns = self.now_ns + int(trouble.repair_s * SECOND_NS)
            self._ends[trouble.id] = min(self._ends[trouble.id], known_ns)
        elif 0 <= trouble.noticed_ns <= self.now_ns and trouble.id not in self._drained and not spot.foreign:
            self._drained.add(trouble.id)
            spot.foreign = _broken(trouble)
            if spot.run is not None:
                self.restart(spot.run, PEOPLE)

    def _calls(self) -> None:
        """Let people answer tickets: they mend the node and take back what we did to it."""
        for name, spot in self.spots.items():
            if "ticket" in spot.marks:
                self.call(name)
        for name in [name for name, due_ns in self._called.items() if due_ns <= self.now_ns]:
            del self._called[name]
            self._looked_after(name, self.spots[name])

    def _looked_after(self, name: str, spot: Spot) -> None:
        """Let people mend a node, whose job begins anew elsewhere, and take back what we did to it."""
        sick = self.sick(name)
        if sick and spot.run is not None:
            spot.foreign = _broken(sick[0])
            self.restart(spot.run, PEOPLE)
        self._ends.update({one.id: self.now_ns for one in sick})
        for verb in (*FENCES, "ticket"):
            spot.marks.pop(verb, None)

    def _jobs(self) -> None:
        while self._waiting and self._waiting[-1].work.start_ns <= self.now_ns:
            self._active.append(self._waiting.pop())
        for run in list(self._active):
            if run.work.end_ns <= self.now_ns:
                self._release(run)
                run.state = "over"
                self._active.remove(run)
            elif run.state == "pending":
                self._place(run)
        for run in self._active:
            run.share = 0.0
        for trouble in self._here:
            share = trouble.share_at(self.now_ns)
            for run in self.hurts(trouble):
                if share > run.share:
                    run.share, run.kind = share, trouble.kind
        for run in self._active:
            self._watched(run)

    def _watched(self, run: Run) -> None:
        """Restart a job that stands for long, or that crashes by itself in this turn."""
        stands = run.state == "running" and run.share >= 1.0
        run.stood_ns = (run.stood_ns if run.stood_ns >= 0 else self.now_ns) if stands else -1
        hung = stands and self.now_ns - run.stood_ns >= WATCHDOG_S * SECOND_NS
        crashed = any(run.began_ns < time_ns <= self.now_ns for time_ns in run.work.restarts_ns)
        if hung or crashed:
            self.restart(run, OWN)

    def _place(self, run: Run) -> None:
        """Give a job nodes, those that we said to avoid last; it waits where there are too few."""
        free = [spot for spot in self.spots.values()
                if spot.is_open and spot.run is None and spot.machine.name not in run.excluded]  # fmt: skip
        if len(free) < run.work.nodes:
            return
        first = run.began_ns < 0
        own = run.work.on if first else ()
        free.sort(key=lambda spot: (*self._known_place(spot.machine.name, own), "avoid" in spot.marks))
        chosen = free[: run.work.nodes]
        for spot in chosen:
            spot.run = run
        run.nodes, run.state, run.stood_ns = tuple(spot.machine.name for spot in chosen), "running", -1
        run.began_ns = self.now_ns
        run.ready_ns = self.now_ns if first else self.now_ns + int(self.restart_s * SECOND_NS)

    def _known_place(self, node: str, own: tuple[str, ...]) -> tuple[bool, bool]:
        """Return what sorts nodes: those that a job is known to have run on first, those of others last."""
        return node not in own, node in self._known and node not in own

    def _release(self, run: Run) -> None:
        for node in run.nodes:
            if self.spots[node].run is run:
                self.spots[node].run = None
        run.nodes = ()

    def _count(self, seconds: float) -> None:
        for run in self._active:
            if run.state == "pending":
                self.losses.waiting += run.work.ranks * seconds
            elif self.now_ns >= run.ready_ns:
                self.losses.slowed += run.share * run.work.ranks * seconds
                self.losses.by_kind[run.kind] += run.share * run.work.ranks * seconds
        fenced = sum(spot.is_fenced for spot in self.spots.values())
        self.losses.fenced_node_s += fenced * seconds
        self.losses.most_out = max(self.losses.most_out, fenced)


def _broken(trouble: Trouble) -> str:
    return f"broken: {trouble.condition}"
