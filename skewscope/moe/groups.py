"""Router groups onto nodes, where a token's experts must lie in few groups and a group must not leave its node.

Groups are consecutive experts of equal number. Exact where the ways to share groups out are few, swaps elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .pack import pack
from .replicate import replicate
from .swap import cool, even_out

Floats = NDArray[np.float64]
MOST_SHARES = 20_000  # ways to share groups out that are tried one by one


def groups_to_nodes(counts: NDArray[Any], groups: int, nodes: int, slots: int, gpus: int) -> NDArray[np.int32]:
    """Return the groups of each node [L, N, groups / N]: tokens [L, E], slots and GPUs of all nodes together.

    The hottest node is as cool as it can be, by its tokens per GPU or its heaviest replica, whichever is more. Raises
    UsageError where groups, experts, GPUs or slots do not spread evenly.

    >>> groups_to_nodes(np.array([[9, 1, 2, 8]]), groups=4, nodes=2, slots=4, gpus=2).tolist()
    [[[0, 1], [2, 3]]]
    """
    check(np.shape(counts)[-1], groups, nodes, slots, gpus)
    if shares(groups, nodes) <= MOST_SHARES:
        sets, ways = _ways(groups, nodes)
        costs = _costs(np.asarray(counts, np.float64), sets, groups, slots // nodes, gpus // nodes)
        best = costs[:, ways].max(-1).argmin(1)
        chosen: NDArray[np.int32] = sets[ways[best]].astype(np.int32)
        return chosen
    tokens = _of_groups(np.asarray(counts, np.float64), groups)
    held = even_out(pack(tokens, np.ones(tokens.shape, np.int64), nodes), tokens[..., None])
    cooled: NDArray[np.int32] = np.sort(cool(held, tokens, tokens.sum(1) / nodes), axis=-1)
    return cooled


def hottest_node(counts: NDArray[Any], groups: int, nodes: int, slots: int, gpus: int) -> Floats:
    """Return tokens of a GPU [L] that no placement with groups kept on nodes can go below: tokens [L, E].

    >>> hottest_node(np.array([[9, 1, 2, 8]]), groups=4, nodes=2, slots=4, gpus=2).tolist()
    [10.0]
    """
    check(np.shape(counts)[-1], groups, nodes, slots, gpus)
    counts = np.asarray(counts, np.float64)
    if shares(groups, nodes) <= MOST_SHARES:
        sets, ways = _ways(groups, nodes)
        costs = _costs(counts, sets, groups, slots // nodes, gpus // nodes)
        least: Floats = costs[:, ways].max(-1).min(1)
        return least
    tokens = np.sort(_of_groups(counts, groups), axis=1)
    lightest = tokens[:, : groups // nodes - 1].sum(1)  # beside the heaviest group lie at least these
    hottest: Floats = np.maximum(tokens.sum(1) / nodes, tokens[:, -1] + lightest) / (gpus // nodes)
    return hottest


def check(experts: int, groups: int, nodes: int, slots: int, gpus: int) -> None:
    """Raise UsageError where groups, experts, GPUs or slots do not spread evenly over nodes."""
    for what, number, over, name in (("experts", experts, groups, "groups"), ("groups", groups, nodes, "nodes"),
                                     ("GPUs", gpus, nodes, "nodes"), ("slots", slots, gpus, "GPUs")):  # fmt: skip
        if over < 1 or number % over:
            raise UsageError(f"{number} {what} do not spread evenly over {over} {name}")


@cache
def shares(groups: int, nodes: int) -> int:
    """Return in how many ways groups can be shared out evenly to nodes that are all alike.

    >>> shares(8, 4), shares(8, 8)
    (105, 1)
    """
    each, ways = groups // nodes, 1
    for left in range(groups, 0, -each):
        ways *= comb(left - 1, each - 1)
    return ways


@cache
def _ways(groups: int, nodes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all sets of groups / nodes groups [sets, groups / N], and the ways to share out, as sets [ways, N]."""
    each = groups // nodes
    sets = list(combinations(range(groups), each))
    place = {one: at for at, one in enumerate(sets)}

    def rest(left: tuple[int, ...]) -> Iterator[list[int]]:
        if not left:
            yield []
            return
        for others in combinations(left[1:], each - 1):
            one = (left[0], *others)
            for more in rest(tuple(group for group in left[1:] if group not in others)):
                yield [place[one], *more]

    return np.array(sets), np.array(list(rest(tuple(range(groups)))))


def _costs(counts: Floats, sets: NDArray[np.int64], groups: int, slots: int, gpus: int) -> Floats:
    """Return for each layer and set of groups [L, sets] the least tokens of the hottest GPU of a node that has it."""
    layers, experts = counts.shape
    within = counts.reshape(layers, groups, experts // groups)[:, sets].reshape(layers * len(sets), -1)
    heaviest = (within / replicate(within, slots, gpus)).max(1)
    costs: Floats = np.maximum(within.sum(1) / gpus, heaviest).reshape(layers, len(sets))
    return costs


def _of_groups(counts: Floats, groups: int) -> Floats:
    summed: Floats = counts.reshape(len(counts), groups, -1).sum(-1)
    return summed


def experts_of_nodes(nodes: NDArray[Any], experts: int) -> NDArray[np.int32]:
    """Return the experts of each node [L, N, E / N] from its groups [L, N, groups / N].

    >>> experts_of_nodes(np.array([[[0, 2], [1, 3]]]), experts=8).tolist()
    [[[0, 1, 4, 5], [2, 3, 6, 7]]]
    """
    each = experts // (nodes.shape[1] * nodes.shape[2])
    found = nodes[..., None] * each + np.arange(each)
    listed: NDArray[np.int32] = found.reshape(*nodes.shape[:2], -1).astype(np.int32)
    return listed


def on_one_node(slots: NDArray[Any], experts: int, groups: int, nodes: int) -> NDArray[np.bool_]:
    """Return whether all replicas of each group lie on one node, by layer [L]: slots [L, P].

    >>> on_one_node(np.array([[0, 1, 2, 3], [0, 2, 1, 3]]), experts=4, groups=2, nodes=2).tolist()
    [True, False]
    """
    group = slots // (experts // groups)
    node = np.arange(slots.shape[1]) // (slots.shape[1] // nodes)
    where = np.zeros((len(slots), groups, nodes), bool)
    where[np.arange(len(slots))[:, None], group, node] = True
    kept: NDArray[np.bool_] = (where.sum(-1) <= 1).all(-1)
    return kept
