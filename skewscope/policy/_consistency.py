"""What of a policy must fit together, key with key."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..acts import LADDER, VERBS
from ..errors import UsageError
from ._reading import known
from .spans import span, zone

if TYPE_CHECKING:
    from .settings import Policy


def check(policy: Policy, where: str) -> None:
    """Raise UsageError naming file, key and mend where two keys contradict each other, or words mean nothing."""
    _ladder(policy, where)
    for verb in policy.approval.free_verbs:
        known(verb, VERBS, f"{where}: approval.free_verbs")
    if policy.evidence.windows > policy.evidence.of_windows:
        raise UsageError(f"{where}: evidence.windows is above of_windows, so it can never be met; lower it")
    if policy.hysteresis.leave_ratio > policy.hysteresis.enter_ratio:
        raise UsageError(f"{where}: hysteresis.leave_ratio is above enter_ratio; it must be at most that")
    if policy.retest.required and not policy.retest.words:
        raise UsageError(f"{where}: retest.words is empty; name the program, or set retest.required = false")
    _meant(zone, policy.calendar.timezone, f"{where}: calendar.timezone")
    for key in ("windows", "freezes"):
        for text in getattr(policy.calendar, key):
            _meant(span, text, f"{where}: calendar.{key}")


def _ladder(policy: Policy, where: str) -> None:
    verbs = policy.ladder.verbs
    for verb in verbs:
        known(verb, LADDER, f"{where}: ladder.verbs")
    if not verbs or list(verbs) != sorted(set(verbs), key=LADDER.index):
        raise UsageError(f"{where}: ladder.verbs must name each rung once, in the order {', '.join(LADDER)}")
    known(policy.ladder.start, verbs, f"{where}: ladder.start")
    for name, verb in policy.ladder.starts.items():
        known(verb, verbs, f"{where}: ladder.starts.{name}")


def _meant(read: Callable[[str], object], text: str, where: str) -> None:
    try:
        read(text)
    except ValueError as error:
        raise UsageError(f"{where} = {text!r}: {error}") from None
