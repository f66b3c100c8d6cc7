"""Which causes an operation-level trace shows: slow workers, a heavy stage, sequence skew; judged, not yet priced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..stats.robust import binomial_tail, mad, normal_confidence, sign_confidence
from ..stats.window import affected
from ._pipeline_bench import Bench, Repair, Scenario
from ._pipeline_links import COMPUTE
from ._pipeline_work import Microbatches, Work, Workers, microbatches, stage_ratio, stage_ratio_by_step

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Limits:
    """Thresholds of the verdict, with their sources in the condition catalogue (pipeline and data rows).

    `slow_ratio` a worker's compute against the median of its stage's other replicas, in at least `steady_share_ratio`
    of the steps of its window, in which it is also the slowest; its repair must recover `recovered_share_ratio` of the
    loss.
    `heavy_ratio` a stage's compute against the other stages, alike in `alike_share_ratio` of the replicas.
    Sequence skew: `correlation_ratio` of forward and backward within ranks, `variation_ratio` of forward, and no
    replica the slowest in `rotating_share_ratio` of the steps and more often than chance allows (judged from
    `fewest_replicas_count` replicas on).
    """

    slow_ratio: float = 1.10
    steady_share_ratio: float = 0.5
    recovered_share_ratio: float = 0.2
    heavy_ratio: float = 1.10
    alike_share_ratio: float = 0.75
    correlation_ratio: float = 0.95
    variation_ratio: float = 0.10
    rotating_share_ratio: float = 0.5
    fewest_replicas_count: int = 3
    fewest_steps_count: int = 5
    chance_ratio: float = 0.05


@dataclass(frozen=True)
class Verdict:
    """What was found. `slow` (stage, replica) of each slow worker; `heavy_stage` and -1 where none is.

    `stage_rate_ratio` [stages] compute against the other stages; `correlation_ratio`, `variation_ratio` medians over
    workers; `top_share_ratio` how often the most frequent slowest replica is the slowest; `few_peers` whether workers
    have too few peers to tell a slow one from a fast one.
    """

    slow: tuple[tuple[int, int], ...]
    heavy_stage: int
    heaviest_stage: int
    stage_rate_ratio: Array
    stage_confidence_ratio: float
    sequence: bool
    sequence_confidence_ratio: float
    correlation_ratio: float
    variation_ratio: float
    top_share_ratio: float
    few_peers: bool


def classify(bench: Bench, work: Work, loss_ns: Array, limits: Limits) -> Verdict:
    """Return the verdict; `loss_ns` [S] is the replayed length of each step beyond the ideal one."""
    slow = _confirmed(bench, _suspects(work, limits), loss_ns, limits)
    heaviest, rate, alike = _stages(work, frozenset(slow), limits)
    stage_sure = 0.0
    if heaviest >= 0:
        by_step = stage_ratio_by_step(work, frozenset(slow), heaviest)
        stage_sure = min(sign_confidence(by_step - 1.0), _certainty(by_step - 1.0))
    heavy = heaviest if heaviest >= 0 and alike and rate[heaviest] >= limits.heavy_ratio else -1
    lengths = microbatches(bench, frozenset(slow))
    top = top_share(work, frozenset(slow))
    replicas = int((work.peers + 1).max())
    few = replicas < limits.fewest_replicas_count
    rotates = few or not _steady_top(top, work, replicas, limits)
    correlation = float(np.median(lengths.correlation)) if len(lengths.count) else float("nan")
    variation = float(np.median(lengths.variation)) if len(lengths.count) else float("nan")
    sequence = rotates and correlation >= limits.correlation_ratio and variation >= limits.variation_ratio
    return Verdict(
        slow, heavy, heaviest, rate, stage_sure, sequence, _sequence_confidence(lengths, limits), correlation,
        variation, top, few,
    )  # fmt: skip


def worker_repairs(workers: Sequence[tuple[int, int]]) -> tuple[Repair, ...]:
    """Return the repairs that give the workers (stage, replica) the usual compute."""
    return tuple(Repair("ideal", COMPUTE, stage, replica) for stage, replica in workers)


def window(excess: Array, noise: float, limits: Limits) -> slice:
    """Return the steps in which an effect is present, [S]; all of them where the stretch is a mere blip."""
    first, last = affected(excess, noise)
    if first < 0 or last - first + 1 < max(min(limits.fewest_steps_count, len(excess)), len(excess) // 5):
        return slice(0, len(excess))
    return slice(first, last + 1)


def top_share(work: Work, without: Workers) -> float:
    """Return the share of steps in which the most frequent slowest worker of a stage is its slowest; NaN alone."""
    hits = work.slowest.astype(float).mean(axis=2)
    for stage, replica in without:
        hits[stage, replica] = 0.0
    return float(hits.max()) if (work.peers > 0).any() else float("nan")


def _steady_top(top: float, work: Work, replicas: int, limits: Limits) -> bool:
    """Return whether one worker is the slowest of its stage too often for chance."""
    steps = work.compute_ns.shape[2]
    chance = binomial_tail(round(top * steps), steps, 1.0 / replicas) * int((work.rank >= 0).sum())
    return top >= limits.rotating_share_ratio and chance < limits.chance_ratio


def hits(work: Work, stage: int, replica: int, slow: Sequence[tuple[int, int]]) -> Array:
    """Return in which steps [S] a worker computes longer than all of its peers that are not slow themselves."""
    kept = work.compute_ns[stage].copy()
    for other_stage, other in slow:
        if other_stage == stage and other != replica:
            kept[other] = np.nan
    own = kept[replica].copy()
    kept[replica] = np.nan
    return np.asarray(own > np.fmax.reduce(kept, axis=0))


def _suspects(work: Work, limits: Limits) -> list[tuple[int, int]]:
    """Return the workers that compute longer than their peers in most steps of some stretch, slowest first."""
    found: list[tuple[float, int, int]] = []
    peers = work.peers
    rough = np.nan_to_num(np.quantile(np.nan_to_num(work.ratio), 0.75, axis=2)) >= limits.slow_ratio
    late = np.nan_to_num(work.ratio) >= limits.slow_ratio
    rough |= late.sum(axis=2) >= max(limits.fewest_steps_count, work.ratio.shape[2] // 5)
    for stage, replica in zip(*np.nonzero(rough & (peers[:, None] > 0)), strict=True):
        ratio = np.nan_to_num(work.ratio[stage, replica], nan=1.0)
        inside = window(ratio - 1.0, limits.slow_ratio - 1.0, limits)
        if (ratio[inside] >= limits.slow_ratio).mean() >= limits.steady_share_ratio:
            found.append((-float(np.median(ratio[inside])), int(stage), int(replica)))
    suspects = [(stage, replica) for _, stage, replica in sorted(found)]
    return [one for one in suspects if _steady(work, one, suspects, limits)]


def _steady(work: Work, one: tuple[int, int], suspects: list[tuple[int, int]], limits: Limits) -> bool:
    ratio = np.nan_to_num(work.ratio[one], nan=1.0)
    inside = window(ratio - 1.0, limits.slow_ratio - 1.0, limits)
    return bool(hits(work, *one, suspects)[inside].mean() >= limits.steady_share_ratio)


def _confirmed(
    bench: Bench, suspects: list[tuple[int, int]], loss_ns: Array, limits: Limits
) -> tuple[tuple[int, int], ...]:
    """Return the suspects whose repair, the other suspects being repaired too, recovers enough of the loss."""
    if not suspects:
        return ()
    fixed = [Scenario(worker_repairs([two for two in suspects if two != one])) for one in suspects]
    lengths = bench.lengths([*fixed, Scenario(worker_repairs(suspects))])
    gains = lengths[:-1] - lengths[-1]
    recovered = []
    for one, gain in zip(suspects, gains, strict=True):
        inside = window(gain, 0.01 * float(np.median(lengths[0])), limits)
        enough = limits.recovered_share_ratio / len(suspects)
        if gain[inside].sum() >= enough * max(float(loss_ns[inside].sum()), 1.0):
            recovered.append(one)
    return tuple(recovered)


def _stages(work: Work, slow: Workers, limits: Limits) -> tuple[int, Array, bool]:
    """Return (heaviest stage, compute of each stage against the others, whether its replicas agree)."""
    ratio = stage_ratio(work, slow)
    rate = np.array([float(np.median(row[np.isfinite(row)])) if np.isfinite(row).any() else np.nan for row in ratio])
    if not np.isfinite(rate).any():
        return -1, rate, False
    heaviest = int(np.nanargmax(rate))
    known = ratio[heaviest][np.isfinite(ratio[heaviest])]
    return heaviest, rate, bool((known >= limits.heavy_ratio).mean() >= limits.alike_share_ratio)


def _certainty(effect: Array) -> float:
    """Return how sure it is that an effect [S] is above zero, from its size against its spread over the steps."""
    known = effect[np.isfinite(effect)]
    if len(known) < 2:
        return 0.5 if len(known) else 0.0
    return normal_confidence(float(np.median(known)), float(mad(known)) / float(np.sqrt(len(known))))


def _sequence_confidence(found: Microbatches, limits: Limits) -> float:
    """Return how sure it is that correlation and variation are above their thresholds (Fisher's z; normal theory)."""
    workers = len(found.count)
    if not workers:
        return 0.0
    z = np.arctanh(np.clip(found.correlation, -0.999999, 0.999999))
    pairs = float(np.maximum(found.count - 3, 1).mean())
    error = max(float(z.std()), pairs**-0.5) / workers**0.5
    follows = normal_confidence(float(z.mean() - np.arctanh(limits.correlation_ratio)), error)
    spread = max(float(found.variation.std()), float(found.variation.mean()) / (2 * pairs) ** 0.5) / workers**0.5
    varies = normal_confidence(float(found.variation.mean()) - limits.variation_ratio, spread)
    return min(follows, varies)
