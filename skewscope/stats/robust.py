"""Medians, spreads and tests that stay honest with four peers and with four thousand."""

from __future__ import annotations

from math import erfc, exp, lgamma, log, sqrt
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
MAD_TO_SIGMA = 1.4826


def leave_one_out_median(values: Array) -> Array:
    """Return, for each element of the last axis, the median of the others; NaN elements are ignored.

    With one element there are no others: NaN. Shape is kept.

    >>> leave_one_out_median(np.array([1.0, 2.0, 9.0])).tolist()
    [5.5, 5.0, 1.5]
    """
    values = np.asarray(values, dtype=float)
    order = np.argsort(values, axis=-1, kind="stable")
    ranked = np.take_along_axis(values, order, axis=-1)
    count = np.isfinite(values).sum(axis=-1, keepdims=True)
    place = np.argsort(order, axis=-1, kind="stable")
    others = count - 1
    low, high = (others - 1) // 2, others // 2
    picked = [_skipping(ranked, place, index, count) for index in (low, high)]
    middle = (picked[0] + picked[1]) / 2
    return np.where(np.isfinite(values) & (others >= 1), middle, np.nan)


def _skipping(ranked: Array, place: Array, index: Array, count: Array) -> Array:
    """Return the element at `index` of the ranked values without the one at `place`."""
    moved = np.where(index >= place, index + 1, index)
    return np.take_along_axis(ranked, np.clip(moved, 0, np.maximum(count - 1, 0)), axis=-1)


def mad(values: Array, axis: int = -1) -> Array:
    """Return the median absolute deviation scaled to sigma of a normal spread; NaN is ignored.

    >>> round(float(mad(np.array([1.0, 2.0, 3.0]))), 4)
    1.4826
    """
    values = np.asarray(values, dtype=float)
    centre = np.nanmedian(values, axis=axis, keepdims=True)
    return np.asarray(MAD_TO_SIGMA * np.nanmedian(np.abs(values - centre), axis=axis))


def binomial_tail(hits: int, trials: int, share: float) -> float:
    """Return the probability of at least `hits` of `trials` when each hits with probability `share`.

    >>> round(binomial_tail(5, 8, 1 / 8), 4)
    0.0012
    """
    if hits <= 0:
        return 1.0
    if trials <= 0 or not 0 < share < 1:
        return 1.0 if share >= 1 else 0.0
    whole = lgamma(trials + 1)
    terms = (
        whole - lgamma(k + 1) - lgamma(trials - k + 1) + k * log(share) + (trials - k) * log(1 - share)
        for k in range(hits, trials + 1)
    )
    return min(1.0, sum(exp(term) for term in terms))


def sign_confidence(differences: Array) -> float:
    """Return 0..1: how sure it is that the median difference is above zero (sign test, one sided).

    >>> sign_confidence(np.array([1.0, 2.0, 1.5, 3.0])) > 0.9
    True
    >>> sign_confidence(np.array([1.0, -2.0, 1.5, -3.0])) < 0.5
    True
    """
    finite = np.asarray(differences, dtype=float)
    finite = finite[np.isfinite(finite) & (finite != 0)]
    if not len(finite):
        return 0.0
    return 1.0 - binomial_tail(int((finite > 0).sum()), len(finite), 0.5)


def normal_confidence(effect: float, standard_error: float) -> float:
    """Return 0..1: the probability that an effect with this standard error is above zero.

    >>> round(normal_confidence(2.0, 1.0), 3)
    0.977
    """
    if standard_error <= 0 or not np.isfinite(standard_error):
        return 1.0 if effect > 0 else 0.0
    return 1.0 - 0.5 * erfc(effect / standard_error / sqrt(2.0))


def correlation(first: Array, second: Array) -> float:
    """Return Pearson's correlation of two arrays of shape [n]; NaN where one of them does not vary.

    >>> round(correlation(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.5])), 2)
    1.0
    """
    good = np.isfinite(first) & np.isfinite(second)
    if good.sum() < 3:
        return float("nan")
    one, two = first[good] - first[good].mean(), second[good] - second[good].mean()
    scale = float(np.sqrt((one**2).sum() * (two**2).sum()))
    return float((one * two).sum() / scale) if scale > 0 else float("nan")
