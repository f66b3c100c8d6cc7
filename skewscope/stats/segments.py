"""Reductions over runs of equal keys in sorted arrays: the vectorised group-by of the whole house."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .robust import leave_one_out_median

Array = np.ndarray[Any, Any]


class Runs(NamedTuple):
    """Runs of equal keys: `first` row of each run, its `size`, and `of`, the run that each row belongs to."""

    first: Array
    size: Array
    of: Array


def runs(*keys: Array) -> Runs:
    """Return the runs of rows in which all keys are equal; rows must be sorted by them.

    >>> runs(np.array([4, 4, 7])).size.tolist()
    [2, 1]
    """
    rows = len(keys[0])
    if not rows:
        nothing = np.zeros(0, dtype=np.int64)
        return Runs(nothing, nothing, nothing)
    begins = np.ones(rows, dtype=bool)
    begins[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    first = np.flatnonzero(begins)
    return Runs(first, np.diff(np.append(first, rows)), np.cumsum(begins) - 1)


def ordered(*keys: Array) -> Array:
    """Return the rows in order of the first key, then the second, and so on; keys that are all equal cost nothing.

    >>> ordered(np.array([2, 1, 1]), np.array([0, 0, 0]), np.array([5, 7, 6])).tolist()
    [2, 1, 0]
    """
    telling = [key for key in keys if len(key) and (key[0] != key[-1] or key.min() != key.max())]
    if not telling:
        return np.arange(len(keys[0]))
    packed = _packed(telling)
    return np.lexsort(telling[::-1]) if packed is None else np.argsort(packed, kind="stable")


def _packed(keys: Sequence[Array]) -> Array | None:
    """Return one number per row that has the order of all keys, None where 64 bits do not hold it."""
    made, widest = np.zeros(1, dtype=np.int64), 1
    for key in keys:
        if key.dtype.kind not in "bi":
            return None
        low = int(key.min())
        span = int(key.max()) - low + 1
        widest *= span
        if widest >= 2**62:
            return None
        made = made * span + (key.astype(np.int64) - low)
    return made


def numbered(*keys: Array) -> Array:
    """Return one number per row, equal where all keys (integers) are equal, 0 for the first combination met.

    >>> numbered(np.array([7, 7, 9]), np.array([1, 2, 1])).tolist()
    [0, 1, 2]
    """
    made = np.zeros(len(keys[0]), dtype=np.int64)
    for key in keys:
        part = pd.factorize(key)[0]
        made = pd.factorize(made * (int(part.max(initial=0)) + 1) + part)[0]
    return made


def levels(values: Array) -> tuple[Array, Array]:
    """Return the sorted distinct values of an integer array, and for each element the place of its value among them.

    What `np.unique(values, return_inverse=True)` gives; linear where the values lie close together, as ranks and steps.

    >>> [one.tolist() for one in levels(np.array([7, 5, 7]))]
    [[5, 7], [1, 0, 1]]
    """
    if not len(values):
        return values[:0], np.zeros(0, dtype=np.int64)
    low = int(values.min())
    span = int(values.max()) - low + 1
    if span > 4 * len(values) + 1024:
        found, place = np.unique(values, return_inverse=True)
        return found, place
    there = np.zeros(span, dtype=bool)
    there[values - low] = True
    return (np.flatnonzero(there) + low).astype(values.dtype), (np.cumsum(there) - 1)[values - low]


def maximum(values: Array, over: Runs) -> Array:
    """Return the largest value of each run, shape [runs].

    >>> maximum(np.array([1, 5, 2]), runs(np.array([0, 0, 1]))).tolist()
    [5, 2]
    """
    return np.maximum.reduceat(values, over.first) if len(over.first) else values[:0]


def minimum(values: Array, over: Runs) -> Array:
    """Return the smallest value of each run, shape [runs].

    >>> minimum(np.array([1, 5, 2]), runs(np.array([0, 0, 1]))).tolist()
    [1, 2]
    """
    return np.minimum.reduceat(values, over.first) if len(over.first) else values[:0]


def total(values: Array, over: Runs) -> Array:
    """Return the sum of each run, shape [runs].

    >>> total(np.array([1, 5, 2]), runs(np.array([0, 0, 1]))).tolist()
    [6, 2]
    """
    return np.add.reduceat(values, over.first) if len(over.first) else values[:0]


def ordinal(over: Runs) -> Array:
    """Return the place of each row in its run, from 0.

    >>> ordinal(runs(np.array([3, 3, 8]))).tolist()
    [0, 1, 0]
    """
    return np.arange(len(over.of)) - over.first[over.of] if len(over.of) else over.of


def median(values: Array, over: Runs) -> Array:
    """Return the median of each run, shape [runs]; NaN is ignored, an all-NaN run gives NaN.

    >>> median(np.array([1.0, 5.0, 2.0]), runs(np.array([0, 0, 1]))).tolist()
    [3.0, 2.0]
    """
    out = np.full(len(over.first), np.nan)
    for size, rows, block in _blocks(values, over):
        ranked = np.sort(block, axis=1)
        count = np.isfinite(block).sum(axis=1)
        low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, size - 1)
        line = np.arange(len(block))
        out[rows] = np.where(count > 0, (ranked[line, low] + ranked[line, high]) / 2, np.nan)
    return out


def median_of_others(values: Array, over: Runs) -> Array:
    """Return, for each row, the median of the other rows of its run; NaN where there are none.

    >>> median_of_others(np.array([1.0, 2.0, 9.0]), runs(np.zeros(3))).tolist()
    [5.5, 5.0, 1.5]
    """
    out = np.full(len(values), np.nan)
    for size, rows, block in _blocks(values, over):
        out[(over.first[rows][:, None] + np.arange(size)).ravel()] = leave_one_out_median(block).ravel()
    return out


def _blocks(values: Array, over: Runs) -> list[tuple[int, Array, Array]]:
    """Return (size, run numbers, values as [runs, size]) for each run size, so that runs of one size go together."""
    found = []
    for size in np.unique(over.size):
        rows = np.flatnonzero(over.size == size)
        found.append((int(size), rows, values[over.first[rows][:, None] + np.arange(size)].astype(float)))
    return found
