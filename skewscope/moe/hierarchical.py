"""Placements that keep each router group on one node: groups to nodes first, then every node by itself, all at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import flat
from .groups import experts_of_nodes, groups_to_nodes
from .pack import Held
from .replicate import Floats, replicate


@dataclass(frozen=True, eq=False)
class Split:
    """Layers cut into rows, one per node: `experts` [L, N, E / N] are those of each node."""

    experts: NDArray[np.int32]

    def rows(self, values: NDArray[Any]) -> Floats:
        """Return values of layers [.., L, E] as rows of nodes [.., L x N, E / N].

        >>> Split(np.array([[[0, 2], [1, 3]]])).rows(np.array([[5.0, 6.0, 7.0, 8.0]])).tolist()
        [[5.0, 7.0], [6.0, 8.0]]
        """
        values = np.asarray(values, np.float64)
        layers = np.arange(len(self.experts))[:, None, None]
        layer_nodes = self.experts.shape[0] * self.experts.shape[1]
        cut: Floats = values[..., layers, self.experts].reshape(*values.shape[:-2], layer_nodes, self.experts.shape[2])
        return cut

    def joined(self, held: Held) -> Held:
        """Return the experts of each GPU [L, G, S], nodes in order, of rows [L x N, G / N, S] that count from 0.

        >>> Split(np.array([[[0, 2], [1, 3]]])).joined(np.array([[[0], [1]], [[1], [0]]])).tolist()
        [[[0], [2], [3], [1]]]
        """
        layers, _, experts = self.experts.shape
        named = np.take_along_axis(self.experts.reshape(-1, experts), held.reshape(len(held), -1), 1)
        placed: Held = named.reshape(layers, -1, held.shape[2])
        return placed


def split(loads: Floats, groups: int, nodes: int, slots: int, gpus: int) -> Split:
    """Return layers cut by node, each node with the groups that make the hottest node coolest: tokens [L, E].

    Raises UsageError where groups, experts, GPUs or slots do not spread evenly over nodes.
    """
    return Split(experts_of_nodes(groups_to_nodes(loads, groups, nodes, slots, gpus), loads.shape[1]))


def place_in_nodes(task: flat.Task, nodes: int, groups: int) -> Held:
    """Return the experts of each GPU [L, G, S], GPUs in the order of nodes; `task` has one row per layer.

    >>> loads = np.array([[4.0, 3.0, 2.0, 1.0]])
    >>> task = flat.Task(loads, 4, 2, np.array([7.0]), np.zeros((0, 1, 4)))
    >>> place_in_nodes(task, nodes=2, groups=2).tolist()
    [[[0, 1], [2, 3]]]
    """
    by_node = split(task.loads, groups, nodes, task.slots, task.gpus)
    slots, gpus = task.slots // nodes, task.gpus // nodes
    loads = by_node.rows(task.loads)
    loads[loads.sum(1) == 0] = 1.0
    least = np.maximum(loads.sum(1) / gpus, (loads / replicate(loads, slots, gpus)).max(1))
    return by_node.joined(flat.place(flat.Task(loads, slots, gpus, least, by_node.rows(task.parts))))
