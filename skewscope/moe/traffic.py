"""Bytes that the all-to-all of a layer moves: matrices between GPUs and nodes, with de-duplication per node.

A token goes to the GPUs of its picks and comes back. Engines that send one copy per node and spread it inside count a
token once per node that it touches. From counts alone picks are taken for independent; from a trace it is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .placement import Placement

Floats = NDArray[np.float64]
FP8_BYTES = 1.0 + 4.0 / 128.0  # per element, with a scale of four bytes per block of 128 (DeepEP)
BF16_BYTES = 2.0


def gpu_matrix(gpu_loads: NDArray[Any], token_bytes: float) -> Floats:
    """Return bytes [.., G, G] from each GPU (row) to each (column) of loads [.., G]; tokens start evenly spread.

    What stays on a GPU is no traffic.

    >>> gpu_matrix(np.array([2.0, 6.0]), 10.0).tolist()
    [[0.0, 30.0], [10.0, 0.0]]
    """
    x = np.asarray(gpu_loads, np.float64)
    count = x.shape[-1]
    sent = np.repeat(x[..., None, :] / count, count, axis=-2) * token_bytes
    return np.asarray(sent * (1.0 - np.eye(count)))


def node_matrix(gpu_bytes: NDArray[Any], nodes: int) -> Floats:
    """Return bytes [.., N, N] between nodes of bytes [.., G, G] between GPUs, without those inside a node."""
    x = np.asarray(gpu_bytes, np.float64)
    gpus = x.shape[-1]
    if nodes < 1 or gpus % nodes:
        raise UsageError(f"{gpus} GPUs do not spread evenly over {nodes} nodes")
    inside = gpus // nodes
    summed = x.reshape(*x.shape[:-2], nodes, inside, nodes, inside).sum((-3, -1))
    return np.asarray(summed * (1.0 - np.eye(nodes)))


def skew(matrix: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return max / mean over senders (rows) and over receivers (columns) of a matrix [.., n, n]; 1 is even.

    >>> [float(one) for one in skew(np.array([[0.0, 30.0], [10.0, 0.0]]))]
    [1.5, 1.5]
    """
    x = np.asarray(matrix, np.float64)
    found = []
    for total in (x.sum(-1), x.sum(-2)):
        mean = total.mean(-1)
        found.append(np.asarray(np.where(mean > 0, total.max(-1) / np.where(mean > 0, mean, 1.0), 1.0)))
    return found[0], found[1]


def nodes_touched(counts: NDArray[Any], placement: Placement, tokens: float) -> Floats:
    """Return the expected number of nodes that one token touches [.., L], its picks taken for independent.

    sum over nodes of 1 - product over their experts of (1 - q), q = w / tokens; an expert on several nodes is picked
    there with equal chance.
    """
    q = np.clip(np.asarray(counts, np.float64) / max(tokens, 1.0), 0.0, 1.0)
    share = _node_share(placement)
    missed = np.log1p(-np.minimum(q[..., None, :, None] * share[:, :, None].swapaxes(-1, -2), 1.0 - 1e-12)).sum(-2)
    return np.asarray((1.0 - np.exp(missed)).sum((-1, -2)))


def dispatch_bytes(counts: NDArray[Any], placement: Placement, tokens: float, hidden: int,
                   element_bytes: float = FP8_BYTES, *, per_node: bool = True) -> Floats:  # fmt: skip
    """Return the bytes of one layer's dispatch [.., L], one copy per node or one per pick; the combine sends bf16."""
    if per_node:
        return tokens * nodes_touched(counts, placement, tokens) * hidden * element_bytes
    return np.asarray(np.asarray(counts, np.float64).sum(-1) * hidden * element_bytes)


def touched_of_trace(trace: NDArray[Any], placement: Placement) -> tuple[Floats, Floats]:
    """Return mean GPUs and nodes that a token of a trace [tokens, L, k] touches [L]; the first replica serves it.

    >>> half = Placement(np.array([[0, 1, 2, 3]]), gpus=2, experts=4, nodes=1)
    >>> gpus, nodes = touched_of_trace(np.array([[[0, 1]], [[0, 3]]]), half)
    >>> gpus.tolist(), nodes.tolist()
    ([1.5], [1.0])
    """
    gpu = home(placement)
    on = np.stack([gpu[layer][trace[:, layer]] for layer in range(placement.layers)], axis=1)
    per_node = placement.gpus // placement.nodes
    return _distinct(on), _distinct(on // per_node)


def home(placement: Placement) -> NDArray[np.int64]:
    """Return the GPU [L, E] of the first replica of each expert."""
    found = np.full((placement.layers, placement.experts), -1, dtype=np.int64)
    gpu = np.arange(placement.slots.shape[1]) // placement.slots_per_gpu
    for layer, row in enumerate(placement.slots):
        found[layer, row[::-1]] = gpu[::-1]
    return found


def _node_share(placement: Placement) -> Floats:
    """Return which share of an expert's replicas lies on each node [L, N, E]."""
    per_node = placement.slots.shape[1] // placement.nodes
    found = np.zeros((placement.layers, placement.nodes, placement.experts))
    layer = np.arange(placement.layers)[:, None]
    node = np.arange(placement.slots.shape[1]) // per_node
    np.add.at(found, (layer, node[None], placement.slots), 1.0)
    return np.asarray(found / np.maximum(found.sum(1, keepdims=True), 1.0))


def _distinct(on: NDArray[np.int64]) -> Floats:
    """Return the mean number of different values along the last axis [tokens, L, k] -> [L]."""
    ordered = np.sort(on, axis=-1)
    return np.asarray((1 + (np.diff(ordered, axis=-1) > 0).sum(-1)).mean(0, dtype=np.float64))
