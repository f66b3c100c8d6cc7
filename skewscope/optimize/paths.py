"""Which spine each large flow should take so that none shares a link (C4P: Dong and others, HPCA 2025).

A flow goes up from its source's leaf to a spine and down to its destination's leaf. Switches choose the spine by a hash
(ECMP), so a few large flows often meet on one link while others are idle. Three remedies: choose spines (source ports
that hash there, or path control), more queue pairs per flow (each hashes by itself), and a ring order in which
neighbours share a leaf, so that fewer flows leave it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

SAME_RATIO = 1e-12


@dataclass(frozen=True)
class Flows:
    """`up` and `down` [flows] leaves of source and destination, from 0; `size` [flows] bytes; `spines` how many."""

    up: Array
    down: Array
    size: Array
    spines: int

    @property
    def leaves(self) -> int:
        """Return how many leaves there are."""
        return int(max(self.up.max(initial=-1), self.down.max(initial=-1))) + 1

    def loads(self, spine: Array) -> Array:
        """Return the bytes on each link, [2 (up, down), leaves, spines]; `spine` [flows].

        >>> Flows(np.array([0, 0]), np.array([1, 2]), np.array([3.0, 4.0]), 2).loads(np.array([1, 1]))[0].tolist()
        [[0.0, 7.0], [0.0, 0.0], [0.0, 0.0]]
        """
        found = np.zeros((2, self.leaves, self.spines))
        crossing = self.up != self.down
        for way, leaf in enumerate((self.up, self.down)):
            np.add.at(found[way], (leaf[crossing], spine[crossing]), self.size[crossing])
        return found

    def least_bytes(self) -> float:
        """Return what the busiest link carries at least: a leaf's flows spread evenly, the largest flow, whole flows.

        >>> Flows(np.array([0, 0, 0]), np.array([1, 2, 3]), np.ones(3), 2).least_bytes()  # two of three must meet
        2.0
        """
        crossing = self.up != self.down
        if not crossing.any():
            return 0.0
        least = float(self.size[crossing].max())
        for leaf in (self.up[crossing], self.down[crossing]):
            for one in np.unique(leaf):
                sizes = np.sort(self.size[crossing][leaf == one])
                meeting = -(-len(sizes) // self.spines)  # some link carries as many flows
                least = max(least, float(sizes.sum()) / self.spines, float(sizes[:meeting].sum()))
        return least


def spread(flows: Flows) -> Array:
    """Return a spine for each flow so that the busiest link carries little, [flows].

    Flows of equal size: the optimum, by colouring the edges of a bipartite graph (Koenig): no link carries more than
    its leaf's flows over the spines, rounded up. Else the largest first, each on the spine whose busier link is least.

    >>> flows = Flows(np.array([0, 0, 1, 1]), np.array([2, 3, 2, 3]), np.ones(4), 2)
    >>> float(flows.loads(spread(flows)).max())
    1.0
    """
    crossing = np.flatnonzero(flows.up != flows.down)
    spine = np.zeros(len(flows.size), dtype=np.int64)
    if len(crossing) and np.ptp(flows.size[crossing]) <= SAME_RATIO * flows.size[crossing].max():
        spine[crossing] = _coloured(flows.up[crossing], flows.down[crossing], flows.spines)
        return spine
    held = np.zeros((2, flows.leaves, flows.spines))
    for flow in crossing[np.argsort(-flows.size[crossing], kind="stable")]:
        ends = held[0, flows.up[flow]], held[1, flows.down[flow]]
        spine[flow] = np.lexsort((ends[0] + ends[1], np.maximum(*ends)))[0]
        for one in ends:
            one[spine[flow]] += flows.size[flow]
    return spine


def _coloured(up: Array, down: Array, colours: int) -> Array:
    """Return a colour per edge so that edges at one end differ; ends with more edges than colours count as several."""
    found = np.full(len(up), -1)
    used: dict[tuple[int, int, int], dict[int, int]] = {}
    ends = [(_split(up, colours, 0)), (_split(down, colours, 1))]
    for edge in range(len(up)):
        first, second = (used.setdefault(ends[side][edge], {}) for side in (0, 1))
        free = [next(one for one in range(colours) if one not in taken) for taken in (first, second)]
        if free[0] in second:
            _swap(edge, free[0], free[1], ends, used, found)
        found[edge] = free[0]
        first[free[0]] = second[free[0]] = edge
    return found


def _split(leaf: Array, most: int, side: int) -> list[tuple[int, int, int]]:
    """Return the end of each edge: (side, leaf, copy), `most` edges per copy."""
    seen: dict[int, int] = {}
    found = []
    for one in leaf.tolist():
        count = seen.get(one, 0)
        found.append((side, one, count // most))
        seen[one] = count + 1
    return found


def _swap(
    edge: int, wanted: int, other: int, ends: list[list[tuple[int, int, int]]],
    used: dict[tuple[int, int, int], dict[int, int]], found: Array,
) -> None:  # fmt: skip
    """Free the colour `wanted` at the edge's second end: swap it with `other` along the path that begins there.

    The path cannot come back to the first end, which has no `wanted`: it would arrive there by that colour.
    """
    path, end, colour = [], ends[1][edge], wanted
    while colour in used[end]:
        following = used[end][colour]
        path.append(following)
        end = ends[1][following] if ends[0][following] == end else ends[0][following]
        colour = other if colour == wanted else wanted
    for one in path:
        for side in (0, 1):
            del used[ends[side][one]][int(found[one])]
    for one in path:
        found[one] = other if found[one] == wanted else wanted
        for side in (0, 1):
            used[ends[side][one]][int(found[one])] = one


def hashed(flows: Flows, pairs: int = 1, draws: int = 1000, seed: int = 0) -> Array:
    """Return the bytes on the busiest link in each of `draws` random hashes, [draws]; `pairs` queue pairs per flow.

    >>> one = Flows(np.array([0]), np.array([1]), np.array([8.0]), 4)
    >>> hashed(one, draws=2).tolist()
    [8.0, 8.0]
    """
    crossing = flows.up != flows.down
    up, down, size = flows.up[crossing], flows.down[crossing], flows.size[crossing]
    draw = np.random.default_rng(seed)
    found = np.zeros(draws)
    cells = flows.leaves * flows.spines
    weight = np.repeat(size / pairs, pairs)
    for at in range(draws):
        spine = draw.integers(flows.spines, size=(len(size), pairs))
        for leaf in (up, down):
            place = (leaf[:, None] * flows.spines + spine).ravel()
            found[at] = max(found[at], np.bincount(place, weight, cells).max(initial=0.0))
    return found


def crossings(leaf: Array) -> int:
    """Return how many flows of a ring leave their leaf; `leaf` [nodes] in the order of the ring.

    >>> crossings(np.array([0, 1, 0, 1])), crossings(np.array([0, 0, 1, 1]))
    (4, 2)
    """
    return int((leaf != np.roll(leaf, -1)).sum())


def ring(leaf: Array) -> Array:
    """Return the nodes in an order in which each leaf is entered once, [nodes]: as few crossings as there can be.

    Leaves come in the order in which they are first seen, and nodes of a leaf keep theirs.

    >>> ring(np.array([1, 0, 1, 0])).tolist()
    [0, 2, 1, 3]
    """
    _, first, group = np.unique(leaf, return_index=True, return_inverse=True)
    return np.argsort(first[group], kind="stable")
