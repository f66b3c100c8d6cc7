"""Readiness of the input of each rank over time: the share of steps whose next batch was there, 1 = never starved.

A JSON object with `event_time` (Unix seconds) and one list per rank, keyed "00", "01", ... as data loaders export it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np

from ..contracts import Reading
from ..errors import Unreadable
from . import _bytes

METRIC = "skewscope_input_ready_ratio"
DIGITS = 9  # of a rank; longer ones cannot be meant


class ReadinessSeries:
    """Reads `{"event_time": [...], "00": [...], ...}`."""

    format: ClassVar[str] = "readiness-series"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins such an object."""
        return 0.85 if head.lstrip().startswith(b"{") and b'"event_time"' in head[:4096] else 0.0

    def read(self, path: Path) -> Reading:
        """Return `samples` of one metric; raises Unreadable where the lists do not fit each other."""
        content, damage = _bytes.whole(path)
        try:
            found = msgspec.json.decode(content, type=dict[str, list[float | None]])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Unreadable(f"not a whole object of lists of numbers: {damage or error}") from None
        times = np.array(found.get("event_time", ()), dtype=float)
        ranks = {int(key): values for key, values in found.items() if key.isdecimal() and len(key) <= DIGITS}
        if not len(times) or not ranks:
            raise Unreadable("no list per rank beside event_time")
        uneven = [rank for rank, values in ranks.items() if len(values) != len(times)]
        if uneven:
            raise Unreadable(f"rank {uneven[0]} has {len(ranks[uneven[0]])} values for {len(times)} times")
        value = np.concatenate([np.array(values, dtype=float) for values in ranks.values()])
        reading = self._reading(path, np.tile(times, len(ranks)), np.repeat(list(ranks), len(times)), value)
        if damage:
            reading.status, reading.error = "partial", damage
        return reading

    def _reading(self, path: Path, t_s: np.ndarray[Any, Any], rank: np.ndarray[Any, Any], value: Any) -> Reading:  # noqa: ANN401
        sound = np.isfinite(t_s) & np.isfinite(value)
        if not sound.any():
            raise Unreadable("no value in any of the lists")
        if value[sound].min() < 0 or value[sound].max() > 1:
            raise Unreadable("values outside 0 to 1: these are no shares of ready batches")
        reading = Reading(str(path), self.format, events=int(sound.sum()), world_size=int(rank.max()) + 1)
        if not sound.all():
            reading.warnings.append(f"{int((~sound).sum())} values are missing")
        row = {
            "t_ns": np.rint(t_s[sound] * 1e9).astype(np.int64), "metric": METRIC, "value": value[sound], "job": "job",
            "rank": rank[sound],
        }  # fmt: skip
        reading.batches = [("samples", row)]
        return reading
