"""Guard 7: evidence that lasts, from enough steps and ranks."""

from __future__ import annotations

from .cases import Case
from .settings import Policy
from .turn import Texts, Turn, Wanted


def is_hard(policy: Policy, case: Case) -> bool:
    """Return whether a case tells of what is broken, not slow: no ratio and no comparison is asked of it."""
    return case.condition in policy.evidence.hard


def evidence(turn: Turn, wanted: Wanted) -> Texts:
    """Say what of the evidence is too thin."""
    case, least = wanted.case, turn.policy.evidence
    if not case.confidence >= least.confidence:
        yield f"confidence {case.confidence:.2f}, wants {least.confidence:g} (evidence.confidence)"
    yield from _windows(case, least.windows, least.of_windows)
    if is_hard(turn.policy, case):
        return
    if case.steps < least.steps:
        yield f"{_count(case.steps)} steps compared, wants {least.steps} (evidence.steps)"
    if case.peers < least.peers:
        yield f"{_count(case.peers)} ranks compared, wants {least.peers} (evidence.peers)"


def _windows(case: Case, windows: int, of_windows: int) -> Texts:
    """Say whether k of n windows have shown it; of a longer look back only what n windows could show counts."""
    unseen = max(0, case.of_count - case.seen_count)
    surely = case.seen_count if case.of_count <= of_windows else max(0, of_windows - unseen)
    if surely < windows:
        seen = f"seen in {case.seen_count} of {case.of_count} windows"
        yield f"{seen}, wants {windows} of {of_windows} (evidence.windows)"


def _count(number: int) -> str:
    return "an unknown number of" if number < 0 else str(number)
