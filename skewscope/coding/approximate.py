"""Approximate gradient coding: late results are dropped, and copies make the lost share of the batch small.

Every chunk has `copies` (d) workers in the groups of fractional repetition; a chunk is lost when all of them are late.
With s random losses the expected lost share is C(s, d) / C(n, d) (Charles, Papailiopoulos and Ellenberg 2017 study the
error of such codes). The best decoder for what arrived is the least squares one of `decode`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np

from ..errors import UsageError
from .fractional import members
from .rounds import Clock, Rounds, Runs

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Approximate:
    """Repetition of `copies` (d) over `workers`, of which the last `losses` (s) of every round are dropped.

    >>> Approximate(256, 2, 16).load, round(Approximate(256, 2, 16).lost_ratio, 5)
    (0.0078125, 0.00368)
    """

    workers: int
    copies: int
    losses: int

    def __post_init__(self) -> None:
        if not (1 <= self.copies <= self.workers and 0 <= self.losses < self.workers):
            raise UsageError(f"approximate coding of {self.workers} workers wants 1 to {self.workers} copies and fewer "
                             f"losses than workers, not {self.copies} and {self.losses}")  # fmt: skip

    @property
    def load(self) -> float:
        """Share of the batch that one worker computes per round: 1 / groups, d / n where d divides n."""
        return 1 / (self.workers // self.copies)

    delay_rounds = 0

    @property
    def lost_ratio(self) -> float:
        """Expected share of the batch that a round loses, were the late workers random."""
        return lost_ratio(self.workers, self.copies, self.losses)

    @property
    def promise(self) -> str:
        """Under which losses every job is finished in time."""
        return f"not exact: a round loses {self.lost_ratio:.2g} of the batch, were its late workers random"


def lost_ratio(workers: int, copies: int, losses: int) -> float:
    """Return the expected share lost when `losses` random workers are late: mean over groups of C(s, d) / C(n, d).

    >>> [float(f"{lost_ratio(256, d, 16):.3g}") for d in (2, 4)]
    [0.00368, 1.04e-05]
    """
    sizes = np.bincount(members(workers, workers // copies)).tolist()
    return sum(comb(losses, size) / comb(workers, size) for size in sizes) / len(sizes)


def simulate(rounds: Rounds, copies: Array, losses: Array, jobs: int) -> Runs:
    """Return the runs of `jobs` rounds, each ending with the (n - s)-th result; `copies`, `losses` [candidates]."""
    copies, losses = np.asarray(copies), np.asarray(losses)
    clock = Clock(rounds, 1 / (rounds.workers // copies), np.zeros(len(losses)), jobs)
    late = np.broadcast_to(losses, (jobs, len(losses)))
    times = rounds.sorted_s[clock.row[:, None], rounds.workers - 1 - losses]
    return Runs(clock.shift + clock.factor * times, late, late, np.zeros(len(losses), dtype=np.int64))


def lost_share(late: Array, copies: int) -> Array:
    """Return the share of the batch [rounds] that a pattern `late` [rounds, workers] loses.

    >>> lost_share(np.array([[1, 0, 1, 0], [1, 1, 0, 0]], dtype=bool), 2).tolist()
    [0.5, 0.0]
    """
    groups = late.shape[1] // copies
    of = members(late.shape[1], groups)
    return np.asarray(np.stack([late[:, of == group].all(axis=1) for group in range(groups)]).mean(axis=0))
