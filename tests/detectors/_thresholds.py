"""Whether a threshold matters: doubled or halved, something must come out otherwise in some world."""

from __future__ import annotations

import dataclasses


def matters(room_detector, field, cases, states):
    """Return whether `states(detector, cases)` changes with this field of a detector."""
    value, before = getattr(room_detector, field), states(room_detector, cases)
    changed = [value * 2, value // 2 or 1] if isinstance(value, int) else [value * 2, value / 2]
    return any(states(dataclasses.replace(room_detector, **{field: other}), cases) != before for other in changed)
