"""How the work of a pipeline is spread: over workers, stages, replicas and microbatches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..stats.robust import leave_one_out_median
from . import _pipeline_links as links
from ._pipeline_bench import Bench
from ._pipeline_lattice import Lattice

Array = np.ndarray[Any, Any]
Workers = frozenset[tuple[int, int]]  # (stage, replica)


@dataclass(frozen=True)
class Work:
    """Compute of each worker, `compute_ns` [stages, replicas, S], NaN where not recorded; `rank` [stages, replicas].

    `ratio` is the same over the median of the other replicas of its stage (NaN without peers), `slowest` whether it is
    the largest of them.
    """

    compute_ns: Array
    rank: Array
    ratio: Array
    slowest: Array

    @property
    def peers(self) -> Array:
        """Other workers of the same stage, [stages]."""
        return np.asarray(np.isfinite(self.compute_ns).any(axis=2).sum(axis=1) - 1)


@dataclass(frozen=True)
class Microbatches:
    """Per worker with at least 3 microbatches in all: whether forward time varies, and backward with it.

    `correlation`, `variation` (standard deviation over mean) and `count` (microbatches compared) are [workers].
    """

    correlation: Array
    variation: Array
    count: Array


def measure(bench: Bench) -> Work:
    """Return the compute of each worker in each step."""
    stages = max(one.lattice.rank.shape[0] for one in bench.pipelines)
    replicas = max(one.lattice.rank.shape[1] for one in bench.pipelines)
    compute = np.full((stages, replicas, len(bench.steps)), np.nan)
    rank = np.full((stages, replicas), -1)
    for pipeline, columns in zip(bench.pipelines, bench.columns, strict=True):
        lattice = pipeline.lattice
        rank = np.maximum(rank, lattice.rank)
        chosen = lattice.of_kind(*links.COMPUTE)
        for stage in np.unique(lattice.stage[chosen]):
            work = pipeline.work[chosen & (lattice.stage == stage)]
            seen = np.isfinite(work).any(axis=0)
            compute[stage][:, columns] = np.where(seen, np.nansum(work, axis=0), np.nan)
    others = np.moveaxis(leave_one_out_median(np.moveaxis(compute, 1, 2)), 2, 1)
    ratio = _over(compute, others)
    top = np.fmax.reduce(compute, axis=1, keepdims=True)
    return Work(compute, rank, ratio, (compute >= top) & np.isfinite(ratio))


def stage_ratio(work: Work, without: Workers) -> Array:
    """Return each worker's mean compute over the median of the other stages of its replica, [stages, replicas]."""
    level = _without(work, without)
    others = leave_one_out_median(level.T).T
    return _over(level, others)


def stage_ratio_by_step(work: Work, without: Workers, stage: int) -> Array:
    """Return the stage's compute (median of its replicas) over that of the other stages in each step, [S]."""
    kept = work.compute_ns.copy()
    for one, replica in without:
        kept[one, replica] = np.nan
    level = _median(kept, axis=1)
    others = leave_one_out_median(level.T).T[stage]
    return _over(level[stage], others)


def add_targets(bench: Bench, work: Work, without: Workers) -> None:
    """Add the targets "even" and "balanced" to the bench; the workers `without` do not count in the means."""
    load = _median(_without(work, without), axis=1)
    mean = float(np.nanmean(load)) if np.isfinite(load).any() else 0.0
    scale = np.divide(mean, load, out=np.ones(len(load)), where=np.nan_to_num(load) > 0)
    for pipeline, targets in zip(bench.pipelines, bench.targets, strict=True):
        lattice = pipeline.lattice
        compute = lattice.of_kind(*links.COMPUTE)
        even = np.zeros((len(lattice.kind), 1, pipeline.work.shape[2]))
        factor = np.ones((len(lattice.kind), 1, 1))
        factor[compute] = scale[lattice.stage[compute]][:, None, None]
        for stage in np.unique(lattice.stage[compute]):
            out = [replica for one, replica in without if one == stage]
            for kind in links.COMPUTE:
                rows = lattice.of_kind(kind) & (lattice.stage == stage)
                kept = np.delete(pipeline.work[rows], out, axis=1) if rows.any() else np.zeros((0, 0, 0))
                if kept.size:
                    even[rows] = _mean(kept)[None, None, :]
        targets["even"] = even
        targets["balanced"] = even * factor


def microbatches(bench: Bench, without: Workers) -> Microbatches:
    """Return how forward and backward times vary together over the microbatches of each worker."""
    parts = [_phases(one.lattice, one.work) for one in bench.pipelines]
    found: list[tuple[float, float, int]] = []
    ranks = bench.pipelines[0].lattice.rank
    for stage, replica in zip(*np.nonzero(ranks >= 0), strict=True):
        if (int(stage), int(replica)) in without:
            continue
        pairs = [times[:, at == stage, replica].reshape(2, -1) for at, times in parts if replica < times.shape[2]]
        both = np.concatenate(pairs, axis=1)
        both = both[:, np.isfinite(both).all(axis=0)]
        if both.shape[1] < 3 or (both.std(axis=1) == 0).any():
            continue
        found.append((float(np.corrcoef(both)[0, 1]), float(both[0].std() / both[0].mean()), both.shape[1]))
    table = np.array(found).reshape(-1, 3)
    return Microbatches(table[:, 0], table[:, 1], table[:, 2])


def pass_ratios(bench: Bench, stage: int, replica: int, slow: Sequence[tuple[int, int]]) -> Array:
    """Return each pass of one worker over the median of the same pass of its peers that are not slow, [passes]."""
    out = [other for other_stage, other in slow if other_stage == stage and other != replica]
    found = []
    for pipeline in bench.pipelines:
        lattice = pipeline.lattice
        rows = lattice.of_kind(*links.COMPUTE) & (lattice.stage == stage)
        peers = np.delete(pipeline.work[rows], [*out, replica], axis=1)
        if peers.shape[1]:
            found.append(_over(pipeline.work[rows, replica], _median(peers, axis=1)).ravel())
    every = np.concatenate(found) if found else np.zeros(0)
    return np.asarray(every[np.isfinite(every) & (every > 0)])


def _phases(lattice: Lattice, work: Array) -> tuple[Array, Array]:
    """Return (stage [m], times [forward and backward, m, replicas, s]) of the microbatches that have both."""
    rows = []
    keys = []
    span = int(max(lattice.microbatch.max(initial=0), lattice.turn.max(initial=0))) + 2
    named = lattice.microbatch[lattice.of_kind(*links.COMPUTE)].min(initial=0) >= 0
    batch = lattice.microbatch if named else lattice.turn
    for kind in links.COMPUTE:
        at = np.flatnonzero(lattice.of_kind(kind))
        rows.append(at)
        keys.append(
            (lattice.stage[at] * (int(lattice.chunk.max(initial=0)) + 2) + lattice.chunk[at] + 1) * span + batch[at]
        )
    _, forward, backward = np.intersect1d(keys[0], keys[1], return_indices=True)
    first, second = rows[0][forward], rows[1][backward]
    return lattice.stage[first], np.stack([work[first], work[second]])


def _over(value: Array, other: Array) -> Array:
    return np.asarray(np.divide(value, other, out=np.full(value.shape, np.nan), where=other > 0))


def _without(work: Work, without: Workers) -> Array:
    """Return mean compute per worker [stages, replicas] in ns, NaN for the workers `without`."""
    level = _mean_last(work.compute_ns)
    for stage, replica in without:
        level[stage, replica] = np.nan
    return level


def _mean_last(values: Array) -> Array:
    seen = np.isfinite(values)
    count = seen.sum(axis=-1)
    return _over(np.where(seen, values, 0).sum(axis=-1), count)


def _mean(values: Array) -> Array:
    """Return the mean over operations and replicas per step, [s]; 0 where there are none."""
    seen = np.isfinite(values)
    return np.asarray(np.where(seen, values, 0).sum(axis=(0, 1)) / np.maximum(seen.sum(axis=(0, 1)), 1))


def _median(values: Array, axis: int) -> Array:
    """Return the median along an axis, NaN ignored and NaN where nothing is known."""
    ranked = np.sort(values, axis=axis)
    count = np.isfinite(values).sum(axis=axis, keepdims=True)
    low = np.take_along_axis(ranked, np.maximum(count - 1, 0) // 2, axis=axis)
    high = np.take_along_axis(ranked, np.minimum(count // 2, values.shape[axis] - 1), axis=axis)
    return np.asarray(((low + high) / 2).squeeze(axis))
