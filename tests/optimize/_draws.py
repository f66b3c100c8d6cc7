"""Delays as two settings of the reference runs draw them: who is slow by turns of two states, and jitter on top."""

from __future__ import annotations

import numpy as np

ROUNDS = 480


def slow(workers, start_ratio, end_ratio, seed):
    """Return who is slow [rounds, workers]: Gilbert and Elliott's chain, begun where it settles."""
    draw = np.random.default_rng(seed)
    made = np.zeros((ROUNDS, workers), dtype=bool)
    now = draw.random(workers) < start_ratio / (start_ratio + end_ratio)
    chance = draw.random((ROUNDS, workers))
    for row in range(ROUNDS):
        if row:
            now = np.where(now, chance[row] >= end_ratio, chance[row] < start_ratio)
        made[row] = now
    return made


def compute_bound(late, slowdown, compute_s=0.9, jitter_ratio=0.02):
    """Return own work in seconds: slowness multiplies the computation."""
    jitter = 1 + jitter_ratio * np.random.default_rng(7).normal(size=late.shape)
    return compute_s * jitter * np.where(late, slowdown, 1.0)


def lambda_like():
    """Return delays [480, 256] of functions in a cloud, calibrated to the published profile.

    Published: least .542, median .644, 99th percentile 1.45, most 2.25 s, 5 % slow in bursts of one round mostly.
    """
    late = slow(256, 0.0478, 0.901, 0)
    draw = np.random.default_rng(1)
    usual = 0.542 + np.exp(draw.normal(np.log(0.1), 0.55, late.shape))
    return np.where(late, 1.0 + draw.gamma(3, 0.1, late.shape), usual)
