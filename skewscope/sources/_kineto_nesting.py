"""Which call encloses which, on each thread: the call tree from spans alone."""

from __future__ import annotations

import numpy as np

from ._kineto_columns import Array

ROUNDED_NS = 1000  # exporters that write whole microseconds let a call seem to outlast its caller by up to so much
LARGEST_KEY = 2**62


def nesting(lane: Array, start: Array, end: Array, tie: Array) -> tuple[Array, Array]:
    """Return the rows in order of lane and start, and for each place in that order the place of its enclosing row.

    The enclosing row comes first; the innermost one counts; outermost rows have -1.
    Of rows with equal spans the one with the lower `tie` encloses. A row of no length encloses nothing. A row that
    begins inside another and outlasts it by more than rounding is not a part of it.

    >>> order, parent = nesting(np.zeros(4), np.array([3, 0, 2, 9]), np.array([4, 8, 5, 9]), np.zeros(4))
    >>> order.tolist(), parent.tolist()
    ([1, 2, 0, 3], [-1, 0, 1, -1])
    """
    order = np.lexsort((tie, -end, start, lane))
    if not len(order):
        return order, order
    lane, start, end = lane[order], start[order], end[order]
    parent = _by_depth(_depth(lane, start, end))
    has = parent >= 0
    apart = has & ((end[parent] < end) | (lane[parent] != lane))
    for one in np.unique(lane[apart]):
        first, behind = np.searchsorted(lane, one), np.searchsorted(lane, one, side="right")
        parent[first:behind] = _stack(start[first:behind].tolist(), end[first:behind].tolist(), int(first))
    return order, parent


def _depth(lane: Array, start: Array, end: Array) -> Array:
    """Return how many rows are open where each begins; rows in order, nested properly."""
    begin, close = _lane_times(lane, start, end)
    long = end > start
    closed = np.searchsorted(np.sort(close[long]), begin, side="right")
    empty: Array = np.cumsum(~long) - (~long).astype(np.int64)  # rows without length before each
    return np.asarray(np.arange(len(start)) - closed - empty)


def _lane_times(lane: Array, start: Array, end: Array) -> tuple[Array, Array]:
    """Return starts and ends as numbers that grow with the lane, then with time."""
    lanes = np.cumsum(np.diff(lane, prepend=lane[:1]) != 0)
    low, high = int(start.min()), int(end.max())
    if (high - low + 1) * (int(lanes[-1]) + 1) < LARGEST_KEY:
        return start - low + lanes * (high - low + 1), end - low + lanes * (high - low + 1)
    times, place = np.unique(np.concatenate([start, end]), return_inverse=True)
    return place[: len(start)] + lanes * len(times), place[len(start) :] + lanes * len(times)


def _by_depth(depth: Array) -> Array:
    """Return for each row the last one before it that is one level further out, -1 at level 0."""
    parent = np.full(len(depth), -1, dtype=np.int64)
    order = np.argsort(depth, kind="stable")
    borders = np.searchsorted(depth[order], np.arange(int(depth.max()) + 2))
    for level in range(1, len(borders) - 1):
        outer = order[borders[level - 1] : borders[level]]
        inner = order[borders[level] : borders[level + 1]]
        if len(outer) and len(inner):
            place = np.searchsorted(outer, inner) - 1
            parent[inner] = np.where(place >= 0, outer[place], -1)
    return parent


def _stack(start: list[int], end: list[int], offset: int) -> list[int]:
    """Return the parents of rows of one lane that are not nested properly, `offset` added; step by step."""
    parent, opened = [-1] * len(start), list[int]()
    for row, begin in enumerate(start):
        while opened and end[opened[-1]] <= begin:
            opened.pop()
        if opened and end[opened[-1]] + ROUNDED_NS < end[row]:
            opened = [one for one in opened if end[one] > begin]
        holder = next((one for one in reversed(opened) if end[one] + ROUNDED_NS >= end[row]), -1)
        if holder >= 0:
            parent[row] = holder + offset
            end[row] = min(end[row], end[holder])
        opened.append(row)
    return parent
