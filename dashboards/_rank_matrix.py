"""Rows of ranks and steps as matrices, and each rank against its peers: quick at ten million rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

Array = np.ndarray[Any, Any]
AT_ONCE = 1_000_000  # cells


def scattered(rank: pd.Series, step: pd.Series, value: Array) -> tuple[Array, Array, Array]:
    """Return (ranks, steps, float32 [ranks, steps]); NaN where nothing was told."""
    every = regular(rank.to_numpy(), step.to_numpy())
    if every is not None:
        return *every, turned(value, *every)
    ranks, row = _numbered(rank.to_numpy())
    steps, column = _numbered(step.to_numpy())
    made = np.full((len(ranks), len(steps)), np.nan, dtype=np.float32)
    made[row, column] = value
    return ranks, steps, made


def turned(value: Array, ranks: Array, steps: Array) -> Array:
    """Return the values of regular rows as float32 [ranks, steps].

    >>> turned(np.array([1, 2, 3, 4]), np.array([0, 1]), np.array([7, 8])).tolist()
    [[1.0, 3.0], [2.0, 4.0]]
    """
    return np.array(value.reshape(len(steps), len(ranks)).T, dtype=np.float32, order="C")


def regular(rank: Array, step: Array) -> tuple[Array, Array] | None:
    """Return (ranks, steps) where the rows are all ranks of the first step, then of the next, and so on; else None.

    >>> regular(np.array([0, 1, 0, 1]), np.array([7, 7, 8, 8]))
    (array([0, 1]), array([7, 8]))
    """
    count = int(np.searchsorted(step, step[0], side="right"))
    if len(step) % count or (np.diff(rank[:count]) <= 0).any():
        return None
    steps, ranks = step.reshape(-1, count), rank.reshape(-1, count)
    sorted_steps = bool((np.diff(steps[:, 0]) > 0).all()) and all((row == row[0]).all() for row in steps)
    if not sorted_steps or not all((row == ranks[0]).all() for row in ranks):
        return None
    return ranks[0].copy(), steps[:, 0].copy()  # views would keep all rows alive


def _numbered(numbers: Array) -> tuple[Array, Array]:
    """Return the distinct numbers, sorted, and each one's place; quick where they lie close together."""
    low, high = int(numbers.min()), int(numbers.max())
    if high - low > 4 * len(numbers) + 1000:
        return np.unique(numbers, return_inverse=True)
    there = np.zeros(high - low + 1, dtype=bool)
    there[numbers - low] = True
    return np.flatnonzero(there) + low, (np.cumsum(there, dtype=np.int32) - 1)[numbers - low]


def places(rows: pd.DataFrame, rank: Array) -> tuple[Array, Array]:
    """Return the host and the stage of each rank, as the first of its rows tells; "" and -1 where none does."""
    node, stage = np.full(len(rank), "", dtype=object), np.full(len(rank), -1, dtype=np.int16)
    if "node" not in rows:
        return node, stage
    first = _first(
        rank, rows["rank"].to_numpy()[: 2 * len(rank)]
    )  # steps after steps: the first ones tell of all ranks
    if (first < 0).any():
        first = _first(rank, rows["rank"].to_numpy())
    some = first >= 0
    node[some] = rows["node"].iloc[first[some]].astype(str).to_numpy()
    stage[some] = rows["stage"].to_numpy()[first[some]]
    return node, stage


def _first(rank: Array, told: Array) -> Array:
    """Return the place of each rank's first mention, -1 where there is none; `rank` is sorted."""
    at = np.searchsorted(rank, told)
    at[at == len(rank)] = 0
    known = np.flatnonzero(rank[at] == told)
    first = np.full(len(rank), -1, dtype=np.int64)
    first[at[known][::-1]] = known[::-1]
    return first


def beyond_peers(values: Array, stage: Array) -> Array:
    """Return values minus the median, in each column, of the rows of the same stage.

    >>> beyond_peers(np.array([[1.0], [1.0], [4.0]], "f4"), np.array([0, 0, 0])).ravel().tolist()
    [0.0, 0.0, 3.0]
    """
    made = np.empty_like(values)
    for one in np.unique(stage):
        some = np.flatnonzero(stage == one)
        first, last = int(some[0]), int(some[-1]) + 1
        at: Any = slice(first, last) if last - first == len(some) else some  # a slice copies nothing
        made[at] = values[at]
        made[at] -= _median(values[at])
    return made


def _median(part: Array) -> Array:
    if part.size > AT_ONCE and part.shape[1] > 1:  # sorting copies: a few columns at a time
        wide = max(1, AT_ONCE // part.shape[0])
        return np.concatenate([_median(part[:, at : at + wide]) for at in range(0, part.shape[1], wide)])
    if np.isfinite(part.sum()):
        return np.median(part, axis=0)
    known = np.isfinite(part).any(axis=0)
    found = np.full(part.shape[1], np.nan, dtype=part.dtype)
    found[known] = np.nanmedian(part[:, known], axis=0)
    return found
