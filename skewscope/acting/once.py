"""One look at a report on behalf of a person: what would be done, or, where the person says so, doing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..acts import Actuator
from ..errors import SkewscopeError
from ..policy.cases import Around, Case
from ..policy.settings import Policy
from .audit import Audit
from .engine import Engine, Extras
from .lease import Held, Turns
from .lines import MemoryLines


@dataclass
class Yes:
    """The answers of a person who said yes in advance, to all that is proposed."""

    person: str
    waiting: list[Mapping[str, Any]] = field(default_factory=list)

    def new(self) -> list[Mapping[str, Any]]:
        """Return the answers that were not taken yet."""
        said, self.waiting = self.waiting, []
        return said

    def to(self, proposals: Mapping[str, Mapping[str, Any]]) -> None:
        """Say yes to proposals."""
        for act, one in proposals.items():
            key = f"{self.person}:{act}:{one['seq']}"
            self.waiting.append({"act": act, "decision": "approve", "person": self.person, "key": key,
                                 "reason": "said with --apply"})  # fmt: skip


class Alone:
    """A lease for who changes nothing: always granted."""

    def take(self) -> Held:
        """Return that we may look."""
        return Held(True)

    def working(self) -> AbstractContextManager[None]:
        """Give a block that nobody has to wait for."""
        return nullcontext()

    def release(self) -> None:
        """Do nothing."""


def asked(policy: Policy, names: Sequence[str], verb: str, max_age_s: float, *, own: bool, named: bool) -> Policy:
    """Return the policy for what a person asks for: data may be older, and the ladder may begin at a verb.

    Where there is no policy of the site (`own` false), the person is the one who decides: what is asked for is done.
    Of findings that were `named` one by one, the person has seen the evidence.
    """
    quality = replace(policy.quality, stale_s=max(policy.quality.stale_s, max_age_s))
    made = replace(policy, quality=quality)
    if named:
        evidence = replace(made.evidence, windows=0, steps=-1, peers=-1, confidence=0.0)
        made = replace(made, evidence=evidence, hysteresis=replace(made.hysteresis, enter_ratio=1.0, leave_ratio=1.0))
    if verb:
        verbs = made.ladder.verbs if verb in made.ladder.verbs else (*made.ladder.verbs, verb)
        made = replace(made, ladder=replace(made.ladder, verbs=verbs, start=verb, starts={}))
    if own:
        return made
    return replace(made, default_mode="approve", schedulers={name: {"dry_run": False} for name in names})


def look(
    policy: Policy, actuators: Mapping[str, Actuator], audit: Path, cases: Sequence[Case], around: Around,
) -> Engine:  # fmt: skip
    """Return an engine after a turn in which nothing was changed and nothing written to the audit.

    Raises AuditError for a damaged audit, SkewscopeError where a scheduler does not answer.
    """
    lines = MemoryLines()
    if audit.exists():
        lines.data += audit.read_bytes()
    engine = Engine(policy, actuators, Audit(lines, lambda: around.now_ns), Alone(), Extras(dry_run=True))
    engine.book.journal.told.clear()  # what was told before is told again
    engine.turn(cases, around)
    return _answered(engine)


def act(
    policy: Policy, actuators: Mapping[str, Actuator], audit: Path, cases: Sequence[Case], around: Around, person: str,
) -> Engine:  # fmt: skip
    """Return an engine after it did what the policy grants, with the yes of a person to what it asks.

    Raises AuditError for a damaged audit, SkewscopeError where a scheduler does not answer.
    """
    yes = Yes(person)
    engine = Engine(policy, actuators, Audit(audit, actor=person), Turns(audit), Extras(dry_run=False, answers=yes))
    engine.book.journal.told.clear()
    engine.turn(cases, around)
    mine = {case.incident for case in cases}
    waiting = {act: one for act, one in engine.book.journal.proposals.items() if one["incident"] in mine}
    if waiting:
        yes.to(waiting)
        engine.turn(cases, around)
    return _answered(engine)


def _answered(engine: Engine) -> Engine:
    for name, hand in engine.hands.items():
        if hand.trouble:
            raise SkewscopeError(f"{name}: {hand.trouble}")
    return engine
