"""A case, which is one scenario with one seed, and its result."""

from __future__ import annotations

from dataclasses import dataclass

from .watching import Watched


@dataclass(frozen=True)
class Case:
    """One run to make: `nodes` 0 keeps the scenario's size, `severity` 0 that of its first fault.

    `effect` is the share of the step that each fault must cost at least; severities grow until it does.

    With `own_room_only` no other room than that of the scenario's faults is asked.
    """

    scenario: str
    seed: int
    nodes: int = 0
    severity: float = 0.0
    effect: float = 0.0
    every: int = 4
    own_room_only: bool = False


@dataclass(frozen=True)
class Result:
    """One case and what was found in it; `error` says why there is nothing."""

    case: Case
    watched: Watched | None
    error: str = ""
