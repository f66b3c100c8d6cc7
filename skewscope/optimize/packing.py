"""Packs items of unequal cost into bins so that the heaviest is light: the ways a data loader can deal sequences.

Every function takes `costs` [n] and returns the bin of each item, [n] integers. No way is below `floor`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def floor(costs: Array, bins: int) -> float:
    """Return what no packing can be below: the heaviest item, or an equal share of all.

    >>> floor(np.array([8.0, 7.0, 6.0, 5.0, 4.0]), 2)
    15.0
    """
    return max(float(costs.max(initial=0.0)), float(costs.sum()) / bins)


def loads(costs: Array, bin_of: Array, bins: int) -> Array:
    """Return the cost of each bin, [bins].

    >>> loads(np.array([1.0, 2.0, 4.0]), np.array([0, 1, 0]), 3).tolist()
    [5.0, 2.0, 0.0]
    """
    return np.bincount(bin_of, costs, bins)


def round_robin(costs: Array, bins: int) -> Array:
    """Return the deal by position, whatever the cost: item i goes to bin i mod `bins`.

    >>> round_robin(np.ones(5), 2).tolist()
    [0, 1, 0, 1, 0]
    """
    return np.arange(len(costs)) % bins


def lpt(costs: Array, bins: int) -> Array:
    """Return the packing of the heaviest first into the lightest bin: at most 4/3 - 1/(3 bins) of the optimum.

    Graham, "Bounds on multiprocessing timing anomalies", 1969.

    >>> loads(np.array([8.0, 7, 6, 5, 4]), lpt(np.array([8.0, 7, 6, 5, 4]), 2), 2).tolist()
    [17.0, 13.0]
    """
    return _lightest_first(costs, bins, len(costs))


def lpt_equal_size(costs: Array, bins: int) -> Array:
    """Return the same with bins that close at n / bins items: every rank keeps the same number of sequences.

    >>> lpt_equal_size(np.array([9.0, 1, 1, 1]), 2).tolist()
    [0, 1, 1, 0]
    """
    return _lightest_first(costs, bins, -(-len(costs) // bins))


def _lightest_first(costs: Array, bins: int, most: int) -> Array:
    bin_of = np.zeros(len(costs), dtype=np.int64)
    open_bins = [(0.0, one, 0) for one in range(bins)]
    for item in np.argsort(-costs, kind="stable"):
        load, lightest, held = heapq.heappop(open_bins)
        bin_of[item] = lightest
        if held + 1 < most:
            heapq.heappush(open_bins, (load + float(costs[item]), lightest, held + 1))
    return bin_of


def karmarkar_karp(costs: Array, bins: int) -> Array:
    """Return the packing by largest differences: the two most uneven partial packings are joined, heavy with light.

    Karmarkar and Karp, "The differencing method of set partitioning", 1982, for any number of bins.

    >>> loads(np.array([8.0, 7, 6, 5, 4]), karmarkar_karp(np.array([8.0, 7, 6, 5, 4]), 2), 2).tolist()
    [14.0, 16.0]
    """
    tie = count()
    heap: list[tuple[float, int, list[float], list[Any]]] = []
    for item in np.argsort(-costs, kind="stable"):
        sums = [0.0] * (bins - 1) + [float(costs[item])]
        heap.append((-sums[-1], next(tie), sums, [None] * (bins - 1) + [int(item)]))
    heapq.heapify(heap)
    while len(heap) > 1:
        _, _, sums, parts = heapq.heappop(heap)
        _, _, more, others = heapq.heappop(heap)
        joined = [_join(one, other) for one, other in zip(parts, reversed(others), strict=True)]
        total = [one + other for one, other in zip(sums, reversed(more), strict=True)]
        order = sorted(range(bins), key=total.__getitem__)
        total, joined = [total[one] for one in order], [joined[one] for one in order]
        heapq.heappush(heap, (total[0] - total[-1], next(tie), total, joined))
    bin_of = np.zeros(len(costs), dtype=np.int64)
    for number, tree in enumerate(heap[0][3] if heap else []):
        bin_of[_leaves(tree)] = number
    return bin_of


def _join(one: Any, other: Any) -> Any:  # noqa: ANN401 - a tree of item numbers: None, a number, or a pair
    return other if one is None else one if other is None else (one, other)


def _leaves(tree: Any) -> list[int]:  # noqa: ANN401
    """Return the item numbers of a tree of pairs; trees are deep, so without recursion."""
    found, todo = [], [tree]
    while todo:
        part = todo.pop()
        if isinstance(part, tuple):
            todo.extend(part)
        elif part is not None:
            found.append(part)
    return found


WAYS: dict[str, Callable[[Array, int], Array]] = {
    "round_robin": round_robin, "lpt": lpt, "lpt_equal_size": lpt_equal_size, "karmarkar_karp": karmarkar_karp,
}  # fmt: skip
