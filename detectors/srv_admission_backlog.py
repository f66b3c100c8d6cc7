"""More requests come to a model's replicas than these can take, so all queues grow.

Why it hurts
    What a pool cannot take waits. The first token comes later by the whole queue, clients give up and ask again, and
    each attempt costs a prompt that nobody waits for any more.

How it is seen
    At half of the replicas or more requests wait for two windows of 30 s, so many that the pool needs a second or more
    to take them, while it finishes as many as before or more. The price is the time that a request takes longer, as a
    share of its time: the share of capacity that is missing.

Look-alikes
    `srv-flow-skew`: one replica queues and the others have room. `kv-pressure`, `srv-preempt-thrash`: requests wait for
    KV cache, which is full, or for what preempts them. `srv-early-stop-skew`: they wait though the batch empties. Slow
    replicas (clocks, links, neighbours): the pool finishes less than before. Requests that wait beside an empty KV
    cache meet the scheduler's own limit (`max_num_seqs`): the evidence shows how much of it is used.

What to do
    Scale out, admit less (shed by priority before the engines), and raise the limit of running sequences only where
    the KV cache has room. If it comes back at the same hour, scale before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.persistence import lasting

from ._serving import (
    FINISHED,
    HELD_COUNT,
    OF_COUNT,
    USED,
    WAITING,
    Array,
    Engines,
    Struck,
    calm,
    engines,
    finding,
    other_waits,
)
from ._serving_worlds import Pool


@dataclass(frozen=True)
class SrvAdmissionBacklog:
    """Thresholds: how long the queue is, at how many replicas, and that the pool works as before."""

    category: ClassVar[str] = "srv"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    queue_s: float = 1.0  # of the pool's work {D; llm-d: any that wait mean saturation}
    replicas_ratio: float = 0.5  # of the pool that queue {D}
    finished_ratio: float = 0.9  # of what it finished while nobody waited {D}: else it became slower
    cost_ratio: float = 0.03  # of a request's time: below it is context {D}
    held_count: int = HELD_COUNT  # windows of 30 s {conditions A9: 60 s}
    of_count: int = OF_COUNT

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per model whose pool cannot take what comes."""
        told = engines(tables)
        waiting = told.gauge(WAITING)
        if not np.nan_to_num(waiting).any():
            return
        queued = (waiting > 0) & ~other_waits(told)
        for model, pool in told.pools():
            rate = told.count(FINISHED)[:, pool].sum(axis=1) / told.window_s
            queue_s = np.nansum(waiting[:, pool], axis=1) / np.maximum(rate, 1 / told.window_s)
            many = queued[:, pool].sum(axis=1) >= self.replicas_ratio * np.isfinite(waiting[:, pool]).sum(axis=1)
            works = rate >= self.finished_ratio * calm(rate[:, None], many[:, None])
            mask = many & (queue_s >= self.queue_s) & works
            mask = lasting(mask[:, None], self.held_count, self.of_count)[:, 0]
            if mask.any():
                yield self._finding(told, Struck(pool, mask, subjects.job(model)), queue_s, rate)

    def _finding(self, told: Engines, who: Struck, queue_s: Array, rate: Array) -> Finding:
        mean_s, used = float(queue_s[who.mask].mean()), who.mean(told.gauge(USED))
        evidence = [Evidence("queue_s", mean_s, None, self.queue_s, "s")]
        evidence += [Evidence("kv_cache_usage", used, None, None, "ratio")] if np.isfinite(used) else []
        return finding(
            "srv-admission-backlog", told, who, cost_ratio=self.cost_ratio, evidence=evidence, least="S3",
            summary=f"more requests come to the {len(who.columns)} replicas of {who.subject.id} than they take: "
            f"{mean_s:.1f} s of work wait at {float(rate[who.mask].mean()):.1f} requests/s",
            advice="scale out, and shed requests of low priority before they reach the engines",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: so much work waits at the engines of a host, which are not slower than before."""
        rate = f"sum by (instance, model) (rate({FINISHED}[2m]))"
        calm = f"sum by (instance, model) (rate({FINISHED}[10m] offset 10m))"
        return Rule(
            "SkewscopeSrvAdmissionBacklog",
            f"(sum by (instance, model) ({WAITING}) / {rate} >= {self.queue_s:g}) "
            f"and on (instance, model) ({rate} >= {self.finished_ratio:g} * {calm})",
            30 * self.held_count, "warning", "requests of {{ $labels.model }} wait at {{ $labels.instance }}",
            "{{ $value | humanizeDuration }} of work wait before the engines of {{ $labels.model }} on "
            "{{ $labels.instance }}, which work as fast as before",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: is it all replicas, are they slower, is there room in the KV cache."""
        return (
            Check("waiting", "Do requests wait?", WAITING, "mean", "> 0", f"sum by (model) ({WAITING})",
                  "see `all`", "no backlog"),
            Check("all", "Do they wait at each replica?", WAITING, "low", "> 0", f"min by (model) ({WAITING})",
                  "see `slower`", "see `srv-flow-skew`", after=("waiting",)),
            Check("slower", "Does the pool finish what it did before?", FINISHED, "rate", "> 0",
                  f"sum by (model) (rate({FINISHED}[5m])) / sum by (model) (rate({FINISHED}[5m] offset 30m))",
                  "it is demand: scale out, or admit less", "replicas are slower: see their GPUs", after=("all",)),
            Check("room", "Is the KV cache used?", USED, "mean", "> 0.8", USED, "more sequences do not fit",
                  "the limit of running sequences holds them back: raise `max_num_seqs`", after=("all",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: quiet, a short queue, one replica, full caches, falling batches, slower engines, a burst."""
        yield World("quiet", Pool().told())
        yield World("near-miss", _burst(3.9).told())
        yield World("one-window", _burst(60.0, until=11).told())
        yield World("look-alike-flow", Pool().serve("requests_waiting", 60.0, nodes=["n0"]).slower(0.5).told())
        full = _burst(60.0).serve("kv_cache_usage_ratio", 0.95).serve("preemptions_total", 6.0)
        yield World("look-alike-kv", full.told())
        falling = _burst(60.0).serve("requests_running", np.array([40.0, 20.0]))
        yield World("look-alike-early-stop", falling.told())
        yield World("look-alike-slow", _burst(60.0, finished=105.0).told())
        yield World("burst", _burst(60.0).told(), frozenset({"chat"}))
        half = Pool().serve("requests_waiting", 60.0, nodes=["n0", "n1"]).slower(0.5)
        yield World("half-of-them", half.told(), frozenset({"chat"}))


def _burst(waiting: float, *, finished: float = 140.0, until: int | None = None) -> Pool:
    """Return a pool at which so many requests wait at each replica."""
    pool = Pool().serve("requests_waiting", waiting, until=until).serve("requests_finished_total", finished)
    return pool.slower(0.6, until=until)
