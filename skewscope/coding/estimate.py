"""What a choice is worth: candidates simulated on the whole profile, an interval, and the bound nobody can pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .families import SEQUENTIAL, Batch, Scheme, closing, parameters, runs, scheme
from .rounds import Rounds, Rules
from .search import Tried

Array = np.ndarray[Any, Any]
DRAWS = 1000
CERTAIN = (0.05, 0.95)
BURSTS_PER_BLOCK = 3


@dataclass(frozen=True)
class Row:
    """One scheme with its parameters as people read them, and `seconds` [rounds] of its run.

    `mu` is None where the scheme has no deadline; `lost_ratio` is the share of the batch a round is expected to lose.
    """

    family: str
    parameters: dict[str, int]
    mu: float | None
    scheme: Scheme
    seconds: Array
    waited_rounds: int
    closing: str

    @property
    def runtime_s(self) -> float:
        """Seconds of the run."""
        return float(self.seconds.sum())

    @property
    def lost_ratio(self) -> float:
        """Expected share of the batch that a round loses; 0 for exact schemes."""
        return float(getattr(self.scheme, "lost_ratio", 0.0))


def row(rounds: Rounds, jobs: int, rules: Rules, batch: Batch) -> Row | None:
    """Return the run of `jobs` jobs of a batch of one candidate, None where a job was lost."""
    made = runs(rounds, batch, jobs, rules)
    if made.lost_jobs[0]:
        return None
    value = int(batch.values[0])
    asked = (batch.family, batch.burst, batch.window, value)
    ends = closing(batch.family, rules)
    mu = float(batch.mus[0]) if "mu" in ends else None
    return Row(batch.family, parameters(*asked), mu, scheme(rounds, *asked), made.seconds[:, 0],
               int(made.waited_rounds[0]), ends)  # fmt: skip


def rows(rounds: Rounds, jobs: int, rules: Rules, tried: Tried, per_family: int) -> list[Row]:
    """Return the best candidates of each family, simulated for `jobs` jobs, fastest first.

    Of the sequential schemes that is the best of each burst and window, of the others the best `per_family`.
    """
    found = []
    for family in dict.fromkeys(tried.family.tolist()):
        for index in _leading(tried, family, per_family):
            batch = Batch(family, int(tried.burst[index]), int(tried.window[index]),
                          tried.value[index : index + 1], tried.mu[index : index + 1])  # fmt: skip
            made = row(rounds, jobs, rules, batch)
            found += [made] if made else []
    return sorted(found, key=lambda one: one.runtime_s)


def _leading(tried: Tried, family: str, per_family: int) -> list[int]:
    mine = (tried.family == family) & np.isfinite(tried.runtime_s)
    if family not in SEQUENTIAL:
        return [int(one) for one in tried.best(mine, per_family)]
    shapes = sorted(set(zip(tried.burst[mine].tolist(), tried.window[mine].tolist(), strict=True)))
    of_shape = (mine & (tried.burst == burst) & (tried.window == window) for burst, window in shapes)
    return [int(tried.best(one)[0]) for one in of_shape]


def saving(before: Array, after: Array) -> float:
    """Return the share of the time that is saved; `before`, `after` are seconds per round.

    >>> saving(np.array([2.0, 2.0]), np.array([1.0, 1.0, 1.0]))
    0.25
    """
    return float(1 - after.sum() / before.sum())


def interval(before: Array, after: Array, burst_rounds: float, seed: int = 0) -> tuple[float, float]:
    """Return the 90 % interval of the saving, from circular blocks of rounds drawn again, at least 3 bursts long.

    Both runs are drawn by the same rounds; rounds after the last job are a fixed price.

    >>> interval(np.full(40, 2.0), np.full(40, 1.0), 1.0)
    (0.5, 0.5)
    """
    jobs = len(before)
    length = BURSTS_PER_BLOCK * burst_rounds if np.isfinite(burst_rounds) else jobs / 4
    block = int(np.clip(np.ceil(max(length, jobs ** (1 / 3))), 1, max(1, jobs // 4)))
    starts = np.random.default_rng(seed).integers(0, jobs, (DRAWS, -(-jobs // block)))
    picked = ((starts[:, :, None] + np.arange(block)) % jobs).reshape(DRAWS, -1)[:, :jobs]
    tail = float(after[jobs:].sum())
    shares = 1 - (after[:jobs][picked].sum(axis=1) + tail) / before[picked].sum(axis=1)
    low, high = np.quantile(shares, CERTAIN).round(12).tolist()
    return low, high


def bound_s(rounds: Rounds, jobs: int) -> float:
    """Return seconds that no scheme undercuts: each round at least the fastest worker with an uncoded share.

    Whoever returns every job's gradient computes 1 / n of the batch per worker and round at least, on the average.
    """
    shift, factor = rounds.response.line(rounds.load, 1 / rounds.workers)
    row_ = np.arange(jobs) % len(rounds.sorted_s)
    return float((shift + factor * rounds.sorted_s[row_, 0]).sum())
