"""What is usual among those that do the same: medians that leave each one out."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
LEAST_PEERS = 2


def peer_median(values: Array, groups: Array) -> Array:
    """Return for each of `values` [windows, series] the median of the others of its group.

    `groups` [series] are names of any kind. NaN where fewer than two others are known. A culprit does not move its own
    yardstick, which matters in groups of four or eight.

    >>> peer_median(np.array([[1.0, 2.0, 3.0, 90.0]]), np.array(["a"] * 4)).tolist()
    [[3.0, 3.0, 2.0, 2.0]]
    """
    found = np.full(values.shape, np.nan)
    if not values.size:
        return found
    _, codes = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    for code in range(int(codes.max()) + 1):
        columns = np.flatnonzero(codes == code)
        if len(columns) > LEAST_PEERS:
            found[:, columns] = _median_of_others(values[:, columns])
    return found


def _median_of_others(values: Array) -> Array:
    """Return [windows, members]: in sorted order, leaving one out moves the middle by half a place."""
    order = np.argsort(values, axis=1, kind="stable")  # NaN last
    ordered = np.take_along_axis(values, order, axis=1)
    place = np.argsort(order, axis=1, kind="stable")
    others = np.isfinite(values).sum(axis=1, keepdims=True) - 1
    middle = np.stack([(others - 1) // 2, others // 2])
    without = middle + (place[None] <= middle)  # places at or after the one left out move up
    picked = np.take_along_axis(ordered[None], np.clip(without, 0, values.shape[1] - 1), axis=2).mean(axis=0)
    known = np.isfinite(values) & (others >= LEAST_PEERS)
    return np.where(known, picked, np.nan)


def own_median(values: Array, before: int = 0) -> Array:
    """Return [series]: the median of each series over the first `before` windows, over all where that is 0.

    >>> own_median(np.array([[1.0], [3.0], [50.0]]), before=2).tolist()
    [2.0]
    """
    some = values[:before] if before else values
    found = np.full(values.shape[1], np.nan)
    known = np.isfinite(some).any(axis=0)
    if known.any():
        found[known] = np.nanmedian(some[:, known], axis=0)
    return found
