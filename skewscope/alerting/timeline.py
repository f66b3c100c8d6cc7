"""When things happen in the test of an alert, and samples in the notation of promtool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .alert import Alert, lookback_s, reads

Array = np.ndarray[Any, Any]
SCRAPE_S = 13  # shares no factor with the evaluation: samples seldom lie on it, as in life
EVALUATION_S = 30
SPARSE_S, LONG_S = 61, 14400  # tests of many hours take fewer samples
GAP_SCRAPES = 4  # long enough for an evaluation to meet it
LEAD_S, GRACE_S, PATIENCE_S, STALE_S = 600, 300, 1800, 300
RECORDED_LEAD_S, RECORDED_S = 4500, 600  # recorded series look back for an hour before they look at ten minutes
ABSENT, STALE = "_", "stale"


@dataclass(frozen=True)
class Timeline:
    """Seconds of a test: the fault begins, must be seen, the scrape fails, the fault ends, must be over."""

    onset_s: int
    seen_s: int
    gap_s: int
    end_s: int
    over_s: int

    @property
    def times_s(self) -> Array:
        """Return the time of each scrape."""
        step = SPARSE_S if self.over_s > LONG_S else SCRAPE_S
        return np.arange(0.0, self.over_s + step, step)

    @property
    def in_gap(self) -> Array:
        """Return for each scrape whether it fails."""
        times = self.times_s
        first = int(np.searchsorted(times, self.gap_s))
        return (np.arange(len(times)) >= first) & (np.arange(len(times)) < first + GAP_SCRAPES)


def timeline(alert: Alert) -> Timeline:
    """Return the times of an alert's test: patient for its `for` and its ranges, up to half an hour of these.

    >>> timeline(Alert("A", "rate(x_total[2m]) > 1", 90, 600, "info", "", "", "a", "b"))
    Timeline(onset_s=600, seen_s=1110, gap_s=1140, end_s=1440, over_s=2460)
    """
    recorded = any(":" in name for name in reads(alert.expr))
    lead = RECORDED_LEAD_S if recorded else LEAD_S
    back = max(lookback_s(alert.expr), RECORDED_S * recorded)
    seen = _up(lead + alert.for_s + min(back, PATIENCE_S) + GRACE_S)
    gap = seen + EVALUATION_S
    end = gap + GRACE_S
    return Timeline(lead, seen, gap, end, _up(end + back + max(alert.keep_s, 0) + STALE_S))


def _up(seconds: float) -> int:
    return int(-(-seconds // EVALUATION_S) * EVALUATION_S)


def notation(values: Array, fails: Array | None = None) -> str:
    """Return samples as promtool's `values`: runs of equal steps, `_` where a series is absent, `stale` where it ends.

    `fails` marks scrapes that fail: series end there and are absent until the next that succeeds.

    >>> notation(np.array([1.0, 1, 1, 2, 4, 6, np.nan, np.nan, 5]))
    '1x2 2+2x2 stale _ 5'
    >>> notation(np.array([1.0, 1, 1, 1]), np.array([False, True, True, False]))
    '1 stale _ 1'
    """
    there = np.isfinite(values) & ~(fails if fails is not None else np.zeros(len(values), dtype=bool))
    parts: list[str] = []
    place = 0
    while place < len(values):
        if not there[place]:
            stop = _stop(there, place)
            parts += [STALE if place else ABSENT, *_absent(stop - place - 1)]
        else:
            stop = _run(values, there, place)
            parts.append(_steps(values, place, stop))
        place = stop
    return " ".join(parts)


def _stop(there: Array, place: int) -> int:
    later = np.flatnonzero(there[place:])
    return place + int(later[0]) if len(later) else len(there)


def _absent(count: int) -> list[str]:
    return [f"{ABSENT}x{count}"] if count > 1 else [ABSENT] * count


def _run(values: Array, there: Array, place: int) -> int:
    """Return the end of the longest run of equal steps from `place` on."""
    stop = place + 1
    if stop >= len(values) or not there[stop]:
        return stop
    step = values[stop] - values[place]
    while stop < len(values) and there[stop]:
        near = abs(values[place] + step * (stop - place) - values[stop]) <= 1e-9 * max(abs(values[stop]), abs(step))
        if not near:
            break
        stop += 1
    return stop if stop - place > 2 or step == 0 else place + 1


def _steps(values: Array, place: int, stop: int) -> str:
    count, first = stop - place - 1, f"{values[place]:.10g}"
    if not count:
        return first
    step = values[place + 1] - values[place]
    return f"{first}x{count}" if not step else f"{first}{step:+.10g}x{count}"
