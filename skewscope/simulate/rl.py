"""Reinforcement learning: before every training step each replica generates answers of very different lengths.

The generation of a replica ends with its longest answer, so its time is the largest of a log-normal batch: the tail,
not the mean, decides. It counts as own work of all ranks of the replica; the others wait for the last one.
"""

from __future__ import annotations

import numpy as np

from . import noise
from .noise import Array
from .scenario import JobPlan

BATCH = 64  # answers per replica and step
USUAL_LARGEST = 2.4  # standard deviations: the usual largest of BATCH
PHASES = ("generation", "training")


def generators(plan: JobPlan) -> Array:
    """Return [ranks]: True for those that only generate; none where all ranks do both."""
    inner = plan.cp * plan.tp
    replica = np.arange(plan.ranks) // inner % plan.dp
    return np.asarray(replica < round(plan.generator_share * plan.dp))


def median_ratio(plan: JobPlan) -> float:
    """Return the time of the median answer over the usual longest one of a replica."""
    return float(np.exp(-plan.rollout_tail_ratio * USUAL_LARGEST))


def phases(parts: dict[str, Array], span_s: Array, plan: JobPlan) -> dict[str, Array]:
    """Return seconds [steps, ranks] by (phase, state) of steps that take `span_s` [steps] without what was planned.

    A rank is idle while others still generate and it has ended, and while the other pool works and it has none to do.
    """
    rollout = parts["rollout"]
    length = rollout.max(axis=1, keepdims=True)
    apart = generators(plan)
    if not apart.any():
        training = np.broadcast_to(span_s[:, None] - length, rollout.shape)
        return {"generation_busy": rollout, "generation_idle": length - rollout, "training_busy": training,
                "training_idle": np.zeros(rollout.shape)}  # fmt: skip
    own = np.asarray(sum(parts.values())) - rollout
    train_s = own[:, ~apart].max(axis=1, keepdims=True)
    ahead = np.maximum(train_s - length, 0.0)  # of the generators
    behind = np.maximum(length - train_s, 0.0)
    zero = np.zeros(rollout.shape)
    return {
        "generation_busy": np.where(apart, rollout, zero),
        "generation_idle": np.where(apart, length - rollout, behind),
        "training_busy": np.where(apart, zero, span_s[:, None] - behind), "training_idle": np.where(apart, ahead, zero),
    }  # fmt: skip


def rollout_factors(seed: int, at: int, first: int, count: int, plan: JobPlan, spread: float = 0.0) -> Array:
    """Return generation times [count, ranks] of steps from `first` on, over the usual one; equal within a replica.

    `spread` is added to that of the answers' lengths: the median answer stays as it is and the longest grows.
    """
    width = plan.rollout_tail_ratio + spread
    replicas = plan.dp
    rows = []
    for step in range(first, first + count):
        rng = noise.rng(seed, "rollout", at, step)
        # The largest of BATCH numbers is the quantile at u**(1/BATCH) of one of them.
        largest = _normal_quantile(rng.random(replicas) ** (1.0 / BATCH))
        rows.append(np.exp(width * largest - plan.rollout_tail_ratio * USUAL_LARGEST))
    per_replica = np.array(rows).reshape(count, 1, replicas, 1)
    inner = plan.cp * plan.tp
    return np.broadcast_to(per_replica, (count, plan.pp, replicas, inner)).reshape(count, plan.ranks)


def _normal_quantile(share: Array) -> Array:
    """Return the quantiles of the normal distribution, within 5e-4 (Abramowitz and Stegun 26.2.23)."""
    tail = np.sqrt(-2.0 * np.log(np.minimum(np.maximum(share, 1e-12), 1.0 - 1e-12)[()]))
    upper = np.sqrt(-2.0 * np.log1p(-np.minimum(share, 1.0 - 1e-12)))
    far = np.where(share > 0.5, upper, tail)
    value = far - (2.515517 + 0.802853 * far + 0.010328 * far**2) / (
        1.0 + 1.432788 * far + 0.189269 * far**2 + 0.001308 * far**3
    )
    return np.asarray(np.where(share > 0.5, value, -value))
