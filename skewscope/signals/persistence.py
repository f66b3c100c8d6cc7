"""Whether something lasts: in how many of the last windows it was so, and in which spans."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def held(mask: Array, need: int, of: int) -> Array:
    """Return [windows, series]: True where at least `need` of the last `of` windows are True in `mask`.

    >>> held(np.array([[1], [0], [1], [1], [0]], dtype=bool), 2, 3)[:, 0].tolist()
    [False, False, True, True, True]
    """
    counts = np.cumsum(mask, axis=0, dtype=np.int64)
    counts[of:] -= counts[:-of].copy()
    found: Array = counts >= need
    return found


def lasting(mask: Array, need: int, of: int) -> Array:
    """Return [windows, series]: `mask` in the spans in which it was held, without what was alone.

    >>> lasting(np.array([[1], [0], [0], [0], [1], [1]], dtype=bool), 2, 3)[:, 0].tolist()
    [False, False, False, False, True, True]
    """
    good = held(mask, need, of)
    reach = np.zeros_like(good)
    for back in range(min(of, len(mask))):  # a window counts if one of the next `of` windows still sees it
        reach[: len(mask) - back] |= good[back:]
    found: Array = mask & reach
    return found


def share(mask: Array, known: Array) -> Array:
    """Return [series]: in which share of the known windows it was so, 0 where nothing is known.

    >>> share(np.array([[1], [0]], dtype=bool), np.array([[1], [1]], dtype=bool)).tolist()
    [0.5]
    """
    count = known.sum(axis=0)
    found: Array = (mask & known).sum(axis=0) / np.maximum(count, 1)
    return found
