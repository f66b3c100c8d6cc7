"""Which layers stand on which pipeline stage so that the slowest stage is as fast as can be, within memory.

Exact, by dynamic programming over contiguous parts: best[k][j] = min over i of max(best[k - 1][i], time of layers
i..j-1 on stage k). Stages may differ in speed and in memory; an embedding and a head are extras of the first and of the
last stage. A stage that does not hold its layers is no candidate, however fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UsageError

Array = np.ndarray[Any, Any]

SAME_RATIO = 1e-12


@dataclass(frozen=True)
class Memory:
    """What fits: `weights` and `activations` [layers] (the latter of one microbatch), `capacity` [stages], in bytes.

    `held` [stages] is how many microbatches a stage holds at once (1F1B: p - i); `first` and `last` are bytes that the
    first and the last stage need beside their layers.
    """

    weights: Array
    activations: Array
    held: Array
    capacity: Array
    first: float = 0.0
    last: float = 0.0

    def used(self, cuts: Array) -> Array:
        """Return the bytes of each stage, [stages]; `cuts` [stages + 1] are the layers where stages begin."""
        totals = [np.concatenate([[0.0], np.cumsum(one)]) for one in (self.weights, self.activations)]
        used = np.diff(totals[0][cuts]) + self.held * np.diff(totals[1][cuts])
        used[0] += self.first
        used[-1] += self.last
        return np.asarray(used)


@dataclass(frozen=True)
class Problem:
    """`cost` [layers] seconds at speed 1, `speeds` [stages], and seconds beside the layers on the outer stages.

    `forward_share` is the most that forward passes are of any cost; 1 where unknown.
    """

    cost: Array
    speeds: Array
    first: float = 0.0
    last: float = 0.0
    memory: Memory | None = None
    forward_share: float = 1.0

    def times(self, sizes: Array) -> Array:
        """Return the seconds of each stage, [stages]; `sizes` [stages] layers each.

        >>> Problem(np.ones(6), np.array([1.0, 0.5]), last=1.0).times(np.array([4, 2])).tolist()
        [4.0, 6.0]
        """
        total = np.concatenate([[0.0], np.cumsum(self.cost)])
        work = np.diff(total[np.concatenate([[0], np.cumsum(sizes)])])
        work[0] += self.first
        work[-1] += self.last
        return np.asarray(work / self.speeds)


@dataclass(frozen=True)
class Partition:
    """`sizes` [stages] layers, their `times_s` [stages], and `bound_s` that no partition can be below."""

    sizes: Array
    times_s: Array
    bound_s: float


def partition(problem: Problem, microbatches: int = 0) -> Partition:
    """Return a partition with the least slowest stage, at least one layer each; the optimum, O(layers^2 stages).

    With `microbatches` m it is the partition with the least bound of 1F1B's makespan instead, and `bound_s` is that
    bound, see `_makespan_s`.

    Raises UsageError where there are fewer layers than stages, and where no partition fits into memory, with the
    stage that is short and of how much.

    >>> partition(Problem(np.ones(32), np.ones(4), first=0.3, last=2.5)).sizes.tolist()
    [8, 9, 9, 6]
    >>> partition(Problem(np.ones(48), np.array([1.0, 1.0, 0.5, 1.0]))).sizes.tolist()
    [13, 14, 7, 14]
    """
    layers, stages = len(problem.cost), len(problem.speeds)
    if layers < stages:
        raise UsageError(f"{layers} layers cannot fill {stages} stages; merge stages or give finer layers")
    best = np.full(layers + 1, np.inf)
    best[0] = 0.0
    came = np.zeros((stages, layers + 1), dtype=np.int64)
    for stage in range(stages):
        # [i, j]: the stage takes layers i..j-1.
        slowest = np.maximum(best[:, None], _stage_s(problem, stage, microbatches))
        came[stage] = slowest.argmin(axis=0)
        best = slowest[came[stage], np.arange(layers + 1)]
    if not np.isfinite(best[layers]):
        raise UsageError(_shortage(problem))
    cuts = [layers]
    for stage in reversed(range(stages)):
        cuts.append(int(came[stage][cuts[-1]]))
    sizes = np.diff(cuts[::-1])
    return Partition(sizes, problem.times(sizes), float(best[layers]) if microbatches else bound_s(problem))


def _stage_s(problem: Problem, stage: int, microbatches: int = 0) -> Array:
    """Return the time of layers i..j-1 on a stage, [layers + 1, layers + 1]; infinite where none or too many."""
    last = stage == len(problem.speeds) - 1
    total = np.concatenate([[0.0], np.cumsum(problem.cost)])
    time = total[None, :] - total[:, None] + problem.first * (stage == 0) + problem.last * last
    time = np.where(np.tri(len(total), dtype=bool), np.inf, time / problem.speeds[stage])
    if microbatches:
        time = _makespan_s(problem, stage, time, microbatches)
    memory = problem.memory
    if memory is None:
        return np.asarray(time)
    bytes_ = memory.weights + memory.held[stage] * memory.activations
    summed = np.concatenate([[0.0], np.cumsum(bytes_)])
    used = summed[None, :] - summed[:, None] + memory.first * (stage == 0) + memory.last * last
    return np.asarray(np.where(used <= memory.capacity[stage] * (1 + SAME_RATIO), time, np.inf))


def _makespan_s(problem: Problem, stage: int, time: Array, microbatches: int) -> Array:
    """Return a time that 1F1B cannot end before, given the time of one stage i; shape of `time`.

    The first microbatch comes down to i, and the last goes back up, through all stages before. Between, i runs p - i
    forward passes at most until the first backward has come back through all stages after it. So all other stages'
    work passes once, and m - (p - i - 1) forward_share times its own. Other stages count at the best speed.

    >>> even = Problem(np.ones(4), np.ones(4), forward_share=1 / 3)
    >>> round(float(_makespan_s(even, 3, np.array(3.0), 16)), 6)
    49.0
    """
    started = min(microbatches, len(problem.speeds) - stage)
    best = float(problem.speeds.max())
    work = float(problem.cost.sum()) + problem.first + problem.last
    own = microbatches - (started - 1) * problem.forward_share - problem.speeds[stage] / best
    rest = time * own if own else 0.0  # infinite times no time would be no number
    return np.asarray(np.maximum(rest + work / best, time * microbatches))


def bound_s(problem: Problem) -> float:
    """Return a time that no partition can be below: all work at all speeds, the dearest layer, the outer stages' least.

    >>> bound_s(Problem(np.ones(32), np.ones(4), first=0.3, last=2.5))
    8.7
    """
    work = float(problem.cost.sum()) + problem.first + problem.last
    outer = [
        (problem.first + problem.cost[0]) / problem.speeds[0],
        (problem.last + problem.cost[-1]) / problem.speeds[-1],
    ]
    return max(work / float(problem.speeds.sum()), float(problem.cost.max() / problem.speeds.max()), *map(float, outer))


def _shortage(problem: Problem) -> str:
    memory = problem.memory
    if memory is None:
        return "no split exists"
    layers, placed = len(problem.cost), 0
    for stage, held in enumerate(memory.held):
        used = memory.first * (stage == 0) + memory.last * (stage == len(memory.held) - 1)
        needs = np.cumsum((memory.weights + held * memory.activations)[placed:]) + used
        placed += int(np.searchsorted(needs, memory.capacity[stage], side="right"))
    return (
        f"no contiguous split fits into memory: filled one after another, the stages leave {max(layers - placed, 1)} "
        f"of {layers} layers over; shard or offload, recompute activations, or add stages"
    )  # fmt: skip


def even_split(layers: int, stages: int) -> Array:
    """Return the split that frameworks make: equal parts, the first stages one more where it does not divide.

    >>> even_split(10, 4).tolist()
    [3, 3, 2, 2]
    """
    return np.full(stages, layers // stages) + (np.arange(stages) < layers % stages)


def moved(before: Array, after: Array) -> int:
    """Return how many layers change their stage.

    >>> moved(np.array([8, 8, 8, 8]), np.array([8, 9, 9, 6]))
    3
    """
    stages = np.arange(len(before))
    return int((np.repeat(stages, before) != np.repeat(stages, after)).sum())
