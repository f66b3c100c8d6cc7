"""Deals sequences to steps and ranks: within each step, or across a whole corpus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from . import packing
from .packing_exact import exact

Array = np.ndarray[Any, Any]

EXACT_MOST = 20  # sequences of a step up to which the exact packing is tried
EXACT_NODES = 4000
ALIKE_RATIO = 1e-3


class Deal(NamedTuple):
    """The step and the rank of each sequence, both [n] integers."""

    step_of: Array
    rank_of: Array

    def loads(self, costs: Array, ranks: int) -> Array:
        """Return the cost of each rank in each step, [steps, ranks].

        >>> Deal(np.array([0, 0, 1]), np.array([0, 1, 0])).loads(np.array([1.0, 2.0, 3.0]), 2).tolist()
        [[1.0, 2.0], [3.0, 0.0]]
        """
        steps = int(self.step_of.max(initial=-1)) + 1
        return np.bincount(self.step_of * ranks + self.rank_of, costs, steps * ranks).reshape(steps, ranks)


def by_step(costs: Array, ranks: int, per_step: int, way: str = "karmarkar_karp") -> Deal:
    """Return the deal of every `per_step` sequences in turn, packed in one of `packing.WAYS`, or "exact".

    >>> by_step(np.array([3.0, 1.0, 2.0, 2.0]), 2, 4, "lpt").rank_of.tolist()
    [0, 0, 1, 1]
    """
    step_of = np.arange(len(costs)) // per_step
    rank_of = np.zeros(len(costs), dtype=np.int64)
    for first in range(0, len(costs), per_step):
        part = costs[first : first + per_step]
        small = way == "exact" and len(part) <= EXACT_MOST
        rank_of[first : first + per_step] = (
            exact(part, ranks, EXACT_NODES).bin_of if small
            else packing.WAYS["karmarkar_karp" if way == "exact" else way](part, ranks)
        )  # fmt: skip
    return Deal(step_of, rank_of)


def across(costs: Array, ranks: int, steps: int, seed: int = 0) -> Deal:
    """Return the deal of a whole corpus to so many steps: equal parts, and the unavoidably long ones in one step.

    All sequences are packed into steps x ranks parts, longest first; parts of like cost then share a step. The order
    of the steps is drawn, so that long ones do not all come first.

    >>> deal = across(np.array([9.0, 1, 1, 1, 9, 1, 1, 1]), 2, 2)
    >>> sorted(deal.loads(np.array([9.0, 1, 1, 1, 9, 1, 1, 1]), 2).tolist())
    [[3.0, 3.0], [9.0, 9.0]]
    """
    part = packing.lpt(costs, steps * ranks)
    order = np.argsort(-packing.loads(costs, part, steps * ranks), kind="stable")
    place = np.empty(steps * ranks, dtype=np.int64)
    place[order] = np.arange(steps * ranks)
    drawn = np.random.default_rng(seed).permutation(steps)
    return Deal(drawn[place[part] // ranks], place[part] % ranks)


def time(loads: Array) -> float:
    """Return how long all steps last: each as long as its heaviest rank; `loads` [steps, ranks].

    >>> time(np.array([[1.0, 2.0], [3.0, 0.0]]))
    5.0
    """
    return float(loads.max(axis=1).sum())


def floor_by_step(costs: Array, ranks: int, per_step: int) -> float:
    """Return what no packing within steps can be below: each step's longest sequence or its equal share.

    >>> floor_by_step(np.array([3.0, 1.0, 2.0, 2.0]), 2, 2)
    5.0
    """
    parts = (costs[first : first + per_step] for first in range(0, len(costs), per_step))
    return sum(packing.floor(part, ranks) for part in parts)


def floor_across(costs: Array, ranks: int) -> float:
    """Return what no deal of the corpus can be below: an equal share of all, or the longest sequence.

    >>> floor_across(np.array([3.0, 1.0, 2.0, 2.0]), 2)
    4.0
    """
    return packing.floor(costs, ranks)


@dataclass(frozen=True)
class Compared:
    """Ways to deal the same sequences: `deals` and the `times` of all steps, by name, beside `floor` and equal shares.

    `even` is the time if all ranks were level in every step; `floor` bounds every deal of this kind.
    """

    deals: dict[str, Deal]
    times: dict[str, float]
    even: float
    floor: float

    def ratio(self, way: str) -> float:
        """Return how much longer than with level ranks the steps last."""
        return (self.floor if way == "floor" else self.times[way]) / self.even

    @property
    def best(self) -> str:
        """Return the way with the least time; the one named first of those that are as good to a thousandth."""
        least = min(self.times.values())
        return next(way for way, time in self.times.items() if time <= least * (1 + ALIKE_RATIO))


def compare(tokens: Array, costs: Array, ranks: int, per_step: int, recorded: Deal | None = None) -> Compared:
    """Return the usual ways to deal each step's sequences; today's (`recorded`, else round robin) comes first.

    >>> compared = compare(np.array([8, 7, 6, 5, 4]), np.array([8.0, 7, 6, 5, 4]), 2, 5)
    >>> compared.times["lpt_cost"], compared.times["karmarkar_karp"], compared.best
    (17.0, 16.0, 'exact')
    """
    deals = {"recorded": recorded} if recorded is not None else {}
    if recorded is None or per_step > ranks:
        deals |= {
            "round_robin": by_step(costs, ranks, per_step, "round_robin"),
            "lpt_tokens": by_step(tokens.astype(float), ranks, per_step, "lpt"),
            "lpt_cost": by_step(costs, ranks, per_step, "lpt"),
            "karmarkar_karp": by_step(costs, ranks, per_step),
        }
        if per_step <= EXACT_MOST:
            deals["exact"] = by_step(costs, ranks, per_step, "exact")
    times = {way: time(deal.loads(costs, ranks)) for way, deal in deals.items()}
    return Compared(deals, times, float(costs.sum()) / ranks, floor_by_step(costs, ranks, per_step))


def with_corpus(compared: Compared, costs: Array, ranks: int, steps: int, seed: int = 0) -> Compared:
    """Return the comparison with the deal across all steps too; its floor is the corpus's."""
    deal = across(costs, ranks, steps, seed)
    times = {**compared.times, "corpus": time(deal.loads(costs, ranks))}
    return Compared({**compared.deals, "corpus": deal}, times, compared.even, floor_across(costs, ranks))
