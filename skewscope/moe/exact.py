"""The best placement of few experts, by trying them all: Mixtral's 8 experts on 12 slots and 4 GPUs take a moment.

What GPUs hold is a multiset of G sets of S experts. Where these are few enough, every one that holds all experts is
scored for every layer, which proves the optimum. Where they are more, but ways to share out replicas are few, all of
these are packed instead; then the result is proven only where it meets the bound.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations, combinations_with_replacement
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pack import Held, pack
from .pairing import hottest_pair
from .replicate import Counts, Floats
from .swap import cool, of_slots

FEW_EXPERTS = 16
MOST_PLACEMENTS = 1_200_000
MOST_COUNTS = 50_000
CHUNK = 1 << 17
POLISHED = 64  # best packings of a layer that exchanges are tried on
ENOUGH_RATIO = 1e-9


def placements(experts: int, slots: int, gpus: int) -> int:
    """Return how many multisets of sets of experts there are for equal GPUs, an upper bound on placements to try.

    >>> placements(8, 12, 4)
    455126
    """
    return comb(comb(experts, slots // gpus) + gpus - 1, gpus)


def ways_to_share(experts: int, slots: int) -> int:
    """Return in how many ways slots are shared out to experts that get one or more each.

    >>> ways_to_share(8, 16)
    6435
    """
    return comb(slots - 1, experts - 1)


def enumerable(experts: int, slots: int, gpus: int) -> bool:
    """Return whether the optimum can be proven by trying all placements without a second replica on a GPU."""
    return experts <= FEW_EXPERTS and 0 < placements(experts, slots, gpus) <= MOST_PLACEMENTS


def best_of_all(loads: Floats, slots: int, gpus: int, deadline: float = np.inf) -> tuple[Held, NDArray[np.bool_]]:
    """Return the best placement [L, G, S] of tokens [L, E], and where it is proven [L]; -1 where time was out.

    `deadline` is on the clock of `time.monotonic`. Only for `enumerable` sizes.

    >>> held, proven = best_of_all(np.array([[4.0, 1.0, 1.0]]), slots=4, gpus=2)
    >>> held.tolist(), proven.tolist()
    ([[[0, 1], [0, 2]]], [True])
    """
    held, counts = _all_placements(loads.shape[1], slots, gpus)
    found = np.full((len(loads), gpus, slots // gpus), -1, np.int32)
    proven = np.zeros(len(loads), bool)
    for layer, tokens in enumerate(loads):
        if time.monotonic() > deadline:
            break
        found[layer] = held[_coolest(tokens, held, counts)]
        proven[layer] = True
    return found, proven


def _coolest(tokens: Floats, held: NDArray[np.int8], counts: NDArray[np.int8]) -> int:
    """Return the placement with the coolest hottest GPU; of equals, the one with the least sum of squares."""
    best, least, even = 0, np.inf, np.inf
    for begin in range(0, len(held), CHUNK):
        some = held[begin : begin + CHUNK]
        share = tokens / counts[begin : begin + CHUNK]
        loads = share[np.arange(len(some))[:, None, None], some].sum(2)
        hottest = loads.max(1)
        near = np.flatnonzero(hottest <= min(least, hottest.min()) * (1 + ENOUGH_RATIO))
        squares = (loads[near] ** 2).sum(1)
        if len(near) and (hottest.min() < least * (1 - ENOUGH_RATIO) or squares.min() < even):
            place = near[squares.argmin()]
            best, least, even = begin + int(place), float(hottest[place]), float(squares.min())
    return best


@lru_cache(maxsize=4)
def _all_placements(experts: int, slots: int, gpus: int) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Return all placements [M, G, S] that hold every expert, and their replicas [M, E]."""
    sets = np.array(list(combinations(range(experts), slots // gpus)), np.int8)
    flat = (place for chosen in combinations_with_replacement(range(len(sets)), gpus) for place in chosen)
    chosen = np.fromiter(flat, np.int32).reshape(-1, gpus)
    member = np.zeros((len(sets), experts), np.int8)
    np.put_along_axis(member, sets.astype(np.int64), 1, 1)
    counts = member[chosen].sum(1, dtype=np.int8)
    whole = counts.all(1)
    return sets[chosen[whole]], counts[whole]


def best_of_counts(loads: Floats, slots: int, gpus: int, deadline: float = np.inf) -> Held:
    """Return a good placement [L, G, S] of tokens [L, E]: all shares of replicas, packed; -1 where time was out.

    Only for sizes with at most `MOST_COUNTS` ways to share.

    >>> best_of_counts(np.array([[4.0, 1.0, 1.0]]), slots=4, gpus=2).tolist()
    [[[0, 1], [0, 2]]]
    """
    counts = _all_counts(loads.shape[1], slots, gpus)
    found = np.full((len(loads), gpus, slots // gpus), -1, np.int32)
    for layer, tokens in enumerate(loads):
        if time.monotonic() > deadline:
            break
        found[layer] = _best_packed(tokens, counts, gpus)
    return found


def _best_packed(tokens: Floats, counts: Counts, gpus: int) -> NDArray[np.int32]:
    share = tokens / counts
    held = pack(np.broadcast_to(tokens, share.shape), counts, gpus)
    hottest = of_slots(share, held).sum(2).max(1)
    few = np.argsort(hottest, kind="stable")[:POLISHED]
    mean = np.full(len(few), tokens.sum() / gpus * (1 + ENOUGH_RATIO))
    cooled = cool(held[few], share[few], mean)
    best: NDArray[np.int32] = cooled[of_slots(share[few], cooled).sum(2).max(1).argmin()]
    return best


@lru_cache(maxsize=4)
def _all_counts(experts: int, slots: int, gpus: int) -> Counts:
    """Return all replicas [M, E] that sum to the slots, 1 to G each."""

    def rest(left: int, spare: int) -> Iterator[tuple[int, ...]]:
        if left == 1:
            yield from [(spare + 1,)] if spare < gpus else []
            return
        for more in range(min(spare, gpus - 1) + 1):
            for others in rest(left - 1, spare - more):
                yield (more + 1, *others)

    return np.array(list(rest(experts, slots - experts)), np.int64)


def proven_pairs(loads: Floats, held: Held) -> NDArray[np.bool_]:
    """Return where two slots per GPU cannot be filled better [L]: no way to share out makes a cooler hottest pair."""
    gpus, slots = held.shape[1], held.shape[1] * held.shape[2]
    counts = _all_counts(loads.shape[1], slots, gpus)
    proven = np.zeros(len(held), bool)
    for layer, tokens in enumerate(loads):
        mine = np.bincount(held[layer].ravel(), minlength=len(tokens))
        least = hottest_pair(np.broadcast_to(tokens, counts.shape), counts, slots).min()
        proven[layer] = (tokens / mine)[held[layer]].sum(1).max() <= least * (1 + ENOUGH_RATIO)
    return proven


def small(
    loads: NDArray[Any], slots: int, gpus: int, deadline: float = np.inf
) -> tuple[Held, NDArray[np.bool_]] | None:
    """Return the best placement found by trying all, and where it is proven; None where experts are too many.

    Layers that time did not suffice for hold -1.

    >>> small(np.ones((1, 64)), 64, 8) is None
    True
    """
    tokens = np.asarray(loads, np.float64)
    experts = tokens.shape[1]
    if enumerable(experts, slots, gpus):
        return best_of_all(tokens, slots, gpus, deadline)
    if experts <= FEW_EXPERTS and slots <= experts * gpus and ways_to_share(experts, slots) <= MOST_COUNTS:
        held = best_of_counts(tokens, slots, gpus, deadline)
        paired = slots == 2 * gpus and bool((held >= 0).all())
        return held, proven_pairs(tokens, held) if paired else np.zeros(len(tokens), bool)
    return None
