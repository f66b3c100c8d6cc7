"""Replays a dependency graph: every node starts when the last of its predecessors ends (longest path).

A node has a duration; a join (a collective: everybody must have arrived) is a node of duration 0 with one edge from
each arrival and one to each member's transfer. Levels are found once; durations can be replaced per scenario, and
scenarios are replayed together. Where a graph is many equal lanes (steps, data-parallel replicas) it is planned for
one lane and replayed for all, and the lanes meet at the nodes marked `shared`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import SkewscopeError

Array = np.ndarray[Any, Any]

NAMED = 8  # nodes of a cycle that the message names


@dataclass(frozen=True)
class Graph:
    """Edges `src` [e] -> `dst` [e] between nodes 0..`nodes`-1."""

    src: Array
    dst: Array
    nodes: int


@dataclass(frozen=True)
class Plan:
    """The order of a replay: `order` [n] is the node at each place, `place` [n] that of each node, sorted by level.

    Level l holds places `bounds[l]:bounds[l + 1]`; its edges are `edges[l]:edges[l + 1]` of `source` (place of each
    edge's source), and `first[l]` is where each node's edges begin, or None where each node has one. `meeting[l]` are
    the places of the level at which lanes meet. `sinks` are the places that nothing depends on.
    """

    order: Array
    place: Array
    bounds: list[int]
    edges: list[int]
    source: Array
    first: list[Array | None]
    meeting: list[Array | None]
    sinks: Array


def plan(graph: Graph, shared: Array | None = None, names: Sequence[str] | None = None) -> Plan:
    """Return the plan of `graph`; `shared` [n] marks nodes at which all lanes wait for the last of them.

    Raises SkewscopeError naming nodes of a cycle (by `names` [n] where given).

    >>> fork = plan(Graph(np.array([0, 0, 1, 2]), np.array([1, 2, 3, 3]), 4))
    >>> finish_times(fork, np.array([1.0, 5.0, 2.0, 1.0])).tolist()
    [1.0, 6.0, 3.0, 7.0]
    """
    src, dst = np.asarray(graph.src, dtype=np.int64), np.asarray(graph.dst, dtype=np.int64)
    level = _levels(src, dst, graph.nodes, names)
    order = np.argsort(level, kind="stable")
    place = np.empty(graph.nodes, dtype=np.int64)
    place[order] = np.arange(graph.nodes)
    count = int(level.max()) + 1 if graph.nodes else 0
    bounds = _starts(level, count).tolist()
    target = place[dst]
    by_target = np.argsort(target, kind="stable")
    target = target[by_target]
    edges = np.searchsorted(target, bounds).tolist() if count else [0]
    starts = np.flatnonzero(np.diff(target, prepend=-1))
    first_of = np.searchsorted(starts, edges).tolist()
    first: list[Array | None] = [None] * count
    for at in range(1, count):
        if edges[at + 1] - edges[at] > bounds[at + 1] - bounds[at]:
            first[at] = starts[first_of[at] : first_of[at + 1]] - edges[at]
    ends = np.ones(graph.nodes, dtype=bool)
    ends[place[src]] = False
    sinks = np.flatnonzero(ends)
    return Plan(order, place, bounds, edges, place[src][by_target], first, _meeting(shared, order, bounds), sinks)


def finish_times(plan: Plan, durations: Array) -> Array:
    """Return when each node ends, given `durations` [n] or [scenarios, n] in any one unit of time; same shape.

    >>> chain = plan(Graph(np.array([0, 1]), np.array([1, 2]), 3))
    >>> finish_times(chain, np.array([[1, 1, 1], [1, 2, 1]])).tolist()
    [[1.0, 2.0, 3.0], [1.0, 3.0, 4.0]]
    """
    given = np.asarray(durations, dtype=float)
    ends = given[..., plan.order].T.copy()
    sweep(plan, ends)
    finished = np.empty_like(given)
    finished[..., plan.order] = ends.T
    return finished


def sweep(plan: Plan, values: Array) -> None:
    """Turn durations into end times, in place; `values` [n, lanes, ...] are in plan order.

    At shared nodes all lanes of axis 1 take the latest time.

    >>> pair = plan(Graph(np.array([0]), np.array([1]), 2), shared=np.array([False, True]))
    >>> two_lanes = np.array([[1.0, 5.0], [0.0, 0.0]])
    >>> sweep(pair, two_lanes); two_lanes.tolist()
    [[1.0, 5.0], [5.0, 5.0]]
    """
    for at in range(1, len(plan.bounds) - 1):
        low, high = plan.bounds[at], plan.bounds[at + 1]
        sources = values.take(plan.source[plan.edges[at] : plan.edges[at + 1]], axis=0)
        first = plan.first[at]
        values[low:high] += sources if first is None else np.maximum.reduceat(sources, first, axis=0)
        meeting = plan.meeting[at]
        if meeting is not None:
            values[meeting] = values[meeting].max(axis=1, keepdims=True)


def _levels(src: Array, dst: Array, nodes: int, names: Sequence[str] | None) -> Array:
    """Return the level of each node, [n]: one more than the highest of its predecessors. Linear in edges."""
    by_source = np.argsort(src, kind="stable")
    target = dst[by_source]
    begin = _starts(src, nodes)
    missing = np.bincount(dst, minlength=nodes)
    level = np.full(nodes, -1, dtype=np.int64)
    mark = np.empty(nodes, dtype=np.int64)
    wave, depth = np.flatnonzero(missing == 0), 0
    while len(wave):
        level[wave] = depth
        depth += 1
        if len(wave) == 1:
            reached = target[begin[wave[0]] : begin[wave[0] + 1]]
        else:
            size = begin[wave + 1] - begin[wave]
            ends = np.cumsum(size)
            reached = target[np.repeat(begin[wave] - ends + size, size) + np.arange(ends[-1])]
        np.subtract.at(missing, reached, 1)
        ready = reached[missing[reached] == 0]
        mark[ready] = np.arange(len(ready))  # two edges may reach a node in one wave: keep one
        wave = ready[mark[ready] == np.arange(len(ready))]
    if (level < 0).any():
        raise SkewscopeError(_cycle(src, dst, level < 0, names))
    return level


def _starts(values: Array, count: int) -> Array:
    """Return where each of the values 0..`count`-1 begins, were `values` sorted, and their number; [count + 1].

    >>> _starts(np.array([2, 0, 0]), 3).tolist()
    [0, 2, 2, 3]
    """
    starts = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(values, minlength=count), out=starts[1:])
    return starts


def _meeting(shared: Array | None, order: Array, bounds: list[int]) -> list[Array | None]:
    found: list[Array | None] = [None] * max(len(bounds) - 1, 0)
    if shared is None:
        return found
    places = np.flatnonzero(np.asarray(shared)[order])
    cut = np.searchsorted(places, bounds)
    for at in range(len(found)):
        if cut[at + 1] > cut[at]:
            found[at] = places[cut[at] : cut[at + 1]]
    return found


def _cycle(src: Array, dst: Array, stuck: Array, names: Sequence[str] | None) -> str:
    """Return a message naming nodes of one cycle among the `stuck` nodes."""
    inside = stuck[src] & stuck[dst]
    before = dict(zip(dst[inside].tolist(), src[inside].tolist(), strict=True))
    path: dict[int, None] = {}
    node = next(iter(before))
    while node not in path:
        path[node] = None
        node = before[node]
    walk = list(path)
    loop = walk[walk.index(node) :][::-1]
    shown = [names[one] if names is not None else str(one) for one in loop[:NAMED]]
    more = f" and {len(loop) - NAMED} more" if len(loop) > NAMED else ""
    return f"the dependency graph has a cycle of {len(loop)} operations: {' -> '.join(shown)}{more}"
