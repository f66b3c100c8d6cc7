"""Guard 13: running work ends or reaches a checkpoint before its job is started anew."""

from __future__ import annotations

from collections.abc import Mapping

from .cases import Case
from .turn import Texts, Turn, Wanted


def params(turn: Turn, case: Case, verb: str) -> Mapping[str, object]:
    """Return what a verb is told besides: whether to restart the job or move pods, or the hint itself."""
    if verb == "advise":
        return {"hint": dict(case.hint)}
    job = turn.fleet.jobs.get(case.job)
    if verb == "exclude" and turn.policy.work.requeue and job is not None and job.may_restart:
        return {"requeue": True}
    return {"evict": True} if verb == "drain" and turn.policy.work.evict else {}


def work(turn: Turn, wanted: Wanted) -> Texts:
    """Say that a restart waits for a fresh checkpoint: where lost work costs more than the wait can."""
    limits, case = turn.policy.work, wanted.case
    if not (wanted.restarts and limits.wait_checkpoint):
        return
    since_s = turn.around.since_checkpoint_s.get(case.job)
    left_s = limits.longest_wait_s - (turn.age_s(case.opened_ns) if case.opened_ns >= 0 else 0.0)
    if since_s is None or since_s <= limits.fresh_s or left_s <= 0:
        return
    lost, waited = since_s * case.ranks / 3600, case.lost_gpus * left_s / 3600
    if waited < lost:
        old = f"the last checkpoint of job {case.job} is {since_s / 60:.0f} min old"
        yield f"{old}: a restart loses {lost:.1f} GPU-h, waiting at most {waited:.1f} (work.wait_checkpoint)"
