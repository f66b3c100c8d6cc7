"""What of an imbalance is mere chance: the balance that a perfectly even router would show, and floors of its changes.

Tokens are no independent draws: those of one request are alike, so n of them say as little as n / deff independent
ones. The design effect deff is estimated from how much neighbouring steps differ (an upper estimate: slow drift is in
it) and used in all formulas here; without it noise is understated 3 to 6.5 times in sigma on real loads.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
GRID = np.linspace(-9.0, 9.0, 3601)
_BELOW = np.array([0.5 * math.erfc(-x / math.sqrt(2.0)) for x in GRID])  # the normal distribution on the grid
LEAST_STEPS = 3  # of which two pairs say how much neighbours differ
MOST_PAIRS = 64  # of neighbouring steps that are compared
FEW_PICKS = 4.0  # per expert: below, the floor of the divergence is too high, as empty experts cannot differ


@lru_cache(maxsize=256)
def largest_of_normals(count: int) -> float:
    """Return z, the mean of the largest of `count` standard normal numbers.

    >>> [round(largest_of_normals(gpus), 2) for gpus in (8, 32, 64)]
    [1.42, 2.07, 2.34]
    """
    middle = (GRID[1:] + GRID[:-1]) / 2
    return float(middle @ np.diff(_BELOW**count)) if count > 1 else 0.0


def ceiling(picks: NDArray[Any] | float, bins: int, deff: NDArray[Any] | float = 1.0) -> Floats:
    """Return the mean balancedness that an even router shows: 1 / (1 + z sqrt(bins / n_eff)), n_eff = picks / deff.

    `picks` [..] are tokens x top-k of one layer in what is judged (a step or a window of steps), `bins` GPUs, nodes or
    experts. A placement that is perfect for the true popularity of experts shows the same. 1 where there are no picks.

    >>> round(float(ceiling(1024, 32)), 3), round(float(ceiling(32768, 320)), 3)
    (0.732, 0.777)
    """
    n = np.asarray(picks, np.float64) / np.maximum(np.asarray(deff, np.float64), 1e-12)
    spread = np.sqrt(bins / np.where(n > 0, n, np.inf))
    return np.asarray(1.0 / (1.0 + largest_of_normals(bins) * spread))


def divergence(one: NDArray[Any], other: NDArray[Any]) -> Floats:
    """Return the Jensen-Shannon divergence in bits [..] of two loads [.., E]: 0 alike, 1 apart; NaN of nothing.

    >>> divergence(np.array([1, 1, 0, 0]), np.array([0, 0, 5, 5])).tolist()
    1.0
    """
    p, q = _shares(one), _shares(other)
    middle = (p + q) / 2
    return np.asarray(np.maximum((_bits(p, middle) + _bits(q, middle)) / 2, 0.0))


def divergence_floor(
    experts: NDArray[Any] | int, picks: NDArray[Any] | float, others: NDArray[Any] | float | None = None,
    deff: NDArray[Any] | float = 1.0,
) -> Floats:  # fmt: skip
    """Return the mean divergence in bits of two samples of the same shares: (E - 1) (1/n + 1/m) / (8 ln 2).

    For samples of the same size that is (E - 1) / (4 n ln 2). `experts` counts those that can get tokens at all.

    >>> round(float(divergence_floor(256, 32768)), 5)
    0.00281
    """
    n = np.asarray(picks, np.float64)
    m = n if others is None else np.asarray(others, np.float64)
    with np.errstate(divide="ignore"):
        both = 1.0 / n + 1.0 / m
    return np.asarray((np.asarray(experts) - 1.0) * both * np.asarray(deff) / (8.0 * math.log(2.0)))


def design_effect(counts: NDArray[Any]) -> Floats:
    """Return deff per layer [L] of loads [T, L, E]: how many tokens say as much as one independent one; at least 1.

    It is the median over neighbouring steps of their divergence over its floor, so that one jump between two steps
    does not count. 1 where fewer than three steps can be compared.
    """
    x = np.asarray(counts)
    if x.shape[0] < LEAST_STEPS:
        return np.ones(x.shape[1])
    first = np.unique(np.linspace(0, x.shape[0] - 2, MOST_PAIRS).astype(np.int64))
    one, other = x[first], x[first + 1]
    n, m = one.sum(-1), other.sum(-1)
    known = (x.sum(0) > 0).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        times = divergence(one, other) / divergence_floor(known, n, m)
    times = np.where(np.minimum(n, m) >= FEW_PICKS * known, times, np.nan)
    return np.asarray([_median(column) for column in times.T])


def zero_probability(shares: NDArray[Any] | float, tokens: NDArray[Any] | float) -> Floats:
    """Return the chance that an expert gets none of `tokens` tokens, (1 - q)^tokens; q is k / E for an even router.

    >>> float(zero_probability(8 / 64, 16).round(3))
    0.118
    """
    return np.asarray((1.0 - np.clip(np.asarray(shares, np.float64), 0.0, 1.0)) ** np.asarray(tokens, np.float64))


def tokens_to_judge(experts: int, top_k: int, times: float = 20.0) -> float:
    """Return how many tokens are needed before an expert without any may be called dead: `times` E / k.

    Then an even router leaves one without tokens with a chance of exp(-times).

    >>> tokens_to_judge(64, 8)
    160.0
    """
    return times * experts / max(top_k, 1)


def _median(column: Floats) -> float:
    known = column[np.isfinite(column)]
    return max(1.0, float(np.median(known))) if len(known) >= LEAST_STEPS - 1 else 1.0


def _shares(loads: NDArray[Any]) -> Floats:
    x = np.asarray(loads, np.float64)
    total = x.sum(-1, keepdims=True)
    return np.where(total > 0, x / np.where(total > 0, total, 1.0), np.nan)


def _bits(p: Floats, middle: Floats) -> Floats:
    ratio = np.where(p > 0, p / np.where(middle > 0, middle, 1.0), 1.0)
    return np.asarray((p * np.log2(ratio)).sum(-1))
