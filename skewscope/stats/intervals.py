"""Unions, overlaps and gaps of time intervals, vectorised over many lanes at once.

A lane is an integer (a rank, or rank and stream); intervals are int64 arrays start, end of shape [n].
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Spans(NamedTuple):
    """Intervals sorted by lane, then start: three arrays of shape [n]."""

    lane: Array
    start: Array
    end: Array


def union(lane: Array, start: Array, end: Array, join_ns: int = 0) -> Spans:
    """Return disjoint intervals covering the same time per lane; gaps of at most `join_ns` are closed.

    >>> union(np.zeros(3, int), np.array([0, 5, 20]), np.array([10, 12, 30])).end.tolist()
    [12, 30]
    """
    if not _sorted(lane, start):
        ranked = np.lexsort((start, lane))
        lane, start, end = lane[ranked], start[ranked], end[ranked]
    if not len(lane):
        return Spans(lane, start, end)
    reach = _running_max(lane, end)
    first = np.ones(len(lane), dtype=bool)
    first[1:] = (lane[1:] != lane[:-1]) | (start[1:] > reach[:-1] + join_ns)
    begins = np.flatnonzero(first)
    lasts = np.append(begins[1:], len(lane)) - 1
    return Spans(lane[begins], start[begins], reach[lasts])


def _sorted(lane: Array, start: Array) -> bool:
    """Return whether intervals lie in order of their lane, then start."""
    steps = lane[1:] - lane[:-1]
    return bool((steps >= 0).all() and ((steps > 0) | (start[1:] >= start[:-1])).all())


def _running_max(lane: Array, end: Array) -> Array:
    """Return the running maximum of `end` within each lane (lanes sorted)."""
    if not len(end):
        return end
    low = int(end.min())
    width = int(end.max()) - low + 1
    dense = np.cumsum(np.append(False, lane[1:] != lane[:-1]))
    if width * (int(dense[-1]) + 1) < 2**62:
        lifted = (end - low) + dense.astype(np.int64) * width
        return np.asarray(np.maximum.accumulate(lifted) - dense * width + low)
    pieces = np.split(end, np.flatnonzero(np.diff(lane)) + 1)
    return np.concatenate([np.maximum.accumulate(piece) for piece in pieces])


def order(lane: Array, start: Array) -> Array:
    """Return the places of intervals in order of their lane, then start.

    >>> order(np.array([1, 0, 0]), np.array([5, 9, 7])).tolist()
    [2, 1, 0]
    """
    return np.arange(len(lane)) if _sorted(lane, start) else np.lexsort((start, lane))


def gaps(spans: Spans) -> Spans:
    """Return the holes between the disjoint intervals of each lane.

    >>> gaps(union(np.zeros(2, int), np.array([0, 20]), np.array([10, 30]))).start.tolist()
    [10]
    """
    same = spans.lane[1:] == spans.lane[:-1]
    return Spans(spans.lane[1:][same], spans.end[:-1][same], spans.start[1:][same])


def covered(spans: Spans, lane: Array, start: Array, end: Array) -> Array:
    """Return, for each query interval, how much of it the disjoint `spans` of its lane cover, in ns.

    >>> covered(union(np.zeros(1, int), np.array([5]), np.array([10])), np.array([0]), np.array([0]), np.array([7]))
    array([2])
    """
    return _mass_before(spans, lane, end) - _mass_before(spans, lane, start)


def _mass_before(spans: Spans, lane: Array, time: Array) -> Array:
    """Return the time that `spans` of the lane cover before `time`."""
    if not len(spans.lane):
        return np.zeros(len(time), dtype=np.int64)
    length = spans.end - spans.start
    total = np.concatenate([[0], np.cumsum(length)])
    place = position(spans.lane, spans.start, lane, time)
    begins = np.flatnonzero(np.append(True, spans.lane[1:] != spans.lane[:-1]))
    first = np.append(begins, len(spans.lane))[np.searchsorted(spans.lane[begins], lane, side="left")]
    inside = place > first
    last = np.maximum(place - 1, 0)
    overshoot = np.where(inside, np.maximum(spans.end[last] - time, 0), 0)
    return np.asarray(np.where(inside, total[place] - total[first] - overshoot, 0))


def position(lanes: Array, times: Array, lane: Array, time: Array, side: Literal["left", "right"] = "left") -> Array:
    """Return searchsorted of (lane, time) in arrays sorted by lane, then time; shape of `time`.

    >>> position(np.array([0, 0, 1]), np.array([1, 5, 2]), np.array([0, 1]), np.array([3, 3])).tolist()
    [1, 3]
    """
    if not len(lanes) or not len(time):
        return np.zeros(len(time), dtype=np.int64)
    low = min(int(times.min()), int(time.min()))
    width = max(int(times.max()), int(time.max())) - low + 2
    changes = np.append(True, lanes[1:] != lanes[:-1])
    names = lanes[changes]
    if width * (len(names) + 1) < 2**62:
        keys = (np.cumsum(changes) - 1) * width + (times - low)
        at = np.searchsorted(names, lane)
        there = names[np.minimum(at, len(names) - 1)] == lane
        asked = at.astype(np.int64) * width + np.where(there, time - low, 0)
        sides = np.searchsorted(keys, asked, side=side)
        if side == "left" or there.all():
            return np.asarray(sides)
        return np.asarray(np.where(there, sides, np.searchsorted(keys, asked, side="left")))
    found = np.zeros(len(time), dtype=np.int64)
    for name in np.unique(lane):
        begin, stop = np.searchsorted(lanes, [name, name + 1])
        mine = lane == name
        found[mine] = begin + np.searchsorted(times[begin:stop], time[mine], side=side)
    return found
