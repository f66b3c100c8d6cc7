"""Static backup workers: close every round at the k-th result and drop the rest (Chen and others, 2016).

Two ways to pay. Drop: all n workers hold their usual part, the slowest b of a round are not waited for, and b/n of the
data is lost; seconds per kept data are the round's time over the kept share. Spare: b more machines join, nothing is
lost, and the price is machines. The first is simulated here from recorded rounds; the second is the same with n the
larger number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Backups:
    """What dropping b = 0 .. n-1 workers gives, each [n]: mean `round_s`, and `per_kept_s`, seconds per whole batch."""

    round_s: Array
    per_kept_s: Array

    @property
    def best(self) -> int:
        """Return the number of backup workers with the least time per kept data."""
        return int(np.argmin(self.per_kept_s))


def arrivals_s(times: Array) -> Array:
    """Return when the k-th result of each round is in, [rounds, workers], column k-1 for the k-th.

    >>> arrivals_s(np.array([[3.0, 1.0, 2.0]])).tolist()
    [[1.0, 2.0, 3.0]]
    """
    return np.sort(times, axis=1)


def static(times: Array, constant_s: Array | float = 0.0) -> Backups:
    """Return the time of a round for every number of backup workers, from `times` [rounds, workers] in seconds.

    `constant_s` (a number, or [rounds]) is what every round adds whoever is waited for, such as communication.

    >>> made = static(np.array([[1.0, 1.0, 4.0], [1.0, 1.0, 1.0]]))
    >>> made.round_s.tolist(), made.per_kept_s.tolist(), made.best
    ([2.5, 1.0, 1.0], [2.5, 1.5, 3.0], 1)
    """
    workers = times.shape[1]
    mean = (arrivals_s(times) + np.reshape(constant_s, (-1, 1))).mean(axis=0)[::-1]
    kept = (workers - np.arange(workers)) / workers
    return Backups(mean, mean / kept)


def per_kept_s(times: Array, constant_s: Array | float, backups: int) -> Array:
    """Return each round's time over the share of the data that was kept, [rounds]: what intervals are drawn from.

    >>> per_kept_s(np.array([[1.0, 4.0]]), 0.0, 1).tolist()
    [2.0]
    """
    workers = times.shape[1]
    close = np.partition(times, workers - backups - 1, axis=1)[:, workers - backups - 1]
    return np.asarray((close + constant_s) * workers / (workers - backups))


def exponential_arrival(kept: int, workers: int, mean_s: float = 1.0) -> float:
    """Return the mean time of the `kept`-th of `workers` independent exponential times: H_n - H_(n-k).

    >>> round(exponential_arrival(2, 2), 3), round(exponential_arrival(1, 2), 3)
    (1.5, 0.5)
    """
    return mean_s * float((1.0 / np.arange(workers - kept + 1, workers + 1)).sum())


def dropped_share(times: Array, backups: int) -> Array:
    """Return how often each worker is among those that are not waited for, [workers].

    A worker that is dropped always contributes nothing: its data is never learnt, which a mean over rounds hides.

    >>> dropped_share(np.array([[1.0, 2.0], [1.0, 2.0]]), 1).tolist()
    [0.0, 1.0]
    """
    order = np.argsort(times, axis=1, kind="stable")
    late = order[:, times.shape[1] - backups :]
    return np.asarray(np.bincount(late.ravel(), minlength=times.shape[1]) / len(times))
