"""One placement for several workloads: the mean (or the worst) of their hottest GPUs as cool as it can be.

Pooled counts hide what takes turns: a GPU that is even in sum may hold all that one workload wants. So replicas follow
the greatest demand of any workload, and exchanges lower the weighted sum of each workload's hottest GPU.

Rows are independent problems: a layer, or a node of a layer. B rows, E experts, G GPUs, S slots per GPU, K workloads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pack import Held, pack
from .replicate import Counts, replicate
from .swap import even_out, of_slots, would_double

Floats = NDArray[np.float64]
LEAST_GAIN_RATIO = 1e-6
STEPS = 300
MOST_BYTES = 64 << 20  # of one array of the search: rows beyond it wait for the next block
WORST_POWER = 16  # so sharp a mean of workloads that it follows the worst


def scaled(workloads: NDArray[Any], gpus: int) -> Floats:
    """Return tokens of workloads [K, B, E] in units of their mean GPU, so that each counts alike.

    >>> scaled(np.array([[[6, 2]], [[1, 1]]]), gpus=2).tolist()
    [[[1.5, 0.5]], [[1.0, 1.0]]]
    """
    loads = np.asarray(workloads, np.float64)
    total = loads.sum(-1, keepdims=True)
    unit: Floats = loads * gpus / np.where(total > 0, total, 1.0)
    return unit


def robust(workloads: Floats, slots: int, gpus: int, weights: Floats, worst: bool = False) -> Held:
    """Return the experts of each GPU [B, G, S] for workloads [K, B, E] in units of their mean GPU.

    `weights` [K] are shares of the traffic; with `worst` the hottest GPU of the worst workload counts instead.
    """
    features = np.moveaxis(workloads, 0, -1)
    tried, reached = [], []
    for counts in _counts(workloads, slots, gpus, weights):
        share = features / counts[..., None]
        held = even_out(pack(features @ weights, counts, gpus), share * np.sqrt(weights))
        tried.append(calm(held, share, weights, worst))
        reached.append(hottest(tried[-1], share, weights, worst))
    first: Held = np.where((reached[0] <= reached[1])[:, None, None], tried[0], tried[1])
    return first


def _counts(workloads: Floats, slots: int, gpus: int, weights: Floats) -> list[Counts]:
    """Return replicas [B, E] after the greatest demand of any workload, and half way to the mean demand."""
    greatest, mean = workloads.max(0), np.tensordot(weights, workloads, 1)
    return [replicate(greatest, slots, gpus), replicate((greatest + mean) / 2, slots, gpus)]


def hottest(held: Held, share: Floats, weights: Floats, worst: bool = False) -> Floats:
    """Return the weighted mean over workloads of the hottest GPU [B], or that of the worst: replicas [B, E, K].

    >>> share = np.array([[[2.0, 0.0], [0.0, 2.0]]])
    >>> hottest(np.array([[[0], [1]]]), share, np.array([0.5, 0.5])).tolist()
    [2.0]
    """
    each = of_slots(share, held).sum(2).max(1)
    return _score(each, weights, worst)


def _score(each: Floats, weights: Floats, worst: bool) -> Floats:
    score: Floats = (each**WORST_POWER).mean(-1) ** (1 / WORST_POWER) if worst else each @ weights
    return score


@dataclass
class _State:
    """Placements under way: what slots hold and weigh, and GPUs carry, per workload."""

    held: Held  # [B, G, S]
    values: Floats  # [B, G, S, K]
    sums: Floats  # [B, G, K]
    weights: Floats
    worst: bool


def calm(held: Held, share: Floats, weights: Floats, worst: bool = False, steps: int = STEPS) -> Held:
    """Return GPUs [B, G, S] with a lower weighted sum of the hottest GPUs: tokens per replica [B, E, K], weights [K].

    Each step takes the hottest GPU of one workload in every row, the worst workload first, and makes the exchange
    that lowers the sum most; a row ends when no workload's hottest GPU has one.

    >>> share = np.array([[[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [0.0, 2.0]]])
    >>> calm(np.array([[[0, 1], [2, 3]]]), share, np.array([0.5, 0.5])).tolist()
    [[[2, 1], [0, 3]]]
    """
    values = of_slots(share, held).astype(np.float64)
    state = _State(held.copy(), values, values.sum(2), weights, worst)
    block = max(1, MOST_BYTES // (held.shape[1] * held.shape[2] ** 2 * len(weights) * 8))
    for begin in range(0, len(held), block):
        _calm_rows(state, np.arange(begin, min(begin + block, len(held))), steps)
    return state.held


def _calm_rows(state: _State, rows: NDArray[np.int64], steps: int) -> None:
    tries = np.zeros(len(rows), np.int64)
    for _ in range(steps):
        if not len(rows):
            break
        helped = _calm_once(state, rows, tries)
        tries = np.where(helped, 0, tries + 1)
        rows, tries = rows[tries < len(state.weights)], tries[tries < len(state.weights)]


def _calm_once(state: _State, rows: NDArray[np.int64], tries: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Make the best exchange out of the hottest GPU of the workload whose turn it is; return where it helped."""
    sums, each = state.sums[rows], np.arange(len(rows))
    high = sums.max(1)
    turn = np.argsort(-high * state.weights, axis=1, kind="stable")[each, tries]
    hot = sums[each, :, turn].argmax(1)
    after = _score(_hottest_after(state, rows, hot), state.weights, state.worst)
    after[would_double(state.held[rows, hot], state.held[rows])] = np.inf
    flat = after.reshape(len(rows), -1)
    best = flat.argmin(1)
    helps = flat[each, best] < _score(high, state.weights, state.worst) * (1 - LEAST_GAIN_RATIO)
    row, hot, best = rows[helps], hot[helps], best[helps]
    gpus, per_gpu = state.held.shape[1:]
    i, other, j = best // (gpus * per_gpu), best // per_gpu % gpus, best % per_gpu
    moved = state.values[row, hot, i] - state.values[row, other, j]
    for values in (state.held, state.values):
        values[row, hot, i], values[row, other, j] = values[row, other, j].copy(), values[row, hot, i].copy()
    state.sums[row, hot] -= moved
    state.sums[row, other] += moved
    found: NDArray[np.bool_] = helps
    return found


def _hottest_after(state: _State, rows: NDArray[np.int64], hot: NDArray[np.int64]) -> Floats:
    """Return the hottest GPU of each workload after each exchange [n, S, G, S, K]."""
    sums, values = state.sums[rows], state.values[rows]
    moved = values[np.arange(len(rows)), hot][:, :, None, None] - values[:, None]
    gained: Floats = moved + sums[:, None, :, None]
    np.negative(moved, out=moved)
    moved += sums[np.arange(len(rows)), hot][:, None, None, None]
    np.maximum(gained, moved, out=gained)
    return np.maximum(gained, _others(sums, hot)[:, None, :, None], out=gained)


def _others(sums: Floats, hot: NDArray[np.int64]) -> Floats:
    """Return for each GPU [n, G, K] the hottest of all others but it and the one that gives."""
    without = sums.copy()
    without[np.arange(len(hot)), hot] = -np.inf
    first = without.argmax(1)
    high = without.max(1)
    np.put_along_axis(without, first[:, None], -np.inf, 1)
    second = without.max(1)
    is_first = np.arange(sums.shape[1])[None, :, None] == first[:, None]
    found: Floats = np.where(is_first, second[:, None], high[:, None])
    return found
