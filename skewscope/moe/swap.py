"""Local search on packed GPUs: exchange replicas until the hottest GPU cannot be cooled. All rows in lock-step.

Rows are independent problems: a layer, or a node of a layer. B rows, E experts, G GPUs, S slots per GPU, K features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .pack import Held

Floats = NDArray[np.float64]
LEAST_GAIN_RATIO = 1e-9  # a smaller fall of the hottest GPU is rounding


def of_slots(values: NDArray[Any], held: Held) -> NDArray[Any]:
    """Return the values of experts [B, E, ..] by slot [B, G, S, ..].

    >>> of_slots(np.array([[5.0, 7.0]]), np.array([[[1], [0]]])).tolist()
    [[[7.0], [5.0]]]
    """
    return np.asarray(values)[np.arange(len(held))[:, None, None], held]


def even_out(held: Held, features: NDArray[Any], rounds: int = 24) -> Held:
    """Return GPUs [B, G, S] whose sums of features lie nearer to their mean: the features of a replica [B, E, K].

    Each round pairs all GPUs, hot with cold, and exchanges in every pair the two replicas that lower the sum of
    squares most, in all features at once. Features are anything that should be even: tokens, tokens of parts of the
    window, tokens of other workloads.

    >>> start = np.array([[[0, 1], [2, 3]]])
    >>> even_out(start, np.array([[[4.0], [3.0], [2.0], [1.0]]])).tolist()
    [[[2, 1], [0, 3]]]
    """
    held = held.copy()
    rounds = rounds if held.shape[1] > 1 else 0
    values = np.ascontiguousarray(of_slots(features, held), np.float32)
    sums = values.sum(2)
    mean = sums.mean(1, keepdims=True)
    idle = 0
    for turn in range(rounds):
        hot, cold = _pairs(sums - mean, turn)
        idle = 0 if _exchange(held, values, sums, hot, cold) else idle + 1
        if idle == len(PAIRINGS):
            break
    return held


PAIRINGS = ("first feature", "worst GPU", "worst GPU, turned")


def _pairs(away: NDArray[np.float32], turn: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of GPUs [B, G // 2]: opposite by the first feature, or along the way the worst GPU is off."""
    rows = np.arange(len(away))
    half = away.shape[1] // 2
    if turn % len(PAIRINGS) == 0:
        place = away[..., 0]
    else:
        worst = away[rows, (away * away).sum(-1).argmax(1)]
        place = np.matmul(away, worst[..., None])[..., 0]
    order = np.argsort(-place, axis=1, kind="stable")
    cold = order[:, ::-1][:, :half]
    return order[:, :half], np.roll(cold, turn, axis=1) if turn % len(PAIRINGS) == 2 else cold


def _exchange(held: Held, values: NDArray[Any], sums: NDArray[Any], hot: NDArray[Any], cold: NDArray[Any]) -> bool:
    """Make the best exchange of every pair of GPUs in place; return whether any was made."""
    rows, per_gpu = np.arange(len(held))[:, None], held.shape[2]
    a, b = values[rows, hot], values[rows, cold]
    gap = (sums[rows, hot] - sums[rows, cold])[..., None]
    # sum of squares after minus before, halved: |d|^2 - d . gap with d = a_i - b_j
    change = np.matmul(a, b.swapaxes(-1, -2)) * -2
    change += ((a * a).sum(-1) - np.matmul(a, gap)[..., 0])[..., None]
    change += ((b * b).sum(-1) + np.matmul(b, gap)[..., 0])[..., None, :]
    change = change.reshape(*hot.shape, -1)
    best = change.argmin(-1)
    gains = np.take_along_axis(change, best[..., None], -1)[..., 0] < -1e-7 * sums.shape[-1]
    row, pair = np.nonzero(gains)
    i, j = np.divmod(best[row, pair], per_gpu)
    one, other = hot[row, pair], cold[row, pair]
    mine, theirs = held[row, one, i], held[row, other, j]
    fits = ~((held[row, other] == mine[:, None]).any(1) | (held[row, one] == theirs[:, None]).any(1))
    row, i, j, one, other, mine, theirs = (each[fits] for each in (row, i, j, one, other, mine, theirs))
    held[row, one, i], held[row, other, j] = theirs, mine
    ahead, behind = values[row, one, i], values[row, other, j]
    values[row, one, i], values[row, other, j] = behind, ahead
    sums[row, one] += behind - ahead
    sums[row, other] += ahead - behind
    return bool(len(row))


def cool(held: Held, share: NDArray[Any], enough: NDArray[Any], steps: int = 200) -> Held:
    """Return GPUs [B, G, S] whose hottest is cooler: tokens per replica [B, E], tokens that are good enough [B].

    Each step takes the hottest GPU of every row and the one exchange, with any slot of any other GPU, that leaves
    the hotter of the two coolest; a row ends at `enough` or when no exchange cools its hottest GPU.

    >>> start = np.array([[[0, 1], [2, 3]]])
    >>> cool(start, np.array([[4.0, 3.0, 2.0, 1.0]]), np.array([5.0])).tolist()
    [[[2, 1], [0, 3]]]
    """
    held = held.copy()
    tokens = np.ascontiguousarray(of_slots(share, held), np.float64)
    loads = tokens.sum(2)
    active = np.arange(len(held))
    for _ in range(steps):
        active = active[loads[active].max(1) > enough[active]]
        if not len(active):
            break
        active = _cool_once(held, tokens, loads, active)
    return held


def _cool_once(held: Held, tokens: Floats, loads: Floats, active: NDArray[np.int64]) -> NDArray[np.int64]:
    """Exchange two replicas in each active row in place; return the rows in which that helped."""
    gpus, per_gpu = held.shape[1:]
    hot = loads[active].argmax(1)
    highest = loads[active, hot]
    after = _hotter_after(tokens, loads, active, hot)
    after[would_double(held[active, hot], held[active])] = np.inf
    flat = after.reshape(len(active), -1)
    best = flat.argmin(1)
    helps = flat[np.arange(len(active)), best] < highest * (1 - LEAST_GAIN_RATIO)
    row, hot, best = active[helps], hot[helps], best[helps]
    i, other, j = best // (gpus * per_gpu), best // per_gpu % gpus, best % per_gpu
    moved = tokens[row, hot, i] - tokens[row, other, j]
    for each in (held, tokens):
        each[row, hot, i], each[row, other, j] = each[row, other, j], each[row, hot, i]
    loads[row, hot] -= moved
    loads[row, other] += moved
    helped: NDArray[np.int64] = row
    return helped


def _hotter_after(tokens: Floats, loads: Floats, active: NDArray[np.int64], hot: NDArray[np.int64]) -> Floats:
    """Return the load of the hotter of the two GPUs after each exchange [n, S, G, S]."""
    moved = tokens[active, hot][:, :, None, None] - tokens[active][:, None]
    gained: Floats = loads[active][:, None, :, None] + moved
    return np.maximum(gained, loads[active, hot][:, None, None, None] - moved)


def would_double(mine: Held, theirs: Held) -> NDArray[np.bool_]:
    """Return where exchanging slot i of one GPU [n, S] with slot j of GPU g [n, G, S] puts an expert twice on a GPU.

    The result is [n, S, G, S]; an exchange of two replicas of one expert counts as well.

    >>> would_double(np.array([[0, 1]]), np.array([[[1, 2]]])).tolist()
    [[[[True, False]], [[True, True]]]]
    """
    same = mine[:, :, None, None] == theirs[:, None]
    doubled: NDArray[np.bool_] = same.any(-1, keepdims=True) | same.any(1, keepdims=True)
    return doubled
