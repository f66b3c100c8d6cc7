"""Whether two series of steps differ by more than chance: medians, an interval of their ratio, and a rank test.

Steps follow one another and resemble their neighbours, so series are put into blocks as long as they remember before
they are tested (the rank test of Mann and Whitney, 1947), and resampled in blocks for the interval. A level that
changes, as where a fault begins, is no memory: it would hide what it is there to show.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np

from ..stats.bootstrap import block_draws, interval
from ..stats.changepoint import changes

Array = np.ndarray[Any, Any]

LEVEL_RATIO = 0.95
ALPHA = 1 - LEVEL_RATIO
NAN = float("nan")
DRAWS = 1000
EXACT = 12  # values on both sides up to which the test counts all orders
LONGEST_MEMORY_RATIO = 0.2  # of a series: more cannot be told from a drift
ROUNDING = 1e-9
SHORT_MEMORY = 2  # what is left within levels; more is a drift, which is not cut into levels
LEVEL_CHANGE_RATIO = 0.02
MOST_LEVELS_COUNT = 7
LEVELLED_COUNT = 200  # steps; a shorter series may wander so by chance
SEARCHED_COUNT = 2000  # values in which levels are looked for
MEMORIES_PER_BLOCK = 2  # with one, blocks still resemble each other: 15 % false alarms instead of 7 % at rho = 0.8
SLOWER, FASTER, SAME, TOO_FEW, UNKNOWN = "slower", "faster", "no-difference", "too-few-steps", "unknown"


@dataclass(frozen=True)
class Change:
    """What became of a median: both medians, their ratio (after over before) with its interval, p, and the answer."""

    before: float
    after: float
    ratio: float
    low_ratio: float
    high_ratio: float
    p: float  # NaN where it cannot be tested
    answer: str


def change(before: Array, after: Array, seed: int = 0) -> Change:
    """Return how the median of a series (any unit, above 0) changed from `before` [n] to `after` [m].

    The answer is "slower" or "faster" where the test and the interval agree that it is no chance, "no-difference"
    where they do not, "too-few-steps" where even the clearest order of so few values could be chance.

    >>> change(np.array([1.0, 1.1, 1.2, 1.05, 1.15]), np.array([2.0, 2.1, 2.2, 2.05, 2.15])).answer
    'slower'
    >>> change(np.array([1.0, 1.1]), np.array([2.0, 2.1])).answer
    'too-few-steps'
    """
    if not len(before) or not len(after):
        first, second = (float(np.median(one)) if len(one) else NAN for one in (before, after))
        return Change(first, second, NAN, NAN, NAN, NAN, UNKNOWN)
    first, second = float(np.median(before)), float(np.median(after))
    low, high = ratio_interval(before, after, seed)
    told, answer = NAN, TOO_FEW
    left, right = blocks(before), blocks(after)
    if enough(len(left), len(right)):
        told = float(p_values(left[:, None], right[:, None])[0])
        sure = told < ALPHA and not low <= 1.0 <= high
        answer = SAME if not sure else SLOWER if second > first else FASTER
    return Change(first, second, second / first, low, high, told, answer)


def ratio_interval(before: Array, after: Array, seed: int = 0, draws: int = DRAWS) -> tuple[float, float]:
    """Return the interval of the ratio of medians, both series resampled in blocks as long as they remember.

    >>> ratio_interval(np.full(8, 2.0), np.full(8, 3.0))
    (1.5, 1.5)
    """
    first, second = (drawn_medians(values, draws, seed + place) for place, values in enumerate((before, after)))
    return interval(second / first, LEVEL_RATIO)


def drawn_medians(values: Array, draws: int = DRAWS, seed: int = 0) -> Array:
    """Return the medians [draws] of a series [n] that is resampled in blocks as long as it remembers."""
    return np.asarray(np.median(values[block_draws(len(values), block_size(values), draws, seed)], axis=1))


def block_size(values: Array) -> int:
    """Return how many steps make a block that hardly knows its neighbours, at most a third of the series."""
    remembered = memory(values)
    if remembered > SHORT_MEMORY and len(values) >= LEVELLED_COUNT:
        within = memory(levelled(values))
        remembered = within if within <= SHORT_MEMORY else remembered
    return 1 if remembered == 1 else min(MEMORIES_PER_BLOCK * remembered, max(1, len(values) // 3))


def levelled(values: Array) -> Array:
    """Return a series [n] over the medians of its levels; as it is where there are very many of them.

    >>> levelled(np.repeat([1.0, 1.5], 60)).tolist() == [1.0] * 120
    True
    """
    each = -(-len(values) // SEARCHED_COUNT)
    whole = len(values) // each * each
    coarse = np.median(values[:whole].reshape(-1, each), axis=1)
    found = changes(coarse, fewest=max(8, len(coarse) // 30), ratio=LEVEL_CHANGE_RATIO)
    if len(found) >= MOST_LEVELS_COUNT:
        return values
    cuts = [change.place * each for change in found]
    parts = np.split(values, cuts)
    return np.concatenate([part / np.median(part) for part in parts])


def memory(values: Array) -> int:
    """Return for how many steps a series [n] remembers: 1 where neighbours are independent.

    The integrated autocorrelation time, summed while the correlation stands out from what chance gives.

    >>> memory(np.random.default_rng(0).standard_normal(200)), memory(np.repeat(np.arange(20.0) % 3, 10)) > 5
    (1, True)
    """
    count = len(values)
    longest = int(count * LONGEST_MEMORY_RATIO)
    if longest < 1 or np.ptp(values) == 0:
        return 1
    ranked = np.argsort(np.argsort(values, kind="stable"), kind="stable") - (count - 1) / 2  # one outlier is no memory
    spectrum = np.abs(np.fft.rfft(ranked, 2 * count)) ** 2  # padded, so that the end does not meet the beginning
    products = np.fft.irfft(spectrum)[: longest + 1]
    rho = products[1:] / products[0]
    faint = rho < 2 / np.sqrt(count)
    total = 1.0 + 2.0 * float(rho[: int(np.argmax(faint)) if faint.any() else longest].sum())
    return max(1, min(longest, int(np.ceil(total - ROUNDING))))


def blocks(values: Array) -> Array:
    """Return the medians of blocks as long as the series [n] remembers, for a test that wants independent values."""
    size = block_size(values)
    if size == 1:
        return values
    count = len(values) // size
    return np.asarray(np.median(values[: count * size].reshape(count, size), axis=1))


def enough(first: int, second: int) -> bool:
    """Return whether so many values can show a difference at all: two sided, the clearest order has p = 2 / C(n+m, n).

    >>> enough(3, 3), enough(4, 4), enough(2, 12), enough(0, 5)
    (False, True, True, False)
    """
    return bool(first and second) and 2 / comb(first + second, first) < ALPHA


def p_values(before: Array, after: Array) -> Array:
    """Return the two-sided p of each column of [n, k] against [m, k] (Mann and Whitney); 1 where all are equal."""
    from scipy.stats import mannwhitneyu  # type: ignore[import-untyped]

    few = min(len(before), len(after)) <= EXACT and len(before) + len(after) <= 4 * EXACT
    same = (np.ptp(before, axis=0) == 0) & (np.ptp(after, axis=0) == 0) & (before[0] == after[0])
    with np.errstate(all="ignore"):
        found = mannwhitneyu(before, after, axis=0, method="exact" if few else "asymptotic").pvalue
    return np.where(same | ~np.isfinite(found), 1.0, np.minimum(found, 1.0))


def adjusted(p: Array) -> Array:
    """Return p values [k] as if one had been asked, by Benjamini and Hochberg (1995): many names, few false ones.

    >>> adjusted(np.array([0.01, 0.04, 0.5])).round(3).tolist()
    [0.03, 0.06, 0.5]
    """
    order = np.argsort(p)
    ranked = p[order] * len(p) / np.arange(1, len(p) + 1)
    smallest = np.minimum.accumulate(ranked[::-1])[::-1]
    made = np.empty(len(p))
    made[order] = np.minimum(smallest, 1.0)
    return made
