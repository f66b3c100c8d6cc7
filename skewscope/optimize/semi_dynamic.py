"""Follows changing speeds: the batch is re-split between rounds from smoothed times of the rounds before.

What it gives in simulation is what a job would see: the first round of a slow phase is paid in full, because the split
only knows the past, and jitter makes the split itself a little uneven.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .resplit import LEAST_GAIN_RATIO

Array = np.ndarray[Any, Any]

SMOOTHING_RATIO = 0.5  # weight of the newest round


class Followed(NamedTuple):
    """`durations_s` [rounds], `shares` [rounds, workers] of the batch used, and how often they were `changed_count`."""

    durations_s: Array
    shares: Array
    changed_count: int


def smoothed(times: Array, weight: float = SMOOTHING_RATIO) -> Array:
    """Return the exponential mean of `times` [rounds, workers] after each round.

    >>> smoothed(np.array([[1.0], [2.0], [2.0]])).ravel().tolist()
    [1.0, 1.5, 1.75]
    """
    out = np.array(times, dtype=float)
    for row in range(1, len(out)):
        out[row] = weight * out[row] + (1 - weight) * out[row - 1]
    return out


def shares_of(per_batch_s: Array, fixed_s: float = 0.0) -> Array:
    """Return the shares [workers] with which all end together; `per_batch_s` is each one's time for the whole batch.

    Fractions: with hundreds of samples per worker, whole ones differ little.

    >>> shares_of(np.array([1.0, 2.0])).round(4).tolist()
    [0.6667, 0.3333]
    """
    speed = 1.0 / np.maximum(per_batch_s, 1e-12)
    return np.asarray(speed / speed.sum())


def follow(
    even_s: Array, constant_s: float = 0.0, weight: float = SMOOTHING_RATIO, least_gain: float = LEAST_GAIN_RATIO
) -> Followed:
    """Return how a job would run that re-splits between rounds.

    `even_s` [rounds, workers]: own work of an even split; `constant_s`: what every round adds (communication).
    A new split is taken where the smoothed times predict a gain above `least_gain` over the split in use.

    >>> follow(np.array([[1.0, 1.0], [1.0, 3.0], [1.0, 3.0]]), 0.5, weight=1.0).durations_s.tolist()
    [1.5, 3.5, 2.0]
    """
    rounds, workers = even_s.shape
    known = smoothed(even_s * workers, weight)
    share = np.full(workers, 1.0 / workers)
    used, changes = np.empty_like(even_s, dtype=float), 0
    for row in range(rounds):
        if row:
            wanted = shares_of(known[row - 1])
            before, after = (constant_s + float((known[row - 1] * one).max()) for one in (share, wanted))
            if before - after > least_gain * before:
                share, changes = wanted, changes + 1
        used[row] = share
    return Followed(constant_s + (even_s * workers * used).max(axis=1), used, changes)
