"""What a week of a cluster holds: machines, jobs, troubles with their truth, and what others take out of service."""

from __future__ import annotations

from dataclasses import dataclass

SECOND_NS = 10**9
HOUR_NS = 3600 * SECOND_NS
DAY_NS = 24 * HOUR_NS
START_NS = 1_767_571_200 * SECOND_NS  # a Monday, 0:00 UTC
KINDS = ("slow", "passing", "hard", "shared", "job", "false")


@dataclass(frozen=True)
class WeekPlan:
    """How large, how long, how often: `per_1000_node_days` by kind; jobs fill `filled` of the nodes."""

    nodes: int = 64
    days: float = 7.0
    gpus_per_node: int = 8
    nodes_per_rack: int = 8
    filled: float = 0.92
    slow: float = 6.0  # persistent: until somebody mends it
    passing: float = 20.0
    hard: float = 5.0
    false: float = 10.0
    drains: float = 10.0
    shared_per_week: float = 2.0
    job_share: float = 0.3  # of the jobs that are slow by their own work
    notice_s: float = 172_800.0  # median until people notice a slow node by themselves
    notice_hard_s: float = 2400.0  # the same of a broken one
    repair_s: float = 21_600.0  # median from the ticket to a sound node
    misled: float = 0.05  # of what is wrong with a node, another node of the job is blamed
    crash_days: float = 2.0  # mean time between restarts that a job makes anyway
    start_ns: int = START_NS

    @property
    def end_ns(self) -> int:
        """When it is over."""
        return self.start_ns + int(self.days * DAY_NS)


@dataclass(frozen=True)
class Machine:
    """One node."""

    name: str
    rack: str = ""
    groups: tuple[str, ...] = ("gpu",)


@dataclass(frozen=True)
class Work:
    """One job: it wants `nodes` from `start_ns` to `end_ns`; it restarts by itself at `restarts_ns`."""

    id: str
    name: str
    nodes: int
    ranks: int
    start_ns: int
    end_ns: int
    user: str = "train"
    step_s: float = 2.0
    checkpoint_s: float = 1800.0
    restarts_ns: tuple[int, ...] = ()
    on: tuple[str, ...] = ()  # nodes that it first runs on, where that is known


@dataclass(frozen=True)
class Trouble:
    """One thing that goes wrong, or only seems to: `kind` is the truth.

    "slow" a node until it is mended, "passing" by itself, "hard" broken: jobs on it stand; "shared" of a rack or the
    fabric: each of `nodes` looks bad and none is; "job" its own work; "false": nothing at all is wrong. `share` is what
    jobs lose of a step; `told` is what the findings say of it; `seen` the share of windows that show it. Whatever
    people do by themselves ends it at `end_ns`; once they know, they need `repair_s`. With a `job` only that one feels
    it.
    """

    id: str
    kind: str
    condition: str
    onset_ns: int
    end_ns: int
    share: float
    told: float
    nodes: tuple[str, ...] = ()
    rack: str = ""
    gpu: int = -1
    job: str = ""
    repair_s: float = 0.0
    confidence: float = 0.9
    seen: float = 1.0
    severity: str = "S2"
    is_misled: bool = False  # another node of the job is blamed
    noticed_ns: int = -1  # when people drain the node by themselves, -1 never
    levels: tuple[tuple[int, float], ...] = ()  # of a recorded one: from when (ns) which share; else it stays as it is

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.id}: no kind is called {self.kind!r}; there are {', '.join(KINDS)}")

    def share_at(self, time_ns: int) -> float:
        """Return what jobs lose of a step at a time.

        >>> Trouble("a", "slow", "x", 0, 9, 0.2, 0.2, levels=((0, 0.1), (5, 0.3))).share_at(6)
        0.3
        """
        return self._at(time_ns, self.share)

    def told_at(self, time_ns: int) -> float:
        """Return what the findings say of it at a time."""
        return self._at(time_ns, self.told)

    def _at(self, time_ns: int, steady: float) -> float:
        if not self.levels:
            return steady
        return next((share for since_ns, share in reversed(self.levels) if since_ns <= time_ns), 0.0)

    @property
    def is_of_node(self) -> bool:
        """Whether taking the node away is right."""
        return self.kind in ("slow", "passing", "hard")


@dataclass(frozen=True)
class Outage:
    """A node that somebody else drains for a time."""

    node: str
    start_ns: int
    end_ns: int
    why: str = "maintenance"


@dataclass(frozen=True)
class Week:
    """All of it, with the truth."""

    start_ns: int
    end_ns: int
    machines: tuple[Machine, ...]
    works: tuple[Work, ...]
    troubles: tuple[Trouble, ...]
    outages: tuple[Outage, ...] = ()
    about: str = ""
    is_known: bool = True  # whether the truth is: of a recorded week nobody knows it

    @property
    def counts(self) -> dict[str, int]:
        """How many troubles there are of each kind."""
        return {kind: sum(one.kind == kind for one in self.troubles) for kind in KINDS}
