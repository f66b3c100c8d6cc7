"""Series of other exporters: several may become one of ours, and rates become totals.

So all samples of a window are turned together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from skewscope.frames import concat, empty, frame
from skewscope.signals.windows import windows

from ..sources._telemetry_series import Series, columns
from .contract import WINDOW_NS

Array = np.ndarray[Any, Any]
Samples = tuple[Array, Array, Array]
LEAST_FORGOTTEN = 500
NONE: Samples = (np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0, dtype=np.int64))


class Foreign:
    """Foreign series by number, and the samples of the last window: counters and rates go on from there."""

    def __init__(self) -> None:
        self._told: list[tuple[Series, ...]] = []
        self._place: dict[tuple[Series, ...], int] = {}
        self._seen_ns: list[int] = []
        self._before = NONE

    def number(self, some: Sequence[Series], now_ns: int) -> int:
        """Return the number of what one exported series means."""
        key = tuple(some)
        known = self._place.get(key)
        if known is None:
            known = self._place[key] = len(self._told)
            self._told.append(key)
            self._seen_ns.append(now_ns)
        return known

    def cut(self, numbers: Array, values: Array, t_ns: Array, end_ns: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return `windows` and `events` of one window of raw samples."""
        if not len(numbers):
            return empty("windows"), empty("events")
        for number in np.unique(numbers).tolist():
            self._seen_ns[number] = end_ns
        both = tuple(np.concatenate(pair) for pair in zip(self._before, (numbers, values, t_ns), strict=True))
        order = np.lexsort((both[2], both[0]))
        numbers, values, t_ns = (part[order] for part in both)
        again = np.concatenate(([False], (np.diff(numbers) == 0) & (np.diff(t_ns) == 0)))
        numbers, values, t_ns = numbers[~again], values[~again], t_ns[~again]
        found = columns(self._told, numbers, values, t_ns)
        begin_ns = end_ns - WINDOW_NS
        self._before = self._newest(numbers, values, t_ns)
        rows = windows(frame("samples", found.columns)) if found.rows else empty("windows")
        rows = rows[(rows["t_ns"] == end_ns).to_numpy()]
        events = frame("events", found.events) if found.xids else empty("events")
        events = events[((events["t_ns"] > begin_ns) & (events["t_ns"] <= end_ns)).to_numpy()]
        quiet = (rows["increase_value"] == 0) & (rows["last_value"] == 0)
        return concat("windows", [rows[~quiet.to_numpy()]]), concat("events", [events])

    @staticmethod
    def _newest(numbers: Array, values: Array, t_ns: Array) -> Samples:
        last = np.flatnonzero(np.concatenate((np.diff(numbers) != 0, [True])))
        return numbers[last], values[last], t_ns[last]

    def crowded(self, before_ns: int) -> bool:
        """Return whether many series were last seen before a time."""
        if len(self._told) < LEAST_FORGOTTEN:
            return False
        return sum(seen < before_ns for seen in self._seen_ns) > LEAST_FORGOTTEN + len(self._told) // 4

    def compact(self, before_ns: int) -> Array:
        """Forget series last seen before a time; return the new number of each old one, -1 for those forgotten."""
        kept = [at for at, seen in enumerate(self._seen_ns) if seen >= before_ns]
        moved = np.full(len(self._told), -1, dtype=np.int64)
        moved[kept] = np.arange(len(kept))
        self._told = [self._told[at] for at in kept]
        self._seen_ns = [self._seen_ns[at] for at in kept]
        self._place = {key: at for at, key in enumerate(self._told)}
        numbers, values, t_ns = self._before
        known = moved[numbers] >= 0
        self._before = moved[numbers][known], values[known], t_ns[known]
        return moved
