"""Makes the faults of a scenario as strong as an effect on the step asks for, by what the simulator itself says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..simulate import Scenario, simulate
from .truth import HARMLESS_SHARE

STRONGER = 1.4  # times the odds of the severity, a try
TRIES = 12
MOST = 0.97  # severities are shares: at 1 nothing is left of a rate


def strengthened(plan: Scenario, seed: int, effect: float) -> Scenario:
    """Return the scenario with a fault that costs at least this share of the step, as far as severities go.

    Only what is replayed counts: no room is asked. A fault that stops its job or costs it nothing stays as it is, and
    so do several: what one costs depends on the others.
    """
    for _ in range(TRIES if len(plan.faults) == 1 else 0):
        (told,) = simulate(plan, seed, detail=False).truth["faults"]
        if not _is_weak(told, effect):
            break
        plan = replace(plan, faults=(replace(plan.faults[0], severity=stronger(float(told["severity"]))),))
    return plan


def _is_weak(said: Mapping[str, Any], effect: float) -> bool:
    costs = not said["stops"] and said["lost_share"] >= HARMLESS_SHARE
    return costs and said["lost_share"] < effect and said["severity"] < MOST


def stronger(severity: float) -> float:
    """Return the next severity: its odds times STRONGER, at most MOST.

    >>> round(stronger(0.5), 3), stronger(0.965)
    (0.583, 0.97)
    """
    odds = STRONGER * severity / (1.0 - min(severity, MOST))
    return min(odds / (1.0 + odds), MOST)
