"""One turn of decisions: the world as the guards see it, and what was granted so far."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ..acts import FENCES, Fleet, NodeState, plain_text
from .cases import Around, Case, Said
from .ledger import COUNTED, Ledger
from .settings import Policy

SECOND_NS = 10**9
DAY_NS = 86_400 * SECOND_NS


@dataclass(frozen=True)
class Wanted:
    """What the guards are asked about: a verb on a target, for a case, as the act `id`."""

    case: Case
    verb: str
    target: str
    id: str
    restarts: bool = False  # a job begins anew, and loses work

    @property
    def is_fence(self) -> bool:
        """Whether it takes capacity away."""
        return self.verb in FENCES

    @property
    def is_counted(self) -> bool:
        """Whether the breaker counts it."""
        return self.verb in COUNTED


@dataclass
class Turn:
    """What is known in one turn about one scheduler; `granted` grows while it lasts, everything else stays."""

    policy: Policy
    scheduler: str
    cases: Sequence[Case]
    fleet: Fleet
    ledger: Ledger
    around: Around
    verbs: Collection[str]
    granted: list[Wanted] = field(default_factory=list)

    @property
    def now_ns(self) -> int:
        """The time of the turn, ns."""
        return self.around.now_ns

    def age_s(self, time_ns: int) -> float:
        """Return the seconds since a time; below 0 where that lies ahead, as after a clock went back."""
        return (self.now_ns - time_ns) / SECOND_NS

    def node(self, name: str) -> NodeState | None:
        """Return a node as the scheduler sees it, None where it lists none of that name."""
        return self.fleet.nodes.get(name)

    def jobs(self, wanted: Wanted) -> tuple[str, ...]:
        """Return the jobs that an act can touch: of the case, and those on the node."""
        node = self.node(wanted.target)
        found = (wanted.case.job, *(node.jobs if node else ()))
        return tuple(dict.fromkeys(job for job in found if job))

    @cached_property
    def foreign(self) -> frozenset[str]:
        """Nodes that are out, but not by us: drained by others, down, reserved."""
        return frozenset(name for name, node in self.fleet.nodes.items() if not node.schedulable and not node.ours)

    @cached_property
    def _ours(self) -> frozenset[str]:
        fences = {act.target for act in self.ledger.fences(self.scheduler)}
        asked = {act.target for act in self.ledger.proposals(self.scheduler, self.now_ns) if act.is_fence}
        seen = {name for name, node in self.fleet.nodes.items() if node.ours and not node.schedulable}
        return frozenset(fences | asked | seen)

    def ours(self) -> frozenset[str]:
        """Return the nodes that we fenced, may have fenced, asked for, or were granted in this turn."""
        return self._ours | {one.target for one in self.granted if one.is_fence}

    def day(self) -> frozenset[str]:
        """Return the nodes that we fenced within 24 hours, asked for, or were granted in this turn."""
        recent = {
            act.target for act in self.ledger.fenced(self.scheduler) if self.now_ns - act.touched_ns < DAY_NS
        }  # fmt: skip
        asked = {act.target for act in self.ledger.proposals(self.scheduler, self.now_ns) if act.is_fence}
        return frozenset(recent | asked | {one.target for one in self.granted if one.is_fence})


Texts = Iterator[str]
LONGEST_TEXT = 400


def said(guard: str, text: str) -> Said:
    """Return what a guard says, safe for any terminal or page: names and reasons in it may come from anybody.

    >>> said("ownership", "n3 belongs to `evil`").text
    'n3 belongs to _evil_'
    """
    return Said(guard, plain_text(text, LONGEST_TEXT))
