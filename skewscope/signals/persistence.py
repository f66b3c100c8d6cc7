"""Whether something lasts: in how many of the last windows it was so, and in which spans."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
STRONG_RATIO = 2.0  # times what a threshold asks: such evidence needs one window less to last
QUICK_COUNT, QUICK_OF_COUNT = 2, 3  # windows of strong evidence, for rooms that else wait for many
LEAST_COUNT = 3  # windows: of fewer none can be spared


def held(mask: Array, need: int, of: int) -> Array:
    """Return [windows, series]: True where at least `need` of the last `of` windows are True in `mask`.

    >>> held(np.array([[1], [0], [1], [1], [0]], dtype=bool), 2, 3)[:, 0].tolist()
    [False, False, True, True, True]
    """
    counts = np.cumsum(mask, axis=0, dtype=np.int64)
    counts[of:] -= counts[:-of].copy()
    found: Array = counts >= need
    return found


def lasting(mask: Array, need: int, of: int, strong: Array | None = None) -> Array:
    """Return [windows, series]: `mask` in the spans in which it was held, without what was alone.

    Where `strong` (bool, of the same shape) is given and three windows or more are needed, one less of one less is
    enough of those that are strong: more evidence takes less time.

    >>> lasting(np.array([[1], [0], [0], [0], [1], [1]], dtype=bool), 2, 3)[:, 0].tolist()
    [False, False, False, False, True, True]
    >>> two, one = (np.array([[0], [1], [1], [0]], dtype=bool), np.array([[0], [1], [0], [0]], dtype=bool))
    >>> lasting(two, 3, 4, strong=two)[:, 0].tolist(), bool(lasting(two, 3, 4, strong=one).any())
    ([False, True, True, False], False)
    """
    if strong is not None and need >= LEAST_COUNT:
        return np.asarray(lasting(mask, need, of) | lasting(mask & strong, need - 1, of - 1))
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
