"""Intervals by resampling rounds in blocks, so that bursts that last several rounds stay whole."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

DRAWS = 400
LEVEL_RATIO = 0.9
BURSTS_PER_BLOCK = 3.0  # a block holds whole bursts, or their cost is cut in two
MOST_OF_ROUNDS_RATIO = 0.25  # fewer than four blocks say nothing of their spread


def block_draws(rounds: int, block: int, draws: int = DRAWS, seed: int = 0) -> Array:
    """Return row numbers [draws, rounds], each row a resampling in blocks of `block` rounds (circular: ends meet).

    Politis and Romano, "A circular block-resampling procedure for stationary data", 1992.

    >>> block_draws(6, 3, 1, seed=1).tolist()
    [[2, 3, 4, 3, 4, 5]]
    """
    block = min(max(block, 1), rounds)
    blocks = -(-rounds // block)
    starts = np.random.default_rng(seed).integers(0, rounds, (draws, blocks))
    places = (starts[:, :, None] + np.arange(block)).reshape(draws, -1)[:, :rounds]
    return np.asarray(places % rounds)


def block_rounds(rounds: int, mean_burst_rounds: float) -> int:
    """Return the length of a block: at least three mean bursts (NaN: none), at most a quarter of the recording.

    >>> block_rounds(400, 4.2), block_rounds(20, 4.2)
    (13, 5)
    """
    wanted = int(np.ceil(BURSTS_PER_BLOCK * mean_burst_rounds)) if mean_burst_rounds > 1 else int(BURSTS_PER_BLOCK)
    return max(1, min(wanted, int(rounds * MOST_OF_ROUNDS_RATIO)))


def interval(values: Array, level: float = LEVEL_RATIO) -> tuple[float, float]:
    """Return the central interval of resampled values that holds `level` of them; NaN is ignored.

    >>> [round(end, 6) for end in interval(np.arange(101.0))]
    [5.0, 95.0]
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_interval(values: Array, mean_burst_rounds: float = 1.0, seed: int = 0) -> tuple[float, float]:
    """Return the interval of the mean of a series [rounds], resampled in blocks.

    >>> mean_interval(np.full(20, 2.0))
    (2.0, 2.0)
    """
    draws = block_draws(len(values), block_rounds(len(values), mean_burst_rounds), seed=seed)
    return interval(values[draws].mean(axis=1))
