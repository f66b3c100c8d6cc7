"""Exact packing of few items: branch and bound over the heaviest item first."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import packing

Array = np.ndarray[Any, Any]

NODES = 200_000
ALIKE_RATIO = 1e-12


class Packed(NamedTuple):
    """`bin_of` [n], the heaviest bin's `load`, the `floor` below which none can be, and whether it is the optimum."""

    bin_of: Array
    load: float
    floor: float
    optimal: bool


def exact(costs: Array, bins: int, nodes: int = NODES) -> Packed:
    """Return the best packing found within so many search nodes; proved where the search ended or met the floor.

    Starts from the better of LPT and Karmarkar-Karp, so it is never worse than either.

    >>> exact(np.array([5.0, 5, 4, 4, 3, 3, 3]), 3)[1:]
    (9.0, 9.0, True)
    """
    costs = np.asarray(costs, dtype=float)
    made = [way(costs, bins) for way in (packing.lpt, packing.karmarkar_karp)]
    heaviest = [float(packing.loads(costs, one, bins).max(initial=0.0)) for one in made]
    best = made[int(np.argmin(heaviest))]
    search = _Search(costs, bins, min(heaviest), nodes)
    found = search.run()
    if found is not None:
        best = found
    load = float(packing.loads(costs, best, bins).max(initial=0.0))
    return Packed(best, load, packing.floor(costs, bins), search.finished)


class _Search:
    """Depth first: the next heaviest item into each bin of a different load; bins of equal load are alike."""

    def __init__(self, costs: Array, bins: int, best: float, nodes: int) -> None:
        self.order = np.argsort(-costs, kind="stable")
        self.costs = costs[self.order].tolist()
        self.loads = [0.0] * bins
        self.best, self.left = best, nodes
        self.enough = packing.floor(costs, bins) * (1 + ALIKE_RATIO)
        self.place = [0] * len(costs)
        self.found: list[int] | None = None
        self.finished = True

    def run(self) -> Array | None:
        """Return the bins of a packing better than the start, None where there is none or none was found."""
        self._down(0)
        if self.found is None:
            return None
        bin_of = np.zeros(len(self.order), dtype=np.int64)
        bin_of[self.order] = self.found
        return bin_of

    def _down(self, item: int) -> None:
        if self.best <= self.enough:
            return
        if item == len(self.costs):
            self.best, self.found = max(self.loads), list(self.place)
            return
        tried: set[float] = set()
        for one in sorted(range(len(self.loads)), key=self.loads.__getitem__):
            load = self.loads[one]
            after = load + self.costs[item]
            if after >= self.best * (1 - ALIKE_RATIO):
                break  # heavier bins only get worse
            if load in tried:
                continue
            tried.add(load)
            self.left -= 1
            if self.left < 0:
                self.finished = False
                return
            self.loads[one], self.place[item] = after, one
            self._down(item + 1)
            self.loads[one] = load
