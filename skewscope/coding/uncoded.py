"""No coding: every worker computes its share and every round waits for the last."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import UsageError
from .rounds import Clock, Rounds, Runs


@dataclass(frozen=True)
class Uncoded:
    """The plain scheme for `workers`.

    >>> Uncoded(4).load
    0.25
    """

    workers: int

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"{self.workers} workers cannot train; at least 1 is needed")

    @property
    def load(self) -> float:
        """Share of the batch that one worker computes per round."""
        return 1 / self.workers

    delay_rounds = 0
    promise = "nothing may be lost: the round ends with the last worker"


def simulate(rounds: Rounds, jobs: int) -> Runs:
    """Return the one run of `jobs` rounds that wait for everybody."""
    clock = Clock(rounds, np.array([1 / rounds.workers]), np.zeros(1), jobs)
    nobody = np.zeros((jobs, 1), dtype=np.int64)
    seconds = clock.shift + clock.factor * rounds.sorted_s[clock.row, -1:]
    return Runs(seconds, nobody, nobody, nobody[0])
