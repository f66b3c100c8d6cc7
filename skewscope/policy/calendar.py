"""Guard 18: maintenance windows, frozen times, and the kill switch."""

from __future__ import annotations

from datetime import datetime

from .spans import span, zone
from .turn import SECOND_NS, Texts, Turn, Wanted


def calendar(turn: Turn, wanted: Wanted) -> Texts:
    """Say why now is no time to act."""
    told = turn.policy.calendar
    if turn.around.stopped:
        yield f"everything is stopped: {turn.around.stopped}"
    now = datetime.fromtimestamp(turn.now_ns // SECOND_NS, zone(told.timezone))
    if told.windows and not any(span(text).holds(now) for text in told.windows):
        yield f"{now:%a %H:%M} lies in no window: {'; '.join(told.windows)} (calendar.windows)"
    for text in told.freezes:
        if span(text).holds(now):
            yield f"frozen: {text} (calendar.freezes)"
