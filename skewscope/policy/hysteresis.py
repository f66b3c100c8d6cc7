"""Guard 8: two thresholds, so that what hovers at one is not fenced and returned in turns."""

from __future__ import annotations

import math

from .cases import Case
from .evidence import is_hard
from .ledger import TRIED
from .settings import Policy
from .turn import Texts, Turn, Wanted


def ratio(case: Case) -> float:
    """Return how many times longer a step takes than it could: 1 / (1 - share).

    >>> ratio(Case("c0", "gpu-slow-silent", "n3/gpu1", share=0.5))
    2.0
    """
    return math.inf if case.share >= 1 else 1 / (1 - max(0.0, case.share))


def hysteresis(turn: Turn, wanted: Wanted) -> Texts:
    """Say that a node is not slow enough: to begin with, or to go on."""
    case, limits = wanted.case, turn.policy.hysteresis
    if is_hard(turn.policy, case):
        return
    acts = turn.ledger.of_incident(case.incident)
    begun = any(act.state in TRIED and act.scheduler == turn.scheduler for act in acts)
    name, least = ("leave_ratio", limits.leave_ratio) if begun else ("enter_ratio", limits.enter_ratio)
    if not ratio(case) >= least - 1e-9:
        yield f"steps take {ratio(case):.2f} times as long as they could, wants {least:g} (hysteresis.{name})"


def is_healthy(policy: Policy, case: Case) -> bool:
    """Return whether a case is over: nothing is seen, or too little to hold on to an act."""
    return case.healthy or (not is_hard(policy, case) and ratio(case) < policy.hysteresis.leave_ratio - 1e-9)
