"""What waiting costs against what acting costs, both in GPU-hours."""

from __future__ import annotations

from .cases import Case
from .evidence import is_hard
from .ledger import STRONG
from .turn import Texts, Turn, Wanted

HOUR_S = 3600.0


def gain_gpu_hours(turn: Turn, case: Case) -> float:
    """Return what acting is expected to save: what waiting costs, times how sure it is and how often it came true."""
    told = turn.policy.economics
    ahead_s = min(told.horizon_s, turn.around.remaining_s.get(case.job, told.horizon_s))
    trust = turn.around.trust.get(case.condition, told.trust)
    return case.lost_gpus * max(0.0, ahead_s) / HOUR_S * case.confidence * trust


def cost_gpu_hours(turn: Turn, case: Case, restarts: bool) -> float:
    """Return what acting costs: for a restart, its time and the work since the last checkpoint, of all ranks."""
    told = turn.policy.economics
    since_s = turn.around.since_checkpoint_s.get(case.job, told.since_checkpoint_s)
    return (told.restart_s + since_s) * case.ranks / HOUR_S if restarts else 0.0


def economics(turn: Turn, wanted: Wanted) -> Texts:
    """Say that acting does not pay. A note and a ticket are free; what is broken and restarts nothing always pays."""
    if wanted.verb not in (*STRONG, "advise") or (is_hard(turn.policy, wanted.case) and not wanted.restarts):
        return
    gain = gain_gpu_hours(turn, wanted.case)
    cost = cost_gpu_hours(turn, wanted.case, wanted.restarts)
    if not gain > cost * turn.policy.economics.margin:
        yield f"saves {gain:.2f} GPU-h and costs {cost:.2f}, times {turn.policy.economics.margin:g} (economics.margin)"
