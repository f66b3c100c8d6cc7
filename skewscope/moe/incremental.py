"""A few copies from the running placement: the exchanges and replacements that cool GPUs most per expert copied.

A full plan replaces nearly every slot for the last few per cent of balance; most of the gain lies in the first copies.
Two kinds of change are tried from the hottest GPU of each layer: exchange one of its replicas with one of another GPU
(two copies), or write an expert over a replica that can be spared, so that the expert's other replicas carry less (one
copy). All layers in lock-step; a layer ends when its copies are spent or no change is worth its price.

L layers, E experts, G GPUs, S slots per GPU, P slots, K loads (the window, and parts of it where they are known).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .pack import Held
from .replicate import Counts
from .swap import would_double

Floats = NDArray[np.float64]
POWER = 16  # of the mean over GPUs that stands for the hottest: near-hottest GPUs count too
SPARED, WANTED = 24, 12  # replicas that may be written over, and experts that may be written
LEAST_GAIN_RATIO = 1e-6


@dataclass(frozen=True)
class Change:
    """How far a placement may change: experts copied per layer, and the gain that a copy must bring to be worth it.

    `least_gain` is a share of the mean GPU's tokens, taken off the hottest GPU per copy. `nodes` > 1 keeps every
    expert on its node.
    """

    copies: int
    least_gain: float = 0.0
    nodes: int = 1


@dataclass
class _State:
    """Layers under way; `loads` [L, E, K] in units of the mean GPU."""

    held: Held  # [L, G, S]
    loads: Floats
    weights: Floats  # [K]
    counts: Counts  # [L, E]
    sums: Floats  # [L, G, K]
    left: NDArray[np.int64]  # [L] copies


def few_moves(held: Held, loads: Floats, weights: Floats, change: Change) -> Held:
    """Return GPUs [L, G, S] after at most `change.copies` copies per layer: tokens [L, E, K] in units of the mean GPU.

    `weights` [K] say how much each load counts. What falls is a mean over GPUs so sharp that the hottest rules it.

    >>> held = np.array([[[0, 1], [2, 3]]], np.int32)
    >>> loads = np.array([[[0.8], [0.6], [0.4], [0.2]]])
    >>> few_moves(held, loads, np.ones(1), Change(copies=1)).tolist()
    [[[0, 1], [2, 3]]]
    >>> few_moves(held, loads, np.ones(1), Change(copies=2)).tolist()
    [[[2, 1], [0, 3]]]
    """
    counts = np.zeros(loads.shape[:2], np.int64)
    np.add.at(counts, (np.arange(len(held))[:, None], held.reshape(len(held), -1)), 1)
    state = _State(held.copy(), loads, weights, counts, np.zeros(0), np.full(len(held), change.copies))
    state.sums = _sums(state, np.arange(len(held)))
    rows = np.arange(len(held))
    while len(rows):
        rows = rows[state.left[rows] > 0]
        rows = rows[_step(state, rows, change)] if len(rows) else rows
    return state.held


def _sums(state: _State, rows: NDArray[np.int64]) -> Floats:
    share = state.loads[rows] / state.counts[rows][..., None]
    sums: Floats = share[np.arange(len(rows))[:, None, None], state.held[rows]].sum(2)
    return sums


def _score(sums: Floats, weights: Floats) -> Floats:
    """Return how hot GPUs are [..]: loads [.., G, K], a mean over GPUs sharp enough to follow the hottest."""
    powered = np.power(sums, POWER).mean(-2) ** (1 / POWER)
    score: Floats = powered @ weights
    return score


def _step(state: _State, rows: NDArray[np.int64], change: Change) -> NDArray[np.bool_]:
    """Make the best change of every row in place; return where there was one."""
    now = _score(state.sums[rows], state.weights)
    hot = (state.sums[rows] @ state.weights).argmax(1)
    swap, swap_score = _best_exchange(state, rows, hot, change.nodes)
    over, over_score = _best_replacement(state, rows, hot, change.nodes)
    gains = np.stack([(now - swap_score) / 2, now - over_score], 1)
    gains[state.left[rows] < 2, 0] = -np.inf
    kind = gains.argmax(1)
    gain = gains[np.arange(len(rows)), kind]
    helps = gain > np.maximum(change.least_gain, LEAST_GAIN_RATIO * now)
    _exchange(state, rows, hot, swap, helps & (kind == 0))
    _replace(state, rows, over, helps & (kind == 1))
    done = rows[helps]
    state.left[done] -= 2 - kind[helps]
    state.sums[done] = _sums(state, done)
    found: NDArray[np.bool_] = helps
    return found


def _best_exchange(state: _State, rows: NDArray[np.int64], hot: NDArray[np.int64],
                   nodes: int) -> tuple[NDArray[np.int64], Floats]:  # fmt: skip
    """Return the best exchange [n] of a slot of the hot GPU, as flat place in [S, G, S], and the score then."""
    each, held, sums = np.arange(len(rows)), state.held[rows], state.sums[rows]
    values = (state.loads[rows] / state.counts[rows][..., None])[each[:, None, None], held]
    moved = values[each, hot][:, :, None, None] - values[:, None]  # n, S, G, S, K
    power = np.power(sums, POWER)
    rest = power.sum(1)[:, None] - power  # without GPU b
    rest -= power[each, hot][:, None]
    after = np.power(np.maximum(sums[each, hot][:, None, None, None] - moved, 0), POWER)
    after += np.power(np.maximum(sums[:, None, :, None] + moved, 0), POWER)
    after += np.maximum(rest, 0)[:, None, :, None]
    score = (after / sums.shape[1]) ** (1 / POWER) @ state.weights
    score[would_double(held[each, hot], held)] = np.inf
    away = _node(np.arange(held.shape[1]), held, nodes) != _node(hot, held, nodes)[:, None]
    score = np.where(away[:, None, :, None], np.inf, score)
    flat = score.reshape(len(rows), -1)
    best: NDArray[np.int64] = flat.argmin(1)
    return best, flat[each, best]


def _node(gpus: NDArray[np.int64], held: Held, nodes: int) -> NDArray[np.int64]:
    node: NDArray[np.int64] = gpus // (held.shape[1] // nodes)
    return node


def _best_replacement(state: _State, rows: NDArray[np.int64], hot: NDArray[np.int64],
                      nodes: int) -> tuple[NDArray[np.int64], Floats]:  # fmt: skip
    """Return the best slot to write over and the expert to write [n, 2], and the score then."""
    each, held, counts = np.arange(len(rows))[:, None], state.held[rows], state.counts[rows]
    flat = held.reshape(len(rows), -1)
    loads = state.loads[rows]
    pooled = loads @ state.weights
    # slots that can be spared: replicas whose expert has others, the least heavier by it first
    spare = np.where(counts > 1, pooled / np.maximum(counts - 1, 1) - pooled / counts, np.inf)
    cost = np.take_along_axis(spare, flat, 1)
    slots = np.argsort(cost, axis=1, kind="stable")[:, :SPARED]  # n, C
    mine = held[each[:, 0], hot]  # n, S
    share = np.take_along_axis(pooled / counts, mine, 1)
    order = np.argsort(-share, axis=1, kind="stable")[:, :WANTED]
    experts = np.take_along_axis(mine, order, 1)  # n, D
    score = _scores_after(state, rows, slots, experts)
    gpu = slots // held.shape[2]
    there = (held[each, gpu][:, :, None] == experts[:, None, :, None]).any(-1)
    bad = there | (np.take_along_axis(cost, slots, 1) == np.inf)[:, :, None]
    bad |= (_node(gpu, held, nodes) != _node(hot, held, nodes)[:, None])[:, :, None]
    score[bad] = np.inf
    place = score.reshape(len(rows), -1)
    best = place.argmin(1)
    i, j = np.divmod(best, experts.shape[1])
    return np.stack([slots[each[:, 0], i], experts[each[:, 0], j]], 1), place[each[:, 0], best]


def _scores_after(state: _State, rows: NDArray[np.int64], slots: NDArray[np.int64], experts: Held) -> Floats:
    """Return the score [n, C, D] after writing each of D experts over each of C slots."""
    each, held = np.arange(len(rows))[:, None], state.held[rows]
    counts, loads = state.counts[rows][..., None], state.loads[rows]
    gone = held.reshape(len(rows), -1)[each, slots]  # n, C
    more = loads[each, experts] / (counts[each, experts] + 1)  # n, D, K
    less = more - loads[each, experts] / counts[each, experts]
    then = loads[each, gone] / np.maximum(counts[each, gone] - 1, 1)  # n, C, K
    rise = then - loads[each, gone] / counts[each, gone]
    has = (held[:, None] == experts[:, :, None, None]).sum(-1)  # n, D, G
    had = (held[:, None] == gone[:, :, None, None]).sum(-1)  # n, C, G
    by_slot = state.sums[rows][:, None] + had[..., None] * rise[:, :, None]  # n, C, G, K
    gpu = slots // held.shape[2]
    column = np.arange(slots.shape[1])[None]
    by_slot[each, column, gpu] -= then
    after = by_slot[:, :, None] + (has[..., None] * less[:, :, None])[:, None]
    after[each, column, :, gpu] += more[:, None]
    return _score(np.maximum(after, 0), state.weights)


def _exchange(state: _State, rows: NDArray[np.int64], hot: NDArray[np.int64], place: NDArray[np.int64],
              which: NDArray[np.bool_]) -> None:  # fmt: skip
    gpus, per_gpu = state.held.shape[1:]
    row, a, flat = rows[which], hot[which], place[which]
    i, b, j = flat // (gpus * per_gpu), flat // per_gpu % gpus, flat % per_gpu
    state.held[row, a, i], state.held[row, b, j] = state.held[row, b, j], state.held[row, a, i]


def _replace(state: _State, rows: NDArray[np.int64], change: NDArray[np.int64], which: NDArray[np.bool_]) -> None:
    per_gpu = state.held.shape[2]
    row, slot, expert = rows[which], change[which, 0], change[which, 1]
    gpu, at = slot // per_gpu, slot % per_gpu
    state.counts[row, state.held[row, gpu, at]] -= 1
    state.counts[row, expert] += 1
    state.held[row, gpu, at] = expert
