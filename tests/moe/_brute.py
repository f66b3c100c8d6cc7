"""Everything tried, for sizes where that can be done: what planners and bounds are held against."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, combinations_with_replacement, product

import numpy as np

from skewscope.moe.placement import Placement


def layouts(experts: int, slots: int, gpus: int, doubled: bool = False) -> Iterator[np.ndarray]:
    """Yield all placements of one layer [G, S] that hold every expert, GPUs in any one order."""
    choose = combinations_with_replacement if doubled else combinations
    sets = list(choose(range(experts), slots // gpus))
    for chosen in combinations_with_replacement(sets, gpus):
        held = np.array(chosen)
        if len(np.unique(held)) == experts:
            yield held


def hottest(held: np.ndarray, tokens: np.ndarray) -> float:
    """Return the tokens of the hottest GPU of one layer, split evenly over replicas."""
    share = tokens / np.bincount(held.ravel(), minlength=len(tokens))
    return float(share[held].sum(1).max())


def coolest(tokens: np.ndarray, slots: int, gpus: int, doubled: bool = False) -> float:
    """Return the optimum of one layer."""
    return min(hottest(held, tokens) for held in layouts(len(tokens), slots, gpus, doubled))


def shares_of_slots(experts: int, slots: int, most: int) -> Iterator[tuple[int, ...]]:
    """Yield all replicas that sum to the slots."""
    for counts in product(range(1, most + 1), repeat=experts):
        if sum(counts) == slots:
            yield counts


def placed(held: np.ndarray, experts: int, nodes: int = 1) -> Placement:
    """Return GPUs [L, G, S] as a placement."""
    return Placement(np.asarray(held).reshape(len(held), -1), held.shape[1], experts, nodes)


def skewed(rng: np.random.Generator, layers: int, experts: int, sigma: float = 1.0) -> np.ndarray:
    """Return tokens [L, E] as skewed as real routers' are."""
    return np.round(100 * np.exp(sigma * rng.standard_normal((layers, experts)))) + 1
