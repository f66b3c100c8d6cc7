"""What a placement of pipeline stages and replicas onto GPUs costs, from measured links.

Two models. "pipette" (Yim and others, DATE 2024): the slowest pipeline's transfers across its stage boundaries, forward
and back, plus the slowest ring all-reduce of gradients, at the speed of its slowest link. "dt-fm" (Yuan and others,
NeurIPS 2022): at each boundary all replicas wait for the slowest, twice, and each member of a data-parallel group sends
its part of the gradients to all others. Both are seconds per step of communication that nothing hides.

A placement is a permutation: `order` [units], the unit (GPU, or node) of replica r and stage s at place r stages + s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

EXACT_UNITS = 8  # up to which all permutations are tried: 40,320
BATCH = 4096


@dataclass(frozen=True)
class Job:
    """Links and traffic: `speed` [units, units] bytes/s (diagonal ignored), `latency_s` alike.

    `replicas` times `stages` are the units; a microbatch hands on `activation_bytes` at each boundary, and each stage
    all-reduces `gradient_bytes` [stages] among its replicas.
    """

    speed: Array
    latency_s: Array
    replicas: int
    stages: int
    activation_bytes: float
    gradient_bytes: Array
    model: str = "pipette"

    def seconds(self, orders: Array) -> Array:
        """Return what placements cost, [...] in seconds; `orders` [..., units].

        >>> two = job(np.array([[0, 10, 1, 1], [10, 0, 1, 1], [1, 1, 0, 10], [1, 1, 10, 0.0]]), 2, 2, 5.0, 1.0)
        >>> two.seconds(np.array([[0, 1, 2, 3], [0, 2, 1, 3]])).tolist()
        [2.0, 10.1]
        """
        pipeline, gradients = self.parts(orders)
        return np.asarray(pipeline + gradients)

    def parts(self, orders: Array) -> tuple[Array, Array]:
        """Return (pipeline, gradients) of placements, each [...] in seconds; `orders` [..., units]."""
        grid = orders.reshape(*orders.shape[:-1], self.replicas, self.stages)
        here, then = grid[..., :-1], grid[..., 1:]
        hand = [
            self.latency_s[a, b] + self.activation_bytes / self.speed[a, b] for a, b in ((here, then), (then, here))
        ]
        if self.model == "dt-fm":
            pipeline = sum(one.max(axis=-2, initial=0.0).sum(axis=-1) for one in hand)
            return np.asarray(pipeline), self._all_to_all(grid)
        return np.asarray((hand[0] + hand[1]).sum(axis=-1).max(axis=-1)), self._ring(grid)

    def _ring(self, grid: Array) -> Array:
        """Return the slowest stage's ring all-reduce, replicas in the order of the grid, [...]."""
        count = self.replicas
        if count == 1:
            return np.zeros(grid.shape[:-2])
        after = np.roll(grid, -1, axis=-2)
        slowest = self.speed[grid, after].min(axis=-2)
        hops = self.latency_s[grid, after].max(axis=-2) * 2 * (count - 1)
        return np.asarray((hops + 2 * (count - 1) / count * self.gradient_bytes / slowest).max(axis=-1))

    def _all_to_all(self, grid: Array) -> Array:
        """Return the busiest member's sending and receiving of its part of the gradients, [...]."""
        mine, others = grid[..., :, None, :], grid[..., None, :, :]
        each = 2 * (self.latency_s[mine, others] + self.gradient_bytes / (self.speed[mine, others] * self.replicas))
        apart = ~np.eye(self.replicas, dtype=bool)[..., None]
        return np.asarray(np.where(apart, each, 0.0).sum(axis=-2).max(axis=(-2, -1)))

    def bound_s(self) -> float:
        """Return a time that no placement can be below; see `_least_pipeline_s` and `_least_gradients_s`."""
        return _least_pipeline_s(self) + _least_gradients_s(self)


def job(
    speed: Array, replicas: int, stages: int, activation_bytes: float, gradient_bytes: Array | float,
    latency_s: Array | None = None, model: str = "pipette",
) -> Job:  # fmt: skip
    """Return a job whose diagonal costs nothing; `gradient_bytes` scalar or [stages]."""
    links = np.array(speed, dtype=np.float64)
    np.fill_diagonal(links, np.inf)
    waits = np.zeros(links.shape) if latency_s is None else np.array(latency_s, dtype=np.float64)
    np.fill_diagonal(waits, 0.0)
    gradients = np.broadcast_to(np.asarray(gradient_bytes, dtype=np.float64), (stages,))
    return Job(links, waits, replicas, stages, activation_bytes, gradients, model)


def _least_pipeline_s(it: Job) -> float:
    """Return the least that the slowest pipeline takes: pipelines are paths that cover all units, a forest.

    All boundaries together cost at least the cheapest forest with as many links (Kruskal), and the slowest pipeline at
    least the mean.
    """
    hand = it.latency_s + it.activation_bytes / it.speed
    both = hand + hand.T
    rows, columns = np.triu_indices(len(both), 1)
    group = np.arange(len(both))
    needed, total = it.replicas * (it.stages - 1), 0.0
    for edge in np.argsort(both[rows, columns], kind="stable"):
        if not needed:
            break
        a, b = group[rows[edge]], group[columns[edge]]
        if a != b:
            group[group == b] = a
            total += float(both[rows[edge], columns[edge]])
            needed -= 1
    return total / it.replicas


def _least_gradients_s(it: Job) -> float:
    """Return the least that the slowest exchange takes: each unit over the best links it has at all."""
    if it.replicas == 1:
        return 0.0
    least = float(it.gradient_bytes.min())
    links = it.speed.copy()
    np.fill_diagonal(links, 0.0)
    if it.model == "dt-fm":
        costs = np.sort(2 * (it.latency_s + least / (np.where(links > 0, links, np.nan) * it.replicas)), axis=1)
        return float(costs[:, : it.replicas - 1].sum(axis=1).max())
    into, out = (np.sort(one, axis=1)[:, -1] for one in (links.T, links))
    return 2 * (it.replicas - 1) / it.replicas * least / float(min(into.min(), out.min()))


def exact(it: Job, allowed: Callable[[Array], Array] | None = None) -> Array:
    """Return the best order of all, [units]; for up to `EXACT_UNITS` units, else ValueError.

    `allowed` maps orders [n, units] to whether each may be taken, [n]; at least one must be.
    """
    units = it.replicas * it.stages
    if units > EXACT_UNITS:
        raise ValueError(f"{units} units are too many to try all placements; up to {EXACT_UNITS}")
    every = np.array(list(permutations(range(units))))
    every = every if allowed is None else every[allowed(every)]
    costs = [it.seconds(part) for part in np.array_split(every, -(-len(every) // BATCH))]
    return np.asarray(every[int(np.concatenate(costs).argmin())])


def contiguous(it: Job) -> Array:
    """Return the order with each pipeline on units next to each other."""
    return np.arange(it.replicas * it.stages)


def by_stage(it: Job) -> Array:
    """Return the order with each stage's replicas on units next to each other: Megatron's, Holmes' inside clusters.

    >>> by_stage(job(np.ones((6, 6)), 2, 3, 1.0, 1.0)).tolist()
    [0, 2, 4, 1, 3, 5]
    """
    return np.arange(it.replicas * it.stages).reshape(it.stages, it.replicas).T.ravel()


def clusters(speed: Array) -> Array:
    """Return units sorted so that well connected ones are neighbours: by turns the unit best linked to the last one.

    >>> clusters(np.array([[0, 1, 9, 1], [1, 0, 1, 9], [9, 1, 0, 1], [1, 9, 1, 0]])).tolist()
    [0, 2, 1, 3]
    """
    found = [0]
    free = np.ones(len(speed), dtype=bool)
    free[0] = False
    while free.any():
        following = int(np.where(free, speed[found[-1]], -np.inf).argmax())
        found.append(following)
        free[following] = False
    return np.array(found)


def narrowed(speed: Array, size: int) -> Array:
    """Return the links between groups of `size` units in a row (tensor-parallel groups): the slowest of their pairs.

    >>> narrowed(np.array([[0, 9, 5, 1], [9, 0, 1, 4], [5, 1, 0, 9], [1, 4, 9, 0.0]]), 2).tolist()
    [[0.0, 4.0], [4.0, 0.0]]
    """
    groups = len(speed) // size
    blocks = speed.reshape(groups, size, groups, size)
    found = np.diagonal(blocks, axis1=1, axis2=3).min(axis=-1)
    return np.asarray(np.where(np.eye(groups, dtype=bool), 0.0, found))
