"""Times of mini-batches per worker: CSV with `worker` and `batch_time_norm`, as cluster traces publish them.

The k-th row of a worker is its step k. The unit is not told (0 to 1000 by the job's own maximum), so one unit is taken
for one millisecond: shares and ratios are right, seconds are not. Steps start together: such jobs are
synchronous.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pyarrow import csv

from ..contracts import Reading
from ..errors import Unreadable
from . import _bytes
from ._lines import ended

Array = np.ndarray[Any, Any]
UNIT_NS = 1_000_000
WIDEST = 1e12  # units; beyond it a time is damage


class WorkerTimes:
    """Reads `job_*_norm.csv`."""

    format: ClassVar[str] = "worker-times"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1; a table of coefficients of variation is claimed too, so that its refusal is told."""
        first = head.split(b"\n", 1)[0].decode("utf-8", "replace").strip().lower().split(",")
        if "worker" in first and "batch_time_norm" in first:
            return 0.95
        return 0.4 if first[:4] == ["", "0", "1", "2"] else 0.0

    def read(self, path: Path) -> Reading:
        """Return `steps` of all workers; raises Unreadable for other tables."""
        content, damage = ended(*_bytes.whole(path))
        try:
            options = csv.ReadOptions(use_threads=False)
            table = csv.read_csv(BytesIO(content), options)
            names = table.column_names
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:  # the latter of a column's name
            raise Unreadable(f"damaged CSV: {damage or error}"[:300]) from None
        if "batch_time_norm" not in names or "worker" not in names:
            raise Unreadable("a table of one row per job, not of times per worker: no rank can be judged from it")
        try:
            worker = table.column("worker").to_numpy().astype(np.int64)
            units = table.column("batch_time_norm").to_numpy().astype(float)
        except (TypeError, ValueError, OverflowError, KeyError, pa.ArrowInvalid):  # KeyError: it stands twice
            raise Unreadable("columns worker and batch_time_norm hold no numbers") from None
        sound = (units > 0) & (units < WIDEST) & (worker >= 0)
        if not sound.any():
            raise Unreadable("no row with a worker and a positive time")
        reading = _reading(str(path), worker[sound], units[sound])
        if not sound.all():
            reading.warnings.append(f"{int((~sound).sum())} rows without a positive time are left out")
        if damage:
            reading.status, reading.error = "partial", damage
        return reading


def _reading(path: str, worker: Array, units: Array) -> Reading:
    ranks, rank = np.unique(worker, return_inverse=True)
    step = _place_within(rank)
    length = np.rint(units * UNIT_NS).astype(np.int64)
    longest = np.zeros(int(step.max()) + 1, dtype=np.int64)
    np.maximum.at(longest, step, length)
    start = (np.cumsum(longest) - longest)[step]
    row = {
        "job": "job", "step": step, "rank": worker, "phase": "step", "start_ns": start, "end_ns": start + length,
        "source": WorkerTimes.format,
    }  # fmt: skip
    reading = Reading(path, WorkerTimes.format, events=len(worker), batches=[("steps", row)])
    reading.world_size = len(ranks)
    reading.warnings.append("unit unknown: times are relative, one unit is shown as 1 ms")
    return reading


def _place_within(group: Array) -> Array:
    """Return for each row how many earlier rows have its group.

    >>> _place_within(np.array([0, 1, 0, 0, 1])).tolist()
    [0, 0, 1, 2, 1]
    """
    order = np.argsort(group, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(group))[:-1]])
    place = np.empty(len(group), dtype=np.int64)
    place[order] = np.arange(len(group)) - first[group[order]]
    return place
