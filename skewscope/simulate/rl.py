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


def rollout_factors(seed: int, at: int, first: int, count: int, plan: JobPlan) -> Array:
    """Return generation times [count, ranks] of steps from `first` on, over the usual one; equal within a replica."""
    replicas = plan.dp
    rows = []
    for step in range(first, first + count):
        rng = noise.rng(seed, "rollout", at, step)
        # The largest of BATCH numbers is the quantile at u**(1/BATCH) of one of them.
        largest = _normal_quantile(rng.random(replicas) ** (1.0 / BATCH))
        rows.append(np.exp(plan.rollout_tail_ratio * (largest - 2.4)))  # 2.4: the usual largest of 64
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
