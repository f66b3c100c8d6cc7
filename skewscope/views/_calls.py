"""Host calls as a forest: rows in order, parents as row numbers, sums up the branches, ancestors of a kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..errors import NoData
from ..stats import segments

Array = np.ndarray[Any, Any]

HOW = "record with torch.profiler (activities CPU and CUDA) and read it in detail"


@dataclass(frozen=True)
class Calls:
    """All host calls by rank, thread and start; a parent stands before its children.

    `frame` the rows of `operators` in that order; `key` [n] rising numbers of (rank, call) with `order` [n] the rows
    they belong to; `parent` [n] row of the enclosing call, -1 for none; `depth` [n] calls around it; `start`, `end`
    [n] in ns.
    """

    frame: pd.DataFrame
    key: Array
    order: Array
    width: int
    parent: Array
    depth: Array
    start: Array
    end: Array

    @property
    def lane(self) -> Array:
        """Return one number per row, equal for one thread of one rank."""
        return segments.numbered(self.frame["rank"].to_numpy(), self.frame["thread"].to_numpy())

    def rows(self, rank: Array, call: Array) -> Array:
        """Return the row of each (rank, call), -1 where it is unknown."""
        return _find(self.key, self.order, rank.astype(np.int64) * self.width + call, call)

    def names(self, row: Array) -> Array:
        """Return the name of each row (objects), "" for -1."""
        names = self.frame["name"].array
        table = np.append(np.asarray(names.categories, dtype=object), "")
        return table[np.where(row >= 0, names.codes[row], -1)] if len(self.parent) else np.full(len(row), "", object)

    def of_kind(self, *kinds: str) -> Array:
        """Return which rows are of one of these kinds."""
        kind = self.frame["kind"].array
        wanted = np.array([name in kinds for name in kind.categories] + [False])
        return np.asarray(wanted[kind.codes])


def calls(operators: pd.DataFrame) -> Calls:
    """Return the forest of all host calls. Raises NoData where there are none."""
    if not len(operators):
        raise NoData(f"no host calls in this recording; {HOW}")
    rank, call = operators["rank"].to_numpy().astype(np.int64), operators["call"].to_numpy()
    order = segments.ordered(rank, operators["thread"].to_numpy(), operators["start_ns"].to_numpy(), call)
    frame = operators.iloc[order].reset_index(drop=True)
    rank, call, above = frame["rank"].to_numpy().astype(np.int64), frame["call"].to_numpy(), frame["parent"].to_numpy()
    width = int(max(call.max(), above.max())) + 2
    key = rank * width + call
    by_key = np.argsort(key, kind="stable")
    parent = _find(key[by_key], by_key, rank * width + above, above)
    return Calls(
        frame,
        key[by_key],
        by_key,
        width,
        parent,
        _depth(parent),
        frame["start_ns"].to_numpy(),
        frame["end_ns"].to_numpy(),
    )


def _find(key: Array, order: Array, asked: Array, call: Array) -> Array:
    """Return `order` where `key` (sorted) equals `asked`, -1 elsewhere and where `call` is unknown."""
    if not len(key):
        return np.full(len(asked), -1)
    place = np.minimum(np.searchsorted(key, asked), len(key) - 1)
    return np.asarray(np.where((key[place] == asked) & (call >= 0), order[place], -1))


def _depth(parent: Array) -> Array:
    """Return how many calls are around each.

    >>> _depth(np.array([-1, 0, 1, -1])).tolist()
    [0, 1, 2, 0]
    """
    depth = np.zeros(len(parent), dtype=np.int64)
    row, above = np.arange(len(parent)), parent
    while len(row):
        inner = above >= 0
        row, above = row[inner], above[inner]
        depth[row] += 1
        above = parent[above]
    return depth


def below(forest: Calls, amount: Array) -> Array:
    """Return, for each call, the sum of `amount` [n] over it and all calls in it.

    >>> from ..frames import frame
    >>> rows = {"job": "job", "rank": 0, "call": [0, 1], "parent": [-1, 0], "thread": 0, "kind": "operator",
    ...         "name": ["a", "b"], "start_ns": [0, 1], "end_ns": [9, 3]}
    >>> below(calls(frame("operators", rows)), np.array([1.0, 5.0])).tolist()
    [6.0, 5.0]
    """
    total = amount.astype(float)
    for rows in reversed(_levels(forest)[1:]):
        np.add.at(total, forest.parent[rows], total[rows])
    return total


def self_ns(forest: Calls, among: Array | None = None) -> Array:
    """Return the time of each call that is not inside a call within it (of the rows `among`, bool [n]), in ns."""
    length = (forest.end - forest.start).astype(np.int64)
    rows = np.flatnonzero(forest.parent >= 0 if among is None else (forest.parent >= 0) & among)
    inside = np.bincount(forest.parent[rows], weights=length[rows], minlength=len(length))
    return np.asarray(np.maximum(length - inside.astype(np.int64), 0))


def nearest(forest: Calls, wanted: Array) -> Array:
    """Return, for each call, the row of the innermost call at or around it that is `wanted` (bool [n]); -1 for none."""
    found = np.where(wanted, np.arange(len(wanted)), -1)
    for rows in _levels(forest)[1:]:
        bare = rows[found[rows] < 0]
        found[bare] = found[forest.parent[bare]]
    return np.asarray(found)


def outermost(forest: Calls, wanted: Array) -> Array:
    """Return, for each call, the row of the outermost call at or around it that is `wanted` (bool [n]); -1 for none."""
    found = np.full(len(wanted), -1)
    for level, rows in enumerate(_levels(forest)):
        above = found[forest.parent[rows]] if level else np.full(len(rows), -1)
        found[rows] = np.where(above >= 0, above, np.where(wanted[rows], rows, -1))
    return found


def first_of_name(forest: Calls, name: Array) -> Array:
    """Return which calls are not inside a call of the same `name` (integers [n]): those that totals may count."""
    first = np.ones(len(name), dtype=bool)
    row, above = np.arange(len(name)), forest.parent
    while len(row):
        inner = above >= 0
        row, above = row[inner], above[inner]
        same = name[row] == name[above]
        first[row[same]] = False
        row, above = row[~same], forest.parent[above[~same]]
    return first


def _levels(forest: Calls) -> list[Array]:
    """Return the rows of each depth, outermost first."""
    order = np.argsort(forest.depth, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(forest.depth[order])) + 1)
