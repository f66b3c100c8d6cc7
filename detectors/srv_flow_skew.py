"""Sessions pile up on one replica, which queues while others of its model have room.

Why it hurts
    Sticky sessions, a hash of the prefix or a stale view of load send too much to one replica. Its requests wait and
    its tokens slow down, while capacity that is paid for idles next door.

How it is seen
    For two windows of 30 s a replica holds 1.5 times the requests (running and waiting) that the mean replica of its
    pool holds, has a queue worth half a second or more, gets 1.2 times what the median of the others finishes, and
    finishes no less than before, while more than half of the pool has no queue. The price is the time that one of its
    requests takes longer, as a share of its time.

Look-alikes
    `srv-admission-backlog`: all queue. A slow replica: it queues with an equal part of the load, and finishes less than
    before, not more; see its GPUs. `kv-pressure`, `srv-preempt-thrash`, `srv-early-stop-skew`: the queue is its own
    doing. Larger replicas finish more without a queue. Many requests without a queue are no harm: the prefix cache
    gains by it.

What to do
    Route to the least loaded among those that hold the prefix, cap how far stickiness may go, lower the weight of this
    replica until its queue is gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.peers import peer_median
from skewscope.signals.persistence import lasting

from ._serving import (
    FINISHED,
    HELD_COUNT,
    OF_COUNT,
    RUNNING,
    WAITING,
    Array,
    Engines,
    Struck,
    calm,
    engines,
    finding,
    other_waits,
    ratio,
    struck,
)
from ._serving_worlds import Pool


@dataclass(frozen=True)
class SrvFlowSkew:
    """Thresholds: how uneven the requests are, that the replica is no slower, and that they wait there only."""

    category: ClassVar[str] = "srv"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    skew_ratio: float = 1.5  # of the mean of the pool {conditions A9}
    finished_ratio: float = 1.2  # of the others' median: a slow replica finishes less {D}
    works_ratio: float = 0.9  # of what it finished itself while nobody waited there {D}: else it became slower
    queue_s: float = 0.5  # of the replica's work {D}: a queue that a passing burst leaves is shorter
    free_ratio: float = 0.5  # of the pool without a queue {D}: else it is a backlog
    cost_ratio: float = 0.03  # of a request's time: below it is context {D}
    held_count: int = HELD_COUNT  # windows of 30 s {conditions A9: 60 s}
    of_count: int = OF_COUNT

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per replica that gets too much."""
        told = engines(tables)
        waiting = np.nan_to_num(told.gauge(WAITING))
        if not waiting.any():
            return
        skew = np.full(waiting.shape, np.nan)
        mask = (waiting > 0) & ~other_waits(told)
        for _, pool in told.pools():
            skew[:, pool] = self._skew(told, pool)
            free = (waiting[:, pool] <= 0).sum(axis=1) > self.free_ratio * len(pool)
            mask[:, pool] &= free[:, None]
        finished = told.count(FINISHED)
        grown = np.maximum(np.diff(waiting, axis=0, prepend=waiting[:1]), 0.0)
        more = finished + grown >= self.finished_ratio * peer_median(finished, told.model)
        more &= finished >= self.works_ratio * calm(finished, waiting > 0)
        mask &= (skew >= self.skew_ratio) & more & (self._queue_s(told, waiting) >= self.queue_s)
        for who in struck(told, lasting(mask, self.held_count, self.of_count)):
            yield self._finding(told, who, skew)

    def _skew(self, told: Engines, pool: Array) -> Array:
        """Return [windows, pool]: requests at a replica over the mean of its pool."""
        there = (told.gauge(RUNNING) + np.nan_to_num(told.gauge(WAITING)))[:, pool]
        known = np.isfinite(there)
        mean = ratio(np.where(known, there, 0.0).sum(axis=1), known.sum(axis=1))
        return np.asarray(ratio(there, np.broadcast_to(mean[:, None], there.shape)))

    def _queue_s(self, told: Engines, waiting: Array) -> Array:
        return np.asarray(waiting * told.window_s / np.maximum(told.count(FINISHED), 1.0))

    def _finding(self, told: Engines, who: Struck, skew: Array) -> Finding:
        times, waiting = who.mean(skew), who.mean(told.gauge(WAITING))
        evidence = [
            Evidence("requests_over_mean", times, 1.0, self.skew_ratio, "ratio"),
            Evidence("requests_waiting", waiting, 0.0, None, "count"),
        ]
        return finding(
            "srv-flow-skew", told, who, cost_ratio=self.cost_ratio, evidence=evidence,
            summary=f"{who.subject.id} holds {times:.1f} times the requests of the mean replica, and {waiting:.0f} "
            "wait there while others have room",
            advice="route to the least loaded among the replicas with the prefix, and cap stickiness",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: requests at a replica over the mean of its model's, where some wait."""
        there = f"({RUNNING} + {WAITING})"
        mean = f"avg by (model) ({RUNNING} + {WAITING})"
        return Rule(
            "SkewscopeSrvFlowSkew",
            f"({there} / on (model) group_left () {mean} >= {self.skew_ratio:g}) "
            f"and ({WAITING} > 0) and on (model) (avg by (model) ({WAITING} == bool 0) > {self.free_ratio:g})",
            30 * self.held_count, "warning", "requests of {{ $labels.model }} pile up on {{ $labels.replica }}",
            "replica {{ $labels.replica }} on {{ $labels.instance }} holds {{ $value | humanize }} times the requests "
            "of the mean replica",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: is it alone, does it finish more, does it hold prefixes."""
        hits = "skewscope_serving_prefix_cache_hits_total"
        return (
            Check("alone", "Do requests wait here and not elsewhere?", WAITING, "mean", "> 0", WAITING,
                  "see `more`", "see `srv-admission-backlog`"),
            Check("more", "Does it finish more than others?", FINISHED, "rate", "> 0", f"rate({FINISHED}[5m])",
                  "it gets more: see `prefix`", "it is slow: see its GPUs", after=("alone",)),
            Check("prefix", "Does it find many prompts in its prefix cache?", hits, "rate", "> 0",
                  f"rate({hits}[5m])", "routing by prefix goes too far: cap it by load",
                  "sessions stick for no gain: route by load", after=("more",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: quiet, below the line, no queue, a slow one, all queue, full cache, a moment, skewed."""
        yield World("quiet", Pool().told())
        yield World("near-miss", _hot(25.0, running=45.0).told())
        yield World("no-queue", _hot(0.0, running=150.0).told())
        yield World("look-alike-slow", _hot(100.0, finished=90.0).told())
        yield World("look-alike-slower-than-before", _hot(100.0, finished=150.0, before=170.0).told())
        yield World("short-queue", _hot(3.0, running=150.0).told())
        everybody = _hot(100.0).serve("requests_waiting", 10.0, nodes=["n1", "n2", "n3"])
        yield World("look-alike-backlog", everybody.told())
        half = _hot(100.0).serve("requests_waiting", 10.0, nodes=["n1"])
        yield World("half-of-them-queue", half.told())
        full = _hot(100.0).serve("kv_cache_usage_ratio", 0.95, nodes=["n0"])
        yield World("look-alike-kv", full.serve("preemptions_total", 6.0, nodes=["n0"]).told())
        yield World("one-window", _hot(100.0, until=11).told())
        yield World("skewed", _hot(100.0).told(), frozenset({"n0/127.0.0.1:8000"}))


def _hot(
    waiting: float, *, running: float = 60.0, finished: float = 200.0, until: int | None = None, before: float = 120.0
) -> Pool:
    """Return a pool of which one replica gets more than it can take."""
    here = ["n0"]
    pool = Pool().serve("requests_finished_total", before, nodes=here, since=0)
    pool.serve("requests_waiting", waiting, nodes=here, until=until)
    pool.serve("requests_running", running, nodes=here, until=until)
    pool.serve("requests_finished_total", finished, nodes=here, until=until)
    return pool.slower(0.4, nodes=here, until=until)
