"""Made-up delay profiles with a known cause, for examples, tests and benchmarks."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
START, END = 0.0478, 0.901  # of the 256-worker profile that Sequential Gradient Coding publishes
SLOPE_S = 2.2  # its response to load, seconds per whole batch


def gilbert_elliott(rounds: int, workers: int, start: float, end: float, seed: int = 0) -> Array:
    """Return who is slow [rounds, workers]: two states, p = `start`, q = `end`, begun in the steady state.

    >>> bool(gilbert_elliott(200, 50, 0.05, 0.5).mean() < 0.15)
    True
    """
    draw = np.random.default_rng(seed)
    slow = np.empty((rounds, workers), dtype=bool)
    slow[0] = draw.random(workers) < start / (start + end)
    chance = draw.random((rounds, workers))
    for number in range(1, rounds):
        slow[number] = np.where(slow[number - 1], chance[number] >= end, chance[number] < start)
    return slow


def lambda_like(
    rounds: int, workers: int, seed: int = 0, start: float = START, end: float = END, heavy: float = 1.0
) -> Array:
    """Return delays [rounds, workers] in seconds at load 0, like 256 cloud functions: additive, slope `SLOPE_S`.

    Workers in time: 0.54 s and a lognormal part of median 0.1 s; late ones: 1.1 s and an exponential part of mean
    0.175 s, `heavy` times as long. Fitted to the order statistics of the published profile: median 0.644 s, 5 % late.

    >>> round(float(np.median(lambda_like(100, 256))), 2)
    0.64
    """
    draw = np.random.default_rng([seed, 1])
    slow = gilbert_elliott(rounds, workers, start, end, seed)
    in_time = 0.54 + 0.1 * np.exp(0.52 * draw.standard_normal((rounds, workers)))
    return np.where(slow, 1.1 + heavy * draw.exponential(0.175, (rounds, workers)), in_time)


def compute_bound(
    rounds: int, workers: int, slowdown: float, start: float, end: float, seed: int = 0,
    fixed_s: float = 0.1, compute_s: float = 0.9,
) -> Array:  # fmt: skip
    """Return delays [rounds, workers] in seconds of GPUs at load 1 / workers: slowness multiplies the computation.

    3 % jitter. Multiplicative, fixed part `fixed_s`.

    >>> round(float(np.median(compute_bound(50, 8, 2.0, 0.01, 0.9))), 1)
    1.0
    """
    draw = np.random.default_rng([seed, 2])
    factor = np.where(gilbert_elliott(rounds, workers, start, end, seed), slowdown, 1.0)
    return fixed_s + compute_s * factor * (1 + 0.03 * np.abs(draw.standard_normal((rounds, workers))))
