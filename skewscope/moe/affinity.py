"""Experts of neighbouring layers on one GPU where tokens go from one to the other, traded against even load.

As in ExFlow and MoETuner: given one layer, the next is an assignment problem, solved exactly; sweeps go forward and
backward. A limit on the hottest GPU is kept by exchanges that lose the least locality. The saving is real only where
tokens stay at an expert's GPU between layers, or are sent once per node; with attention at a token's home it is not.

L layers, E experts, G GPUs, N nodes; pairs [L - 1, E, E] are tokens that expert i of a layer and j of the next served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .pack import pack
from .placement import Floats, Placement, balancedness
from .renaming import assignment

Gpus = NDArray[np.int64]  # [L, E] or [E]: the GPU of each expert
SWEEPS = 3
LIMITS = (1.05, 1.1, 1.2, 1.5, float("inf"))  # hottest GPU over mean that a frontier tries
LEAST_GAIN = 1e-9


@dataclass(frozen=True, eq=False)
class Point:
    """One placement of a frontier: shares of pairs on one GPU and on one node, and what the load is.

    `limit` is the hottest GPU over the mean that was asked for; NaN for a placement made for load alone, its GPUs
    renamed. `hottest_ratio` is what came of it, the mean over layers; it may pass the limit where one expert does.
    """

    limit: float
    local_share: float
    node_share: float
    hottest_ratio: float
    balance: float
    placement: Placement


def place(pairs: NDArray[Any], loads: NDArray[Any], gpus: int, nodes: int = 1, limit: float = np.inf) -> Placement:
    """Return a placement without replicas that keeps pairs together: pairs [L - 1, E, E], tokens [L, E].

    `limit` is the hottest GPU over the mean; nodes are filled first, then GPUs inside. Raises UsageError where shapes
    do not fit or experts do not spread evenly over GPUs.

    >>> pairs = np.array([[[9, 0, 0, 0], [0, 0, 9, 0], [0, 9, 0, 0], [0, 0, 0, 9]]])
    >>> place(pairs, np.ones((2, 4)), gpus=2).slots.tolist()
    [[0, 1, 2, 3], [0, 2, 1, 3]]
    """
    pairs, loads = np.asarray(pairs, np.float64), np.asarray(loads, np.float64)
    _check(pairs, loads, gpus, nodes)
    where = _start(loads, nodes if nodes > 1 else gpus)
    where = _swept(where, pairs, loads, nodes if nodes > 1 else gpus, limit, None)
    if nodes > 1:
        node, each = where, gpus // nodes
        where = np.stack([_inside(loads[layer], node[layer], each) for layer in range(len(loads))])
        where = _swept(where, pairs, loads, gpus, limit, node)
    slots = np.argsort(where, axis=1, kind="stable").astype(np.int32)
    return Placement(slots, gpus, loads.shape[1], nodes)


def frontier(pairs: NDArray[Any], loads: NDArray[Any], gpus: int, nodes: int = 1, limits: Sequence[float] = LIMITS,
             even: Placement | None = None) -> list[Point]:  # fmt: skip
    """Return points from even load to most locality; `even` is a plan for load alone, its GPUs renamed for locality.

    >>> pairs = np.array([[[9, 0, 0, 0], [0, 0, 9, 0], [0, 9, 0, 0], [0, 0, 0, 9]]])
    >>> [(point.limit, point.local_share) for point in frontier(pairs, np.ones((2, 4)), 2, limits=[2.0])]
    [(2.0, 1.0)]
    """
    pairs, loads = np.asarray(pairs, np.float64), np.asarray(loads, np.float64)
    found = [] if even is None else [_point(float("nan"), renamed_for_affinity(even, pairs), pairs, loads)]
    best = None
    for limit in sorted(limits):
        point = _point(limit, place(pairs, loads, gpus, nodes, limit), pairs, loads)
        if best is not None and best.local_share > point.local_share:  # what keeps a stricter limit keeps this one
            point = replace(best, limit=limit)
        found.append(best := point)
    return found


def _point(limit: float, made: Placement, pairs: Floats, loads: Floats) -> Point:
    balance = balancedness(made.gpu_loads(loads))
    local, near = local_shares(pairs, made)
    return Point(limit, local, near, float((1 / balance).mean()), float(balance.mean()), made)


def local_shares(pairs: NDArray[Any], placement: Placement) -> tuple[float, float]:
    """Return the shares of pairs [L - 1, E, E] that stay on a GPU and on a node, tokens split evenly over replicas.

    >>> local_shares(np.array([[[1, 1], [1, 1]]]), Placement(np.array([[0, 1], [0, 1]]), gpus=2, experts=2))
    (0.5, 1.0)
    """
    share = _share_of_gpus(placement)
    on = np.einsum("lga,lab,lgb->l", share[:-1], pairs, share[1:], optimize=True).sum()
    node = share.reshape(len(share), placement.nodes, -1, share.shape[2]).sum(2)
    near = np.einsum("lga,lab,lgb->l", node[:-1], pairs, node[1:], optimize=True).sum()
    total = float(np.sum(pairs)) or 1.0
    return float(on) / total, float(near) / total


def renamed_for_affinity(placement: Placement, pairs: NDArray[Any]) -> Placement:
    """Return a placement with the GPUs of each layer renamed so that more pairs stay: loads do not change.

    >>> crossed = Placement(np.array([[0, 1], [1, 0]]), gpus=2, experts=2)
    >>> renamed_for_affinity(crossed, np.array([[[5, 0], [0, 5]]])).slots.tolist()
    [[0, 1], [0, 1]]
    """
    share, by_gpu = _share_of_gpus(placement), placement.by_gpu().copy()
    for layer in range(1, placement.layers):
        worth = share[layer - 1] @ np.asarray(pairs, np.float64)[layer - 1] @ share[layer].T
        order = assignment(worth)
        by_gpu[layer], share[layer] = by_gpu[layer][order], share[layer][order]
    return Placement(by_gpu.reshape(placement.slots.shape), placement.gpus, placement.experts, placement.nodes)


def _share_of_gpus(placement: Placement) -> Floats:
    """Return which share of each expert's tokens each GPU serves [L, G, E]."""
    share = np.zeros((placement.layers, placement.gpus, placement.experts))
    layer, gpu = np.indices((placement.layers, placement.gpus))
    np.add.at(share, (layer[..., None], gpu[..., None], placement.by_gpu()), 1.0)
    return share / np.maximum(placement.replicas(), 1)[:, None]


def _check(pairs: Floats, loads: Floats, gpus: int, nodes: int) -> None:
    layers, experts = loads.shape
    if pairs.shape != (layers - 1, experts, experts):
        raise UsageError(f"pairs: tokens [{layers - 1}, {experts}, {experts}] are wanted for loads of {layers} layers "
                         f"and {experts} experts, not {list(pairs.shape)}")  # fmt: skip
    if experts % gpus or gpus % nodes:
        raise UsageError(f"without replicas {experts} experts must spread evenly over {gpus} GPUs on {nodes} nodes")


def _start(loads: Floats, gpus: int) -> Gpus:
    return np.stack([_inside(layer, np.zeros(len(layer), np.int64), gpus) for layer in loads])


def _inside(loads: Floats, node: Gpus, each: int) -> Gpus:
    """Return GPUs [E], `each` per node, evenly loaded: tokens [E], the node of each expert [E]."""
    where = np.empty(len(loads), np.int64)
    for number in range(int(node.max()) + 1):
        mine = np.flatnonzero(node == number)
        held = pack(loads[None, mine], np.ones((1, len(mine)), np.int64), each)[0]
        where[mine[held]] = (number * each + np.arange(each))[:, None]
    return where


def _swept(where: Gpus, pairs: Floats, loads: Floats, gpus: int, limit: float, node: Gpus | None) -> Gpus:
    """Return GPUs [L, E] after sweeps over layers; with `node` [L, E] no expert leaves its node."""
    where = where.copy()
    layers = range(len(loads))
    for sweep in range(SWEEPS):
        before = where.copy()
        for layer in [*layers, *reversed(layers)]:
            first = sweep == 0 and node is None
            worth = _worth(where, pairs, layer, gpus, forward_only=first)
            if node is not None:
                away = node[layer][:, None] != np.arange(gpus)[None] // (gpus // (int(node.max()) + 1))
                worth = np.where(away, -np.sum(pairs), worth)
            where[layer] = _limited(_assigned(worth), worth, loads[layer], limit * loads[layer].sum() / gpus)
        if (before == where).all():
            break
    return where


def _worth(where: Gpus, pairs: Floats, layer: int, gpus: int, forward_only: bool) -> Floats:
    """Return what each expert of a layer is worth on each GPU [E, G]: pairs that stay, with both neighbours."""
    worth = np.zeros((where.shape[1], gpus))
    if layer:
        np.add.at(worth.T, where[layer - 1], pairs[layer - 1])
    if layer + 1 < len(where) and not (forward_only and layer == 0):
        np.add.at(worth.T, where[layer + 1], pairs[layer].T)
    return worth


def _assigned(worth: Floats) -> Gpus:
    """Return GPUs [E] of equally many experts with the most worth in sum: worth [E, G]."""
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    each = len(worth) // worth.shape[1]
    columns: Gpus = linear_sum_assignment(np.repeat(worth, each, axis=1), maximize=True)[1] // each
    return columns


def _limited(where: Gpus, worth: Floats, loads: Floats, most: float) -> Gpus:
    """Return GPUs [E] none of which passes `most` tokens, as far as exchanges can, with the least worth lost."""
    where = where.copy()
    everyone = np.arange(len(where))
    while True:
        tokens = np.bincount(where, loads, worth.shape[1])
        hot = int(tokens.argmax())
        if tokens[hot] <= most:
            return where
        mine, others = np.flatnonzero(where == hot), np.flatnonzero(where != hot)
        moved = loads[mine][:, None] - loads[others]
        left = np.maximum(tokens[hot] - moved, tokens[where[others]] + moved)
        lost = (worth[everyone, where][mine][:, None] + worth[everyone, where][others]
                - worth[mine][:, where[others]] - worth[others, hot])  # fmt: skip
        helps = np.maximum(left, most) < tokens[hot] * (1 - LEAST_GAIN)
        if not helps.any():
            return where
        price = np.where(helps, lost / (tokens[hot] - np.maximum(left, most) + LEAST_GAIN), np.inf)
        i, j = np.divmod(int(price.argmin()), len(others))
        where[mine[i]], where[others[j]] = where[others[j]], hot
