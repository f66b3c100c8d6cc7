"""How delays come: in bursts or alone, on some workers or on all, with what tail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..stats.bursts import lengths

Array = np.ndarray[Any, Any]
CHRONIC_SHARE = 0.5


@dataclass(frozen=True)
class Bursts:
    """The Gilbert-Elliott chain that fits, and the bursts as counted.

    `start_ratio` p: chance that a worker in time is late in the next round; `end_ratio` q: that a late one recovers,
    NaN where no late worker was seen twice. `mean_rounds` is 1 / q, infinite where no burst ended. `lengths` maps a
    length in rounds to its bursts. `chronic` workers are late in more than half of the rounds.
    """

    start_ratio: float
    end_ratio: float
    slow_ratio: float
    mean_rounds: float
    count: int
    longest_rounds: int
    lengths: dict[int, int]
    late_least: int
    late_mean: float
    late_most: int
    chronic: tuple[int, ...]


@dataclass(frozen=True)
class Tail:
    """Quantiles of all delays in seconds, and what the last worker costs.

    `last_over_median_ratio` is the mean over rounds of the last worker's delay over the median worker's.
    """

    least_s: float
    median_s: float
    p95_s: float
    p99_s: float
    most_s: float
    last_over_median_ratio: float


def late(seconds: Array, mu: float = 1.0) -> Array:
    """Return who is late [rounds, workers]: whoever needs more than (1 + mu) times the fastest of the round.

    >>> late(np.array([[1.0, 2.0, 2.5]])).tolist()
    [[False, False, True]]
    """
    seconds = np.asarray(seconds, dtype=float)
    return np.asarray(seconds > (1 + mu) * seconds.min(axis=1, keepdims=True))


def fit(flags: Array) -> Bursts:
    """Return the bursts of `flags` [rounds, workers], True where a worker is late.

    >>> found = fit(np.array([[0, 0], [1, 0], [1, 0], [0, 0], [0, 1]], dtype=bool))
    >>> found.lengths, round(found.start_ratio, 3), found.end_ratio, found.mean_rounds
    ({1: 1, 2: 1}, 0.333, 0.5, 2.0)
    """
    flags = np.asarray(flags, dtype=bool)
    before, after = flags[:-1], flags[1:]
    start = _ratio((~before & after).sum(), (~before).sum())
    end = _ratio((before & ~after).sum(), before.sum())
    length = lengths(flags)
    sizes, counts = np.unique(length, return_counts=True)
    per_round = flags.sum(axis=1)
    return Bursts(
        0.0 if np.isnan(start) else start, end, float(flags.mean()),
        1 / end if end > 0 else (np.inf if before.any() else 0.0),
        len(length), int(length.max(initial=0)), dict(zip(sizes.tolist(), counts.tolist(), strict=True)),
        int(per_round.min()), float(per_round.mean()), int(per_round.max()),
        tuple(np.flatnonzero(flags.mean(axis=0) > CHRONIC_SHARE).tolist()),
    )  # fmt: skip


def tail(seconds: Array) -> Tail:
    """Return the tail of delays [rounds, workers] in seconds.

    >>> tail(np.array([[1.0, 1.0, 4.0], [1.0, 1.0, 2.0]])).last_over_median_ratio
    3.0
    """
    seconds = np.asarray(seconds, dtype=float)
    least, median, p95, p99, most = np.quantile(seconds, (0, 0.5, 0.95, 0.99, 1)).tolist()
    last = seconds.max(axis=1) / np.median(seconds, axis=1)
    return Tail(least, median, p95, p99, most, float(last.mean()))


def _ratio(part: int, whole: int) -> float:
    return float(part) / float(whole) if whole else float("nan")
