"""The guards that speak against an act, in the order in which they are asked; each is a pure function."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .alarms import alarms
from .approval import approval
from .breaker import breaker
from .budgets import budget
from .calendar import calendar
from .capacity import capacity
from .cases import Said
from .cool_down import cool_down
from .economics import economics
from .evidence import evidence
from .hysteresis import hysteresis
from .ownership import ownership
from .quality import quality
from .turn import Texts, Turn, Wanted, said
from .work import work

GUARDS: Mapping[str, Callable[[Turn, Wanted], Texts]] = {
    "calendar": calendar, "quality": quality, "alarms": alarms, "breaker": breaker, "evidence": evidence,
    "hysteresis": hysteresis, "ownership": ownership, "cool_down": cool_down, "approval": approval, "budget": budget,
    "capacity": capacity, "work": work, "economics": economics,
}  # fmt: skip


def against(turn: Turn, wanted: Wanted) -> tuple[Said, ...]:
    """Return all that speaks against an act now: nobody has to find out one after the other."""
    return tuple(said(name, text) for name, guard in GUARDS.items() for text in guard(turn, wanted))
