"""Replica counts for GPUs of two slots, where counts and pairs must be chosen together.

On GPUs of at most T tokens a replica of h > T / 2 needs a partner of at most T - h. The heaviest averages give every
heavy expert as many replicas as it can use and leave no light partners; here the aim T is halved towards the bound, and
for each aim every further slot goes where it relieves most: to a heavy expert, or to a light one that then makes two
partners. Then single slots move from expert to expert while that lowers what GPUs are above a lower aim. For given
counts the pairs themselves are exact: the heaviest replica beside the lightest.

Rows are independent problems: a layer, or a node of a layer. B rows, E experts, P slots, G GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .replicate import Counts, Floats, replicate

HALVINGS = 7
LEVELS = 64  # of heavy replicas at which want of partners is counted
NEAR_RATIO = 1e-3  # of the hottest GPU: closer to the bound is not worth another try
STEP_RATIO = 2e-3  # by which each aim of the exchange lies below what is reached
ROUNDS = 60
GIVERS, BEST_GIVERS, HEAVY, LIGHT = 12, 3, 12, 6  # experts that an exchange tries to take from and to give to
ROUNDING = 1e-9


def paired_counts(loads: NDArray[Any], slots: int, gpus: int, least: NDArray[Any] | None = None) -> Counts:
    """Return replicas [B, E] for two slots per GPU, the hottest pair as cool as was found: tokens [B, E].

    Never worse than the highest averages. `least` [B] are tokens of a GPU that nothing can pass, where known: rows
    that are near it end early.

    >>> loads = np.array([[8.0, 6.0, 2.0, 2.0, 2.0]])
    >>> paired_counts(loads, slots=6, gpus=3).tolist()
    [[2, 1, 1, 1, 1]]
    """
    loads = np.asarray(loads, np.float64)
    search = _Search.begin(loads, slots, gpus, least)
    low, high = search.least.copy(), search.hottest.copy()
    for _ in range(HALVINGS):
        rows = np.flatnonzero(high > low * (1 + NEAR_RATIO))
        if not len(rows):
            break
        aim = (low + high)[rows] / 2
        reached = search.offer(rows, cover(loads[rows], aim, slots, gpus))
        met = reached <= aim * (1 + NEAR_RATIO)
        high[rows[met]], low[rows[~met]] = aim[met], aim[~met]
    return _exchange(search)


@dataclass
class _Search:
    """The best counts found so far [B, E], their hottest GPU [B] and what it cannot be below."""

    loads: Floats
    slots: int
    gpus: int
    least: Floats
    counts: Counts
    hottest: Floats

    @classmethod
    def begin(cls, loads: Floats, slots: int, gpus: int, least: NDArray[Any] | None) -> _Search:
        counts = replicate(loads, slots, gpus)
        floor = np.maximum(loads.sum(1) / gpus, (loads / counts).max(1))
        floor = floor if least is None else np.maximum(floor, least)
        return cls(loads, slots, gpus, floor, counts, hottest_pair(loads, counts, slots))

    def offer(self, rows: NDArray[np.int64], counts: Counts) -> Floats:
        """Keep counts of some rows where they are better; return the hottest GPU of each that was offered."""
        fits = counts.sum(1) == self.slots
        tried = np.where(fits[:, None], counts, self.counts[rows])
        reached = np.where(fits, hottest_pair(self.loads[rows], tried, self.slots), np.inf)
        better = reached < self.hottest[rows]
        self.counts[rows[better]], self.hottest[rows[better]] = tried[better], reached[better]
        return reached


def pair_sums(loads: Floats, counts: Counts, slots: int) -> tuple[Floats, Floats]:
    """Return replicas in falling order [B, P] and the tokens of GPUs [B, P / 2], heaviest with lightest.

    Slots that `counts` leave over weigh nothing.

    >>> pair_sums(np.array([[6.0, 3.0]]), np.array([[2, 1]]), 4)[1].tolist()
    [[3.0, 6.0]]
    """
    share = loads / counts
    order = np.argsort(-share, axis=1, kind="stable")
    repeats = np.take_along_axis(counts, order, 1)
    left = np.maximum(slots - counts.sum(1), 0)[:, None]
    values = np.concatenate([np.take_along_axis(share, order, 1), np.zeros((len(loads), 1))], 1)
    weights = np.repeat(values.ravel(), np.concatenate([repeats, left], 1).ravel()).reshape(len(loads), slots)
    half = slots // 2
    return weights, weights[:, :half] + weights[:, ::-1][:, :half]


def hottest_pair(loads: Floats, counts: Counts, slots: int) -> Floats:
    """Return the tokens of the hottest GPU [B] with the heaviest replicas beside the lightest."""
    highest: Floats = pair_sums(loads, counts, slots)[1].max(1)
    return highest


def cover(loads: Floats, aim: Floats, slots: int, gpus: int) -> Counts:
    """Return counts [B, E] in which as few heavy replicas as could be found want a partner, if GPUs take `aim` [B].

    Want at h is how far replicas of h and more outnumber those of `aim` - h and less. One more replica of an expert
    changes it by the same amount whatever the others do, so each slot goes to the expert that lowers the sum of want
    most. Rows where even the heaviest replicas need more slots sum to more than `slots`.
    """
    rows = np.arange(len(loads))
    counts = np.maximum(1, np.ceil(loads / aim[:, None] - ROUNDING)).astype(np.int64)
    heavy = aim[:, None] / 2 * (1 + np.arange(LEVELS) / LEVELS) + aim[:, None] * ROUNDING
    light = aim[:, None] - heavy

    def wants(tokens: Floats, held: Counts) -> NDArray[np.float32]:
        weight = (tokens / held)[..., None]
        at = (slice(None), *(None,) * (tokens.ndim - 1))
        return (held[..., None] * ((weight >= heavy[at]) * 1.0 - (weight <= light[at]))).astype(np.float32)

    now = wants(loads, counts)
    more = np.where((counts < gpus)[..., None], wants(loads, counts + 1) - now, np.float32(slots))
    want = now.sum(1)
    for _ in range(int(max(slots - counts.sum(1).min(), 0))):
        left = counts.sum(1) < slots
        taker = np.maximum(want[:, None] + more, 0).sum(-1).argmin(1)
        want[left] += more[rows, taker][left]
        counts[rows[left], taker[left]] += 1
        tokens, held = loads[rows, taker], counts[rows, taker]
        step = wants(tokens, held + 1) - wants(tokens, held)
        more[rows, taker] = np.where((held < gpus)[:, None], step, np.float32(slots))
    return counts


def _exchange(search: _Search) -> Counts:
    """Return better counts: a slot of one expert given to another, again and again, towards aims that fall."""
    counts = search.counts.copy()
    aim = np.maximum(search.hottest * (1 - STEP_RATIO), search.least)
    above = _above(search.loads, counts, aim, search.slots)
    rows = np.flatnonzero(search.hottest > search.least * (1 + NEAR_RATIO))
    for _ in range(ROUNDS):
        if not len(rows):
            break
        tried, value = _best_move(search.loads[rows], counts[rows], aim[rows], search.slots, search.gpus)
        helps = value < above[rows] * (1 - ROUNDING)
        rows, tried, value = rows[helps], tried[helps], value[helps]
        counts[rows], above[rows] = tried, value
        done = rows[value <= aim[rows] * ROUNDING]
        search.offer(done, counts[done])
        aim[done] = np.maximum(search.hottest[done] * (1 - STEP_RATIO), search.least[done])
        above[done] = _above(search.loads[done], counts[done], aim[done], search.slots)
        rows = rows[search.hottest[rows] > search.least[rows] * (1 + NEAR_RATIO)]
    return search.counts


def _above(loads: Floats, counts: Counts, aim: Floats, slots: int) -> Floats:
    """Return by how much GPUs are above the aim, in sum [B]."""
    excess: Floats = np.maximum(pair_sums(loads, counts, slots)[1] - aim[:, None], 0).sum(1)
    return excess


def _best_move(loads: Floats, counts: Counts, aim: Floats, slots: int, gpus: int) -> tuple[Counts, Floats]:
    """Return the counts after the best exchange that was tried, and by how much GPUs are above the aim then."""
    rows, experts = loads.shape
    without = np.where(counts > 1, loads / np.maximum(counts - 1, 1), np.inf)
    givers = np.argsort(without, axis=1, kind="stable")[:, :GIVERS]
    lost = np.isinf(np.take_along_axis(without, givers, 1))
    value = np.where(lost, np.inf, _tried(loads, np.maximum(counts[:, None] - _one(givers, experts), 1), aim, slots))
    best = np.argsort(value, axis=1, kind="stable")[:, :BEST_GIVERS]
    givers, lost = np.take_along_axis(givers, best, 1), np.take_along_axis(lost, best, 1)
    takers = _takers(loads, counts, aim, slots)
    moved = counts[:, None, None] - _one(givers, experts)[:, :, None] + _one(takers, experts)[:, None]
    wrong = lost[:, :, None] | (moved > gpus).any(-1) | (moved < 1).any(-1)
    moved = np.where(wrong[..., None], counts[:, None, None], moved).reshape(rows, -1, experts)
    value = np.where(wrong.reshape(rows, -1), np.inf, _tried(loads, moved, aim, slots))
    place, each = value.argmin(1), np.arange(rows)
    return moved[each, place], value[each, place]


def _one(experts: NDArray[np.int64], among: int) -> Counts:
    """Return 1 at each of n experts and 0 elsewhere [B, n, E]."""
    marked: Counts = (experts[..., None] == np.arange(among)).astype(np.int64)
    return marked


def _tried(loads: Floats, counts: Counts, aim: Floats, slots: int) -> Floats:
    """Return by how much GPUs are above the aim [B, n] for n counts per row [B, n, E]."""
    tries = counts.shape[1]
    flat = _above(np.repeat(loads, tries, 0), counts.reshape(-1, counts.shape[-1]), np.repeat(aim, tries), slots)
    return flat.reshape(len(loads), tries)


def _takers(loads: Floats, counts: Counts, aim: Floats, slots: int) -> NDArray[np.int64]:
    """Return experts [B, n] worth another replica: those of too hot GPUs that it relieves, and the lightest."""
    rows = np.arange(len(loads))
    weights, sums = pair_sums(loads, counts, slots)
    last = sums.shape[1] - 1 - (sums > aim[:, None] * (1 + ROUNDING))[:, ::-1].argmax(1)
    room = (aim - weights[rows, slots - 1 - last])[:, None]
    share, then = loads / counts, loads / (counts + 1)
    relief = np.where(then <= room, 1e6 + counts, -then / np.maximum(room, ROUNDING * aim[:, None]))
    relief = np.where(share >= weights[rows, last][:, None] * (1 - ROUNDING), relief, -np.inf)
    hot = np.argsort(-relief, axis=1, kind="stable")[:, :HEAVY]
    light = np.argsort(share, axis=1, kind="stable")[:, :LIGHT]
    return np.concatenate([hot, light], 1)
