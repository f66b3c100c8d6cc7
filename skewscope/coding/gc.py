"""Gradient coding (Tandon, Lei, Dimakis and Karampatziakis, ICML 2017): any `losses` workers of a round may be late.

Each worker computes losses + 1 chunks of the batch and returns one combination of their gradients, so that any
workers - losses results give the sum of all chunks. Matrices and decoders: `matrices`, `decode`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UsageError
from .rounds import Clock, Rounds, Rules, Runs

Array = np.ndarray[Any, Any]
EAGER = "eager"


@dataclass(frozen=True)
class Gc:
    """Gradient coding of `workers` that survives `losses` (s) late ones in every round.

    >>> Gc(256, 15).load
    0.0625
    """

    workers: int
    losses: int

    def __post_init__(self) -> None:
        if not 0 <= self.losses < self.workers:
            raise UsageError(f"gradient coding of {self.workers} workers survives 0 to {self.workers - 1} losses, "
                             f"not {self.losses}")  # fmt: skip

    @property
    def load(self) -> float:
        """Share of the batch that one worker computes per round: (s + 1) / n."""
        return float(loads(self.workers, self.losses))

    delay_rounds = 0

    @property
    def promise(self) -> str:
        """Under which losses every job is finished in time."""
        return f"at most {self.losses} late workers in every round"


def loads(workers: int, losses: Array | int) -> Array:
    """Return the loads [...] of gradient coding for `losses` [...]."""
    return (np.asarray(losses) + 1) / workers


def simulate(rounds: Rounds, losses: Array, mus: Array, jobs: int, rules: Rules | str = EAGER) -> Runs:
    """Return the runs of `jobs` rounds for candidates `losses` [candidates], `mus` [candidates].

    `rules` "eager" has no deadline: the round ends with the (n - s)-th result, which no other rule undercuts. With
    `Rules` it ends at the deadline, and is waited out where more than s are late (both ways to accept are the same).
    """
    losses = np.asarray(losses)
    clock = Clock(rounds, loads(rounds.workers, losses), np.asarray(mus, dtype=float), jobs)
    none_lost = np.zeros(len(losses), dtype=np.int64)
    if isinstance(rules, str):
        late = np.broadcast_to(losses, (jobs, len(losses)))
        times = rounds.sorted_s[clock.row[:, None], rounds.workers - 1 - losses]
        return Runs(clock.shift + clock.factor * times, late, late, none_lost)
    allowed = np.broadcast_to(losses, clock.beyond.shape)
    if rules.wait_out == "all":
        late = np.where(clock.beyond <= allowed, clock.beyond, 0)
    else:
        late = np.minimum(clock.beyond, allowed)
    return Runs(clock.all_seconds(late), late, clock.beyond, none_lost)
