"""Searches permutations by simulated annealing: many chains side by side, seeded, never worse than where it began.

Moves are Pipette's: swap two places, insert one elsewhere, turn a stretch round, move a stretch. The temperature falls
from a third of the start's cost to a ten-thousandth of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

HOT_RATIO, COLD_RATIO = 0.3, 1e-4


@dataclass(frozen=True)
class Annealed:
    """The best `order` [n] found, its `cost`, and the `best` cost after each move [moves]."""

    order: Array
    cost: float
    best: Array


def anneal(
    cost: Callable[[Array], Array], starts: Array, seed: int = 0, chains: int = 32, moves: int = 2000
) -> Annealed:
    """Return the best permutation found; `cost` maps [chains, n] to [chains], `starts` [k, n] are where chains begin.

    Same seed, same answer.

    >>> value = np.array([3.0, 1.0, 2.0])
    >>> made = anneal(lambda orders: (value[orders] * np.arange(3)).sum(axis=1), np.array([[1, 2, 0]]), moves=50)
    >>> made.order.tolist(), made.cost
    ([0, 2, 1], 4.0)
    """
    draw = np.random.default_rng(seed)
    now = starts[np.arange(max(chains, len(starts))) % len(starts)].copy()
    value = cost(now)
    place = int(value.argmin())
    best, order = float(value[place]), now[place].copy()
    scale = max(best, 1e-300)
    course = np.empty(moves)
    for move, heat in enumerate(np.geomspace(HOT_RATIO, COLD_RATIO, moves) if moves else ()):
        tried = _moved(now, draw)
        made = cost(tried)
        taken = made - value <= -heat * scale * np.log(draw.random(len(now)))
        now[taken], value[taken] = tried[taken], made[taken]
        place = int(value.argmin())
        if value[place] < best:
            best, order = float(value[place]), now[place].copy()
        course[move] = best
    return Annealed(order, best, course)


def _moved(orders: Array, draw: np.random.Generator) -> Array:
    """Return each order with one move made, [chains, n]."""
    count = orders.shape[1]
    made = orders.copy()
    kinds = draw.integers(4, size=len(orders))
    places = np.sort(draw.integers(count, size=(len(orders), 3)), axis=1)
    for row, (kind, (first, middle, last)) in enumerate(zip(kinds.tolist(), places.tolist(), strict=True)):
        order = orders[row]
        if kind == 0:
            made[row, [first, last]] = order[[last, first]]
        elif kind == 1:
            made[row, first : last + 1] = np.roll(order[first : last + 1], 1)
        elif kind == 2:
            made[row, first : last + 1] = order[first : last + 1][::-1]
        else:
            made[row, first : last + 1] = np.roll(order[first : last + 1], last - middle)
    return made
