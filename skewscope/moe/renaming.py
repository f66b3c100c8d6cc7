"""A plan with its GPUs renamed so that as many experts as can be stay where they are: fewer copies, the same balance.

GPUs that are alike may carry any GPU's part of a plan, so each layer's parts are matched with the running GPUs by how
much they have in common (assignment problem). Where groups of GPUs are nodes, nodes are matched first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .migration import aligned, holds
from .placement import Placement


def renamed(now: Placement, later: Placement) -> Placement:
    """Return `later` with GPUs, and whole nodes, in the order that takes the fewest copies from `now`.

    Experts that stay keep their slot. Placements of other GPUs or experts than `now` are returned as they are.

    >>> now = Placement(np.array([[0, 1, 2, 3]]), gpus=2, experts=4)
    >>> renamed(now, Placement(np.array([[3, 2, 0, 1]]), gpus=2, experts=4)).slots.tolist()
    [[0, 1, 2, 3]]
    """
    if (now.gpus, now.layers, now.experts) != (later.gpus, later.layers, later.experts):
        return later
    common = overlaps(now, later)
    nodes = later.nodes if later.nodes == now.nodes and later.gpus % later.nodes == 0 else 1
    order = np.stack([_of_nodes(layer, nodes) if nodes > 1 else assignment(layer) for layer in common])
    by_gpu = np.take_along_axis(later.by_gpu(), order[..., None], axis=1)
    return aligned(now, Placement(by_gpu.reshape(later.slots.shape), later.gpus, later.experts, later.nodes))


def overlaps(now: Placement, later: Placement) -> NDArray[np.float32]:
    """Return how many experts GPU a holds now that GPU b shall hold later [L, G, G].

    >>> overlaps(Placement(np.array([[0, 1]]), 2, 2), Placement(np.array([[1, 0]]), 2, 2)).tolist()
    [[[0.0, 1.0], [1.0, 0.0]]]
    """
    old, new = holds(now).astype(np.float32), holds(later).astype(np.float32)
    common: NDArray[np.float32] = np.matmul(old, new.swapaxes(1, 2))
    return common


def assignment(worth: NDArray[Any]) -> NDArray[np.int64]:
    """Return the column for each row [n] that gives the most in sum [n, n].

    >>> assignment(np.array([[0, 1], [1, 0]])).tolist()
    [1, 0]
    """
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    columns: NDArray[np.int64] = linear_sum_assignment(worth, maximize=True)[1]
    return columns


def _of_nodes(common: NDArray[np.float32], nodes: int) -> NDArray[np.int64]:
    """Return the part for each GPU [G]: nodes matched by the most their GPUs can have in common, then GPUs inside."""
    each = len(common) // nodes
    blocks = common.reshape(nodes, each, nodes, each).swapaxes(1, 2)
    inside = np.array([[assignment(block) for block in row] for row in blocks])
    worth = np.take_along_axis(blocks, inside[..., None], -1)[..., 0].sum(-1)
    chosen = assignment(worth)
    return np.concatenate([node * each + inside[at, node] for at, node in enumerate(chosen)])
