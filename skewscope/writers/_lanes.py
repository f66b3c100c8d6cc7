"""Slices of one track must nest or follow one another: those that cross are given tracks of their own."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def disjoint(start: Array, end: Array) -> Array:
    """Return a lane for each interval [start, end), in order of start, so that those of one lane do not overlap.

    >>> disjoint(np.array([0, 5, 10]), np.array([6, 9, 12])).tolist()
    [0, 1, 0]
    """
    lane = np.zeros(len(start), dtype=np.int64)
    if not len(start) or bool((start[1:] >= end[:-1]).all()):
        return lane
    busy: list[tuple[int, int]] = []  # end of the last slice, lane
    free: list[int] = []
    used = 0
    for row, (begin, until) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):
        while busy and busy[0][0] <= begin:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            chosen = heapq.heappop(free)
        else:
            chosen, used = used, used + 1
        lane[row] = chosen
        heapq.heappush(busy, (until, chosen))
    return lane


def nested(start: Array, end: Array) -> Array:
    """Return a lane for each interval, in order of (start, -end), so that those of one lane nest or are apart.

    >>> nested(np.array([0, 2, 4]), np.array([6, 3, 9])).tolist()
    [0, 0, 1]
    """
    lane = np.zeros(len(start), dtype=np.int64)
    if not len(start) or bool((start[1:] >= end[:-1]).all()):
        return lane
    stacks: list[list[int]] = [[]]  # of each lane, the ends of slices that are open
    for row, (begin, until) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):
        lane[row] = number = _home(stacks, begin, until)
        stacks[number].append(until)
    return lane


def _home(stacks: list[list[int]], begin: int, until: int) -> int:
    """Return the first lane whose open slice, if it has one, lasts long enough; a new one where none does."""
    for number, stack in enumerate(stacks):
        while stack and stack[-1] <= begin:
            stack.pop()
        if not stack or stack[-1] >= until:
            return number
    stacks.append([])
    return len(stacks) - 1
