"""Heterogeneity-aware gradient coding: faster workers hold more copies, so that all finish together.

k partitions, each on s + 1 distinct workers, laid out one after the other round a circle (Wang, Guo and others,
"Heterogeneity-aware gradient coding for straggler tolerance", ICDCS 2019). Any s losses are survived.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UsageError
from .response import Response
from .rounds import Runs

Array = np.ndarray[Any, Any]
HALVINGS = 60
LEAST_SHARE = 1e-9


@dataclass(frozen=True)
class Heterogeneous:
    """Coding that survives any `losses` (s); `copies` [workers] of `partitions` (k) sum to k (s + 1).

    >>> Heterogeneous(1, 4, (4, 2, 2)).load
    1.0
    """

    losses: int
    partitions: int
    copies: tuple[int, ...]

    def __post_init__(self) -> None:
        most, total = max(self.copies, default=0), sum(self.copies)
        if not 0 <= self.losses < len(self.copies) or most > self.partitions or min(self.copies) < 0:
            raise UsageError(f"copies lie between 0 and {self.partitions} partitions, and losses below the "
                             f"{len(self.copies)} workers, not {most} and {self.losses}")  # fmt: skip
        if total != self.partitions * (self.losses + 1):
            raise UsageError(f"copies sum to {total}, not to {self.partitions} partitions x {self.losses + 1}")

    @property
    def load(self) -> float:
        """Share of the batch that the most loaded worker computes per round."""
        return max(self.copies) / self.partitions

    delay_rounds = 0

    @property
    def promise(self) -> str:
        """Under which losses every job is finished in time."""
        return f"at most {self.losses} late workers in every round"


def copies(speeds: Array, partitions: int, losses: int) -> Array:
    """Return how many partitions each worker holds [workers]: k (s + 1) v / sum v in whole numbers, at most k.

    Largest remainders are rounded up. Raises UsageError for speeds that are not positive.

    >>> copies(np.array([3.0, 1.0, 1.0, 1.0]), 6, 1).tolist()
    [6, 2, 2, 2]
    >>> copies(np.array([9.0, 1.0, 1.0]), 4, 1).tolist()
    [4, 2, 2]
    """
    speeds = np.asarray(speeds, dtype=float)
    if not (np.isfinite(speeds) & (speeds > 0)).all() or losses >= len(speeds):
        raise UsageError(f"speeds must be positive numbers of more than {losses} workers")
    level = _level(lambda tau: float(np.minimum(tau * speeds, 1.0).sum()), losses + 1.0, 1.0 / speeds.min())
    wanted = np.minimum(level * speeds, 1.0) * partitions
    whole = np.floor(wanted + 1e-9).astype(np.int64)
    rest = partitions * (losses + 1) - int(whole.sum())
    order = np.argsort(-(wanted - whole) + 1e6 * (whole >= partitions), kind="stable")
    whole[order[:rest]] += 1
    return whole


def layout(held: Array, partitions: int) -> list[Array]:
    """Return the partitions of each worker, consecutive round the circle.

    >>> [part.tolist() for part in layout(np.array([2, 1, 1]), 2)]
    [[0, 1], [0], [1]]
    """
    ends = np.cumsum(held)
    return [np.arange(end - count, end) % partitions for end, count in zip(ends, held, strict=True)]


def balanced(seconds: Array, response: Response, was: float, partitions: int, losses: int) -> Heterogeneous:
    """Return the coding under which the median delays [rounds, workers] of all workers become equal.

    In the multiplicative model this is a share in proportion to the speed; in the additive one a slow start is made up
    by less work. Where load costs nothing there is nothing to balance, and all copies are equal.
    """
    middle = np.median(np.asarray(seconds, dtype=float), axis=0)
    if response.kind == "additive":
        if response.slope_s <= 0:
            equal = copies(np.ones(len(middle)), partitions, losses)
            return Heterogeneous(losses, partitions, tuple(equal.tolist()))
        start, per_load = middle - response.slope_s * was, np.full(len(middle), response.slope_s)
    else:
        start, per_load = np.zeros(len(middle)), np.maximum(middle - response.fixed_s, 1e-12) / was

    def shares(done_s: float) -> Array:
        return np.asarray(np.clip((done_s - start) / per_load, LEAST_SHARE, 1.0))

    done = _level(lambda one: float(shares(one).sum()), losses + 1.0, float((start + per_load).max()))
    return Heterogeneous(losses, partitions, tuple(copies(shares(done), partitions, losses).tolist()))


def _level(total: Callable[[float], float], wanted: float, high: float) -> float:
    """Return where the growing function `total` reaches `wanted`, between 0 and `high`."""
    low = min(0.0, high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if total(middle) < wanted else (low, middle)
    return high


def simulate(seconds: Array, response: Response, was: float, scheme: Heterogeneous, jobs: int) -> Runs:
    """Return the one run of `jobs` rounds that end with the (n - s)-th result, each worker at its own load."""
    held = np.array(scheme.copies) / scheme.partitions
    moved = np.sort(response.move(np.asarray(seconds, dtype=float), was, held), axis=1)
    row = np.arange(jobs) % len(moved)
    late = np.full((jobs, 1), scheme.losses, dtype=np.int64)
    return Runs(moved[row, -1 - scheme.losses][:, None], late, late, np.zeros(1, dtype=np.int64))
