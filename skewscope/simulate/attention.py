"""Replicas whose GPUs split attention by requests: each rank tells what it does itself, and all wait for the fullest.

How much longer an iteration takes follows from the share of attention in it (TensorRT-LLM's attention balance: 0.54 of
an even load cost a third of the throughput that 0.88 gave, so attention is half of an iteration).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from . import noise
from .noise import Array
from .series import Series, Shown
from .serving import Serving

ATTENTION_SHARE = 0.5  # of an iteration
WHOLE = ("requests_finished_total", "prompt_tokens_total", "generation_tokens_total", "_count", "_bucket")
ALIKE = ("kv_cache_usage_ratio", "endpoint_up", "gateway")


def balance(lost_share: Array) -> Array:
    """Return mean over fullest rank that makes requests take so much longer (share of their time).

    >>> balance(np.array([0.0, 0.25])).round(2).tolist()
    [1.0, 0.6]
    """
    return 1.0 / (1.0 + lost_share / (ATTENTION_SHARE * (1.0 - lost_share)))


def series(one: Serving) -> Iterator[Series]:
    """Yield the series of a serving job, those of its replicas once for each rank of attention."""
    ranks = one.job.plan.attention_ranks
    for told in one.series():
        if ranks < 2 or any(name in told.metric for name in ALIKE):
            yield told
            continue
        head, _, tail = told.labels.partition("replica=")
        name, comma, more = tail.partition(",")
        parts = _parts(one, int(name.rpartition("-")[2]))
        for rank in range(ranks):
            labels = f"{head}replica={name}{f'/{rank}' if rank else ''}{comma}{more}"
            yield replace(told, labels=labels, make=_Cut(told, parts[:, [rank]]))


class _Cut:
    """Makes the part of a series that one rank shows."""

    def __init__(self, told: Series, part: Array) -> None:
        self._told, self._part = told, part

    def __call__(self) -> Shown:
        shown = self._told.make()
        values = shown.values * self._part
        return Shown(np.round(values) if self._told.metric.endswith(WHOLE) else values, shown.swing * self._part)


def _parts(one: Serving, replica: int) -> Array:
    """Return which part of a replica's work each rank has [windows, ranks], as requests come to be drawn."""
    ranks = one.job.plan.attention_ranks
    rng = noise.rng(one.world.seed, "attention", one.job.first_gpu + replica)
    even = balance(np.asarray(one.share["attention_share"][:, replica]))
    fullest = int(rng.integers(ranks))
    most = np.minimum(1.0 / (ranks * even), 0.97)
    usual = np.repeat(((1.0 - most) / (ranks - 1))[:, None], ranks, axis=1)
    usual[:, fullest] = most
    drawn = rng.multinomial(np.maximum(one.finished[:, replica], 1.0).astype(np.int64), usual)
    return np.asarray(drawn / drawn.sum(axis=1, keepdims=True))
