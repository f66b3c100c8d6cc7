"""How the popularity of experts moves: slow drift, bursts, and the step at which the workload became another one.

Divergences are in bits, without what chance alone would show (`noise.divergence_floor` with the design effect). The
lines between the same workload and another were measured on real and synthetic loads of 60 experts and more: the same
stays below 0.005 over windows of eight steps, another is above 0.06. With few experts (Mixtral's eight: 0.001 to 0.007
between text domains) divergence says nothing; there only the balance of a plan on later steps counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import noise
from .placement import Placement, balancedness

Floats = NDArray[np.float64]
SAME_BITS, WARN_BITS, ALARM_BITS = 0.005, 0.02, 0.05
REACH_STEPS = 8  # on each side of a change; fewer steps say too little
LEAST_REACH_STEPS = 4
JUDGED_EXPERTS = 32  # with fewer, judge by the balance on later steps instead
HOTTEST_SHARE = 0.1
MOST_PLACES = 256  # at which a change is looked for; longer series are summed up first


@dataclass(frozen=True)
class Drift:
    """What changes between neighbouring windows. `bits` [W - 1, L] are net of `floor`; `overlap` is of the hottest.

    `edges` [W + 1] are places of steps: window w is edges[w] to edges[w + 1] - 1.
    """

    edges: NDArray[np.int64]
    bits: Floats
    floor: Floats
    overlap: Floats


@dataclass(frozen=True)
class Change:
    """A place in the series of steps at which the loads before and after differ: bits, mean over layers, and worst."""

    place: int
    bits: float
    worst_bits: float
    worst_layer: int  # place of the layer


def cut(steps: int, windows: int) -> NDArray[np.int64]:
    """Return the edges [W + 1] of at most `windows` windows of nearly equal length.

    >>> cut(10, 3).tolist()
    [0, 3, 6, 10]
    """
    count = max(1, min(windows, steps))
    return np.asarray(np.arange(count + 1) * steps // count, dtype=np.int64)


def summed(counts: NDArray[Any], edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the loads [W, L, E] of windows of loads [T, L, E]."""
    found: NDArray[np.int64] = np.add.reduceat(np.asarray(counts, np.int64), edges[:-1], axis=0)
    return found


def drift(counts: NDArray[Any], edges: NDArray[np.int64], deff: Floats | float = 1.0) -> Drift:
    """Return what changes from window to window of loads [T, L, E]; `deff` [L] is the design effect of the layers."""
    windows = summed(counts, edges)
    one, other = windows[:-1], windows[1:]
    known = (windows.sum(0) > 0).sum(-1)
    floor = noise.divergence_floor(known, one.sum(-1), other.sum(-1), deff)
    bits = np.nan_to_num(noise.divergence(one, other) - floor)
    return Drift(edges, bits, floor, overlap(one, other))


def overlap(one: NDArray[Any], other: NDArray[Any], share: float = HOTTEST_SHARE) -> Floats:
    """Return which part of the hottest `share` of experts is the same in two loads [.., E]; 1 is all.

    >>> overlap(np.array([9, 8, 1, 1]), np.array([9, 1, 8, 1]), share=0.5).tolist()
    0.5
    """
    first, second = np.asarray(one), np.asarray(other)
    count = max(1, round(share * first.shape[-1]))
    return np.asarray((_hottest(first, count) & _hottest(second, count)).sum(-1) / count)


def changes(counts: NDArray[Any], deff: Floats | float = 1.0, alarm_bits: float = ALARM_BITS) -> list[Change]:
    """Return where the workload of loads [T, L, E] became another one, in the order of steps.

    At each place the loads of the eight steps before are compared with those of the eight from it on; a place counts
    where that is `alarm_bits` or more and more than at any other place within reach. Long series are summed up so
    that at most 512 places are tried; a place is then known to that.
    """
    x = np.asarray(counts, np.int64)
    every = max(1, x.shape[0] // (2 * MOST_PLACES))
    if every > 1:
        x = summed(x, np.arange(0, x.shape[0] + 1, every))
    reach = min(REACH_STEPS, x.shape[0] // 2)
    if reach < LEAST_REACH_STEPS or x.shape[-1] < JUDGED_EXPERTS:
        return []
    bits = _around(x, reach, deff)
    score = bits.mean(-1)
    found = []
    for place in range(len(score)):
        near = score[max(0, place - reach) : place + reach + 1]
        if score[place] >= alarm_bits and score[place] == near.max():
            worst = int(bits[place].argmax())
            found.append(Change((place + reach) * every, float(score[place]), float(bits[place, worst]), worst))
    return found


def bursts(counts: NDArray[Any], deff: Floats | float = 1.0, changed: Sequence[int] = ()) -> list[tuple[int, int]]:
    """Return the spans of places (first, last) of steps whose loads [T, L, E] are others than the rest, for a while.

    Steps are compared with all others between two changes of the workload; where half of them or more differ, the
    others are no rest and nothing is said.
    """
    x = np.asarray(counts, np.int64)
    edges = [0, *changed, x.shape[0]]
    found = []
    for first, last in zip(edges[:-1], edges[1:], strict=True):
        if last - first < 2 * LEAST_REACH_STEPS or x.shape[-1] < JUDGED_EXPERTS:
            continue
        part = x[first:last]
        odd = _apart(part, deff) >= WARN_BITS
        if 2 * odd.sum() < len(odd):
            found += [(first + begin, first + end) for begin, end in _spans(odd)]
    return found


def change_since(before: NDArray[Any], now: NDArray[Any], deff: Floats | float = 1.0) -> Floats:
    """Return the workload change [L] in bits, net: the load of now [L, E] against the one a plan was made for."""
    known = ((np.asarray(before) + np.asarray(now)) > 0).sum(-1)
    floor = noise.divergence_floor(known, np.asarray(before).sum(-1), np.asarray(now).sum(-1), deff)
    return np.asarray(np.maximum(np.nan_to_num(noise.divergence(before, now) - floor), 0.0))


def staleness(placement: Placement, planned: NDArray[Any], now: NDArray[Any]) -> Floats:
    """Return how much of its balance a running plan has kept [L]: balance on the load of now over that of its plan.

    >>> two = Placement(np.array([[0, 1]]), gpus=2, experts=2)
    >>> staleness(two, np.array([[5, 5]]), np.array([[9, 3]])).round(3).tolist()
    [0.667]
    """
    return balancedness(placement.gpu_loads(now)) / balancedness(placement.gpu_loads(planned))


def _around(x: NDArray[np.int64], reach: int, deff: Floats | float) -> Floats:
    """Return net bits [places, L] between the `reach` steps before and from each place on that has so many of both."""
    sums = np.concatenate([np.zeros_like(x[:1]), np.cumsum(x, axis=0)])
    spans = sums[reach:] - sums[:-reach]
    known = (sums[-1] > 0).sum(-1)
    found = []
    for place in range(len(spans) - reach):
        before, after = spans[place], spans[place + reach]
        floor = noise.divergence_floor(known, before.sum(-1), after.sum(-1), deff)
        found.append(np.nan_to_num(noise.divergence(before, after) - floor))
    return np.array(found)


def _apart(x: NDArray[np.int64], deff: Floats | float) -> Floats:
    """Return net bits [T], mean over layers, of each step against all others together."""
    rest = x.sum(0)[None] - x
    known = (x.sum(0) > 0).sum(-1)
    floor = noise.divergence_floor(known, x.sum(-1), rest.sum(-1), deff)
    return np.asarray(np.nan_to_num(noise.divergence(x, rest) - floor).mean(-1))


def _spans(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edge = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return [(int(begin), int(end) - 1) for begin, end in zip(edge[::2], edge[1::2], strict=True)]


def _hottest(loads: NDArray[Any], count: int) -> NDArray[np.bool_]:
    order = np.argsort(-loads, axis=-1, kind="stable")[..., :count]
    mask = np.zeros(loads.shape, dtype=bool)
    np.put_along_axis(mask, order, True, axis=-1)
    return mask
