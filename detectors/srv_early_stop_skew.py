"""Sequences of a batch end at very different times, and the engine does not refill what they leave.

Why it hurts
    Answers are of very different lengths. Where a batch runs until its longest is done, or its ranks wait for each
    other, slots of those that ended early stand empty while requests wait for them.

How it is seen
    For two windows of 30 s requests wait at a replica all the time, and yet the fullest batch of this window and the
    one before runs 1.5 times what the emptiest does. The price is the time that a request takes longer, as a share of
    its time: the share of slots that stand empty.

Look-alikes
    No queue: the batch just drains, which costs nothing. `srv-admission-backlog`: the batch stays full while requests
    wait. `kv-pressure`, `srv-preempt-thrash`: the batch shrinks as its cache has no room or others push in; both show
    preemptions. `srv-flow-skew`: batches differ between replicas, not over time.

What to do
    Use in-flight batching (continuous batching) and let freed slots take the next request; cap the longest answers,
    sort by predicted length, or move the last sequences to another replica.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.persistence import lasting

from ._serving import (
    FALLING_RATIO,
    HELD_COUNT,
    OF_COUNT,
    PREEMPTED,
    RUNNING,
    WAITING,
    Engines,
    Struck,
    engines,
    finding,
    is_falling,
    struck,
)
from ._serving_worlds import Pool


@dataclass(frozen=True)
class SrvEarlyStopSkew:
    """Thresholds: how far a batch empties while requests wait, and what that costs."""

    category: ClassVar[str] = "srv"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    falling_ratio: float = FALLING_RATIO  # the fullest batch over the emptiest {conditions A9: active max/mean}
    cost_ratio: float = 0.03  # of a request's time: below it is context {D}
    held_count: int = HELD_COUNT  # windows of 30 s {conditions A12}
    of_count: int = OF_COUNT

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per replica whose batch empties beside a queue, or for their model's pool."""
        told = engines(tables)
        mask = is_falling(told, self.falling_ratio) & ~(told.count(PREEMPTED) > 0) if len(told) else None
        if mask is None or not mask.any():
            return
        for who in struck(told, lasting(mask, self.held_count, self.of_count)):
            yield self._finding(told, who)

    def _finding(self, told: Engines, who: Struck) -> Finding:
        first, last = np.flatnonzero(who.mask)[[0, -1]]
        high = float(np.nanmax(told.gauge(RUNNING, "high")[max(first - 1, 0) : last + 1, who.columns]))
        low = who.mean(told.gauge(RUNNING, "low"))
        waiting = who.mean(told.gauge(WAITING))
        evidence = [
            Evidence("fullest_over_emptiest_batch", high / max(low, 1.0), 1.0, self.falling_ratio, "ratio"),
            Evidence("requests_waiting", waiting, 0.0, None, "count"),
        ]
        return finding(
            "srv-early-stop-skew", told, who, cost_ratio=self.cost_ratio, evidence=evidence,
            summary=f"batches of {who.subject.id} fall from {high:.0f} requests to {low:.0f} while {waiting:.0f} wait",
            advice="turn on in-flight batching so that freed slots take the next request, and cap the longest answers",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the fullest batch of two minutes over the emptiest, while requests wait all the time."""
        waits = f"min_over_time({WAITING}[2m]) > 0"
        fell = f"max_over_time({RUNNING}[2m]) / min_over_time({RUNNING}[2m]) >= {self.falling_ratio:g}"
        calm = f"increase({PREEMPTED}[2m]) > 0"
        return Rule(
            "SkewscopeSrvEarlyStopSkew", f"({fell}) and ({waits}) unless ({calm})", 30 * self.held_count, "warning",
            "batches of {{ $labels.replica }} empty while requests wait",
            "the fullest batch of replica {{ $labels.replica }} on {{ $labels.instance }} runs {{ $value | humanize }} "
            "times what its emptiest does, and requests wait",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: do requests wait, does the batch empty, is something pushed out."""
        return (
            Check("waiting", "Do requests wait all the time?", WAITING, "low", "> 0",
                  f"min_over_time({WAITING}[5m])", "see `batch`", "the batch just drains: nothing is lost"),
            Check("batch", "Does the batch empty meanwhile?", RUNNING, "low", "> 0",
                  f"max_over_time({RUNNING}[5m]) / min_over_time({RUNNING}[5m])",
                  f"where that is {self.falling_ratio:g} or more see `pushed`", "see `srv-admission-backlog`",
                  after=("waiting",)),
            Check("pushed", "Are requests put back?", PREEMPTED, "rate", "> 0", f"rate({PREEMPTED}[5m])",
                  "see `kv-pressure` and `srv-preempt-thrash`", "slots of ended answers are not refilled",
                  after=("batch",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: quiet, below the line, no queue, a full batch, put back, a moment, falling, all."""
        here = frozenset({"n0/127.0.0.1:8000"})
        yield World("quiet", Pool().told())
        yield World("near-miss", _falls(27.0).told())
        yield World("look-alike-no-queue", _falls(16.0, waiting=0.0).told())
        yield World("look-alike-backlog", _falls(40.0).told())
        pushed = _falls(16.0).serve("preemptions_total", 3.0, nodes=["n0"])
        yield World("look-alike-kv", pushed.told())
        yield World("one-window", _falls(16.0, until=12).told())
        yield World("falling", _falls(26.0).told(), here)
        every = Pool().serve("requests_running", np.array([40.0, 16.0])).serve("requests_waiting", 20.0).slower(0.25)
        yield World("everywhere", every.told(), frozenset({"chat"}))


def _falls(emptiest: float, *, waiting: float = 20.0, until: int | None = None) -> Pool:
    """Return a pool of which one replica's batch falls from 40 to so many and is filled again, beside a queue."""
    here = ["n0"]
    pool = Pool().serve("requests_waiting", waiting, nodes=here)
    pool.serve("requests_running", np.array([40.0, emptiest]), nodes=here, until=until)
    return pool.slower(0.25, nodes=here)
