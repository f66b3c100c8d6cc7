"""Guard 20: without trusted, fresh data nothing is done."""

from __future__ import annotations

from .turn import Texts, Turn, Wanted


def quality(turn: Turn, wanted: Wanted) -> Texts:
    """Say what of the data cannot be trusted."""
    case, limits, fleet = wanted.case, turn.policy.quality, turn.fleet
    yield from (doubt for doubt in (case.doubt, turn.around.doubt) if doubt)
    yield from _age(turn.age_s(case.seen_ns), "the finding", limits.stale_s, limits.skew_s, "quality.stale_s")
    stale_s = (
        limits.fleet_stale_s
    )  # a scheduler is asked within the turn, and again after each act: later than its time
    yield from _age(turn.age_s(fleet.read_ns), f"what {turn.scheduler} said", stale_s, stale_s, "quality.fleet_stale_s")
    if wanted.is_fence and not fleet.complete:
        yield f"{turn.scheduler} could not list all its nodes, so limits cannot be kept"
    if turn.age_s(turn.ledger.latest_ns) < -limits.stale_s:
        yield "the clock went back: the audit knows later times (quality.stale_s)"


def _age(age_s: float, what: str, stale_s: float, ahead_s: float, key: str) -> Texts:
    if age_s > stale_s:
        yield f"{what} is older than {stale_s:g} s ({key}), or nobody knows its time"
    elif age_s < -ahead_s:
        yield f"{what} lies in the future: clocks differ (quality.skew_s)"
