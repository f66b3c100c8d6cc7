"""The repeated block of a sequence: its period, where it begins and how often it follows itself."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Block(NamedTuple):
    """`length` rows that repeat `times` times from row `first` on."""

    first: int
    length: int
    times: int


def repeated(codes: Array, shortest: int = 4, longest: int = 512, fewest: int = 3) -> Block | None:
    """Return the block that covers most of a sequence of `codes` [n] by repeating; the shortest of those within 5 %.

    A block has `shortest` to `longest` rows of at least two different codes and follows itself `fewest` times or more.
    Cost: `longest` comparisons of the whole sequence.

    >>> repeated(np.array([9, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4, 8]))
    Block(first=1, length=4, times=3)
    """
    found: list[Block] = []
    for length in range(shortest, min(longest, len(codes) // fewest) + 1):
        first, run = _longest_run(codes[length:] == codes[:-length])
        count = (run + length) // length
        if count >= fewest and len(np.unique(codes[first : first + length])) > 1:
            found.append(Block(first, length, count))
    if not found:
        return None
    most = max(block.length * block.times for block in found)
    return min((block for block in found if block.length * block.times >= 0.95 * most), key=lambda block: block.length)


def _longest_run(same: Array) -> tuple[int, int]:
    """Return where the longest run of True begins, and its length."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], same.astype(np.int8), [0]])))
    if not len(edges):
        return 0, 0
    begin, stop = edges[::2], edges[1::2]
    best = int(np.argmax(stop - begin))
    return int(begin[best]), int(stop[best] - begin[best])
