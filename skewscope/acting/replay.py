"""Plays a week again under a policy: what it would have done, what that would have saved, and what it would have cost.

The engine that acts on real schedulers runs here on a simulated one, in simulated time, with the same policy, audit and
tests of speed; only people are simulated too. The same week without anybody acting is the measure: what was lost to
slowness then and is not lost now is saved; restarts, waiting and lost work beyond it are the cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from ..policy.sections import DryRun
from ..policy.settings import Policy
from ..simulate.week import SECOND_NS, Week
from ._replay_cases import Watching
from ._replay_person import Habits, Person
from ._replay_world import RESTART_S, Losses, World
from ._replay_yard import Yard
from .audit import Audit, Record
from .engine import Engine, Extras
from .lease import Held
from .lines import MemoryLines
from .pace import Pace

TURN_S = 60.0
HOUR_S = 3600.0
STRONG = ("exclude", "drain", "quarantine", "requeue")
SCHEDULER = "slurm"


@dataclass(frozen=True)
class Deed:
    """One act that would have been done. `right`: the node was truly at fault then (None: nobody knows)."""

    time_ns: int
    act: str
    verb: str
    target: str
    job: str
    incident: str
    condition: str
    right: bool | None
    gain_gpu_hours: float
    cost_gpu_hours: float


@dataclass(frozen=True)
class Played:
    """What came of a week under one policy. Losses are GPU-hours; `counts` are phases of the audit."""

    name: str
    mode: str
    version: str
    losses: Losses
    deeds: tuple[Deed, ...] = ()
    counts: Counter[str] = field(default_factory=Counter)
    passed: int = 0
    failed: int = 0
    held: Counter[str] = field(default_factory=Counter)  # how often each guard spoke against an act
    told: Counter[str] = field(default_factory=Counter)  # verbs that were only told of
    audit: bytes = b""

    @property
    def slowed_gpu_hours(self) -> float:
        """What jobs lost to slowness and standing still."""
        return self.losses.slowed / HOUR_S

    @property
    def price_gpu_hours(self) -> float:
        """What jobs lost to restarts, work done twice, and waiting for nodes."""
        return (self.losses.restarted + self.losses.waiting) / HOUR_S

    def deeds_of(self, *verbs: str) -> list[Deed]:
        """Return the acts of some verbs."""
        return [one for one in self.deeds if one.verb in verbs]


@dataclass(frozen=True)
class Settings:
    """How a week is played: `scheduler` is the one that the policy is asked for, "" the first that it names."""

    turn_s: float = TURN_S
    scheduler: str = ""
    seed: int = 0
    restart_s: float = RESTART_S
    habits: Habits = field(default_factory=Habits)


class Alone:
    """A lease that nobody else wants."""

    def take(self) -> Held:
        """Return that we have it."""
        return Held(True, "replay")

    def working(self) -> Any:  # noqa: ANN401 - a context manager
        """Give the block."""
        return nullcontext()

    def release(self) -> None:
        """Do nothing."""


def nobody(week: Week, settings: Settings | None = None) -> Played:
    """Return what is lost where nobody acts but the people of the week by themselves."""
    settings = settings or Settings()
    world = World(week, settings.restart_s)
    for now_ns in turns(week, settings.turn_s):
        world.advance(now_ns)
    return Played("nobody acts", "-", "", world.losses)


def turns(week: Week, turn_s: float) -> Iterable[int]:
    """Return the ends of all turns."""
    step_ns = int(turn_s * SECOND_NS)
    return range(week.start_ns + step_ns, week.end_ns + 1, step_ns)


def play(
    name: str, policy: Policy, week: Week, settings: Settings | None = None,
    moved: Callable[[float], None] = lambda share: None,
) -> Played:  # fmt: skip
    """Return what a policy would have done in a week; `moved` is told the share that is over.

    The days of dry run that a policy begins with are left out: a replay asks what comes after them.
    """
    settings = settings or Settings()
    scheduler = settings.scheduler or next(iter(policy.schedulers), SCHEDULER)
    policy = awake(policy, scheduler)
    world = World(week, settings.restart_s)
    watching, person = Watching(world, settings.seed), Person(world, settings.habits, settings.seed)
    extras = Extras(dry_run=False, answers=person, pace=Pace(1e9))
    lines = MemoryLines()
    audit = Audit(lines, lambda: world.now_ns)
    yard: Any = Yard.of(world, scheduler)
    engine = Engine(policy, {scheduler: yard}, audit, Alone(), extras)
    deeds: list[Deed] = []
    for number, now_ns in enumerate(turns(week, settings.turn_s)):
        world.advance(now_ns)
        deeds += _turn(engine, watching, person)
        if number % 500 == 0:
            moved((now_ns - week.start_ns) / (week.end_ns - week.start_ns))
    found = Found(tuple(deeds), tuple(audit.records()), bytes(lines.data))
    return _played(name, policy, scheduler, world.losses, found)


def awake(policy: Policy, scheduler: str) -> Policy:
    """Return a policy without its first days of dry run."""
    own = {name: one for name, one in policy.schedulers.get(scheduler, {}).items() if name != "dry_run"}
    return replace(policy, dry_run=DryRun(first_days=0.0), schedulers={**policy.schedulers, scheduler: own})


def _turn(engine: Engine, watching: Watching, person: Person) -> list[Deed]:
    """Let one turn of the world be seen and acted upon; return what was done. Quiet turns are cheap."""
    cases, journal = watching.cases(), engine.book.journal
    if person.closes_breaker():
        engine.book.append("breaker", result="closed", actor="first", detail="replay: a person looked")
    busy = cases or engine.book.ledger.standing or journal.proposals or journal.waits or journal.testing
    if not busy:
        return []
    records = engine.turn(cases, watching.around(), watching.steps())
    person.see(records)
    return [_deed(one, watching) for one in records if one["phase"] == "done" and one.get("result") == "done"]


def _deed(record: Record, watching: Watching) -> Deed:
    told = record.get("predicted") or {}
    return Deed(
        record["time_ns"], record["act"], record["verb"], record["target"], record.get("job") or "", record["incident"],
        record.get("finding") or "", watching.is_right(record["target"]), float(told.get("gain_gpu_hours") or 0.0),
        float(told.get("cost_gpu_hours") or 0.0),
    )  # fmt: skip


@dataclass(frozen=True)
class Found:
    """What is left of a week: the acts, the audit, and its text."""

    deeds: tuple[Deed, ...]
    records: Sequence[Record]
    text: bytes


def _played(name: str, policy: Policy, scheduler: str, losses: Losses, found: Found) -> Played:
    records = found.records
    tests = [one.get("result") for one in records if one["phase"] == "tested"]
    held = Counter(said["guard"] for one in records if one["phase"] == "held" for said in one.get("why") or ())
    observed = {(one["incident"], one["verb"]) for one in records if one["phase"] == "observed"}
    told = Counter(verb for _, verb in sorted(observed))
    return Played(
        name, policy.mode(scheduler), policy.version, losses, found.deeds, Counter(one["phase"] for one in records),
        tests.count("pass"), tests.count("fail"), held, told, found.text,
    )  # fmt: skip
