"""What each host thread was doing at every moment: the innermost recorded call, as pieces of time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..stats import intervals
from ._calls import Calls

Array = np.ndarray[Any, Any]


class Pieces(NamedTuple):
    """Pieces of time by lane and start: `row` [n] of the innermost call from `start` [n] on, -1 for none."""

    lane: Array
    start: Array
    row: Array


def pieces(forest: Calls, lane: Array) -> Pieces:
    """Return what every thread did; `lane` [n] is the thread of each call (see `Calls.lane`)."""
    timed = np.flatnonzero(forest.end > forest.start)
    at = np.concatenate([forest.start[timed], forest.end[timed]])
    begins = np.repeat([1, 0], len(timed))
    depth = forest.depth[timed]
    order = np.lexsort((np.concatenate([depth, -depth]), begins, at, np.tile(lane[timed], 2)))
    row = np.concatenate([timed, forest.parent[timed]])
    return Pieces(np.tile(lane[timed], 2)[order], at[order], row[order])


def inside(of: Pieces, lane: Array, start: Array, end: Array) -> tuple[Array, Array, Array, Array]:
    """Return the pieces within the intervals (lane, start, end): number of the interval, row, clipped start, end.

    >>> found = Pieces(np.zeros(3, int), np.array([0, 4, 9]), np.array([7, 8, -1]))
    >>> [part.tolist() for part in inside(found, np.zeros(1, int), np.array([2]), np.array([6]))]
    [[0, 0], [7, 8], [2, 4], [4, 6]]
    """
    first = intervals.position(of.lane, of.start, lane, start, side="right") - 1
    last = intervals.position(of.lane, of.start, lane, end, side="left")
    count = np.maximum(last - first, 0)
    which = np.repeat(np.arange(len(lane)), count)
    place = np.repeat(first, count) + np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    known = (place >= 0) & (place < len(of.lane))
    safe = np.clip(place, 0, max(len(of.lane) - 1, 0))
    known &= of.lane[safe] == lane[which] if len(of.lane) else False
    after = np.minimum(safe + 1, max(len(of.lane) - 1, 0))
    begin = np.where(known, np.maximum(of.start[safe], start[which]), start[which]) if len(of.lane) else start[which]
    follows = (place + 1 < len(of.lane)) & (of.lane[after] == lane[which]) if len(of.lane) else np.zeros(0, dtype=bool)
    stop = np.where(follows, np.minimum(of.start[after], end[which]), end[which]) if len(of.lane) else end[which]
    row = np.where(known, of.row[safe], -1) if len(of.lane) else np.full(len(which), -1)
    kept = stop > begin
    return which[kept], row[kept], begin[kept], stop[kept]
