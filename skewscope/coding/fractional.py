"""Fractional repetition: groups of workers that compute the same, so one result per group is enough.

The only code whose coefficients are all 1 and therefore safe in every dtype. Uneven groups need no divisibility: with
g = floor(n / (s + 1)) groups each has at least s + 1 workers and owns 1 / g of the batch. It survives any s losses, and
most larger sets, because the round may end as soon as every group has returned one result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UsageError
from .rounds import Clock, Rounds, Runs

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Fractional:
    """Uneven fractional repetition of `workers` that survives any `losses` (s) of a round.

    >>> round(Fractional(256, 27).load, 6), Fractional(256, 15).load
    (0.111111, 0.0625)
    """

    workers: int
    losses: int

    def __post_init__(self) -> None:
        if not 0 <= self.losses < self.workers:
            raise UsageError(f"repetition over {self.workers} workers survives 0 to {self.workers - 1} losses, "
                             f"not {self.losses}")  # fmt: skip

    @property
    def groups(self) -> int:
        """How many groups of workers there are."""
        return self.workers // (self.losses + 1)

    @property
    def load(self) -> float:
        """Share of the batch that one worker computes per round: 1 / groups."""
        return 1 / self.groups

    delay_rounds = 0

    @property
    def promise(self) -> str:
        """Under which losses every job is finished in time."""
        return f"any {self.losses} late workers in every round, and more while each group keeps one"


def members(workers: int, groups: int) -> Array:
    """Return the group of each worker [workers]; neighbours, which share a node, fall into different groups.

    >>> members(7, 3).tolist()
    [0, 1, 2, 0, 1, 2, 0]
    """
    return np.arange(workers) % groups


def simulate(rounds: Rounds, losses: Array, jobs: int) -> Runs:
    """Return the runs of `jobs` rounds for candidates `losses` [candidates], each ending when no group is missing."""
    losses = np.asarray(losses)
    workers, recorded = rounds.workers, len(rounds.sorted_s)
    groups = workers // (losses + 1)
    last = np.empty((recorded, len(losses)), dtype=np.int64)  # the place of the result that completes the round
    done = {count: _completes(rounds, int(count)) for count in np.unique(groups)}
    for column, count in enumerate(groups):
        last[:, column] = done[count]
    clock = Clock(rounds, 1 / groups, np.zeros(len(losses)), jobs)
    row = clock.row[:, None]
    seconds = clock.shift + clock.factor * rounds.sorted_s[row, last[clock.row]]
    late = workers - 1 - last[clock.row]
    return Runs(seconds, late, late, np.zeros(len(losses), dtype=np.int64))


def _completes(rounds: Rounds, groups: int) -> Array:
    """Return the place [rounds] of the worker whose result completes the set of groups."""
    workers = rounds.workers
    padded = np.full((len(rounds.place), -(-workers // groups) * groups), workers, dtype=np.int64)
    padded[:, :workers] = rounds.place
    return np.asarray(padded.reshape(len(padded), -1, groups).min(axis=1).max(axis=1))
