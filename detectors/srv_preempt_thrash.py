"""Requests push each other out again and again, so that switching eats the work.

Why it hurts
    Each preemption throws away keys and values that cost a whole prompt to compute, or copies them out and back. Where
    one request in five is put back, much of what the GPUs do is done twice, and the answers that are under way stutter.

How it is seen
    For two windows of 30 s a replica preempts more than 0.2 requests for each that it finishes. The price is the time
    that a request takes longer, as a share of its time.

Look-alikes
    One burst that passes within a window. `kv-pressure`: the cache is full, which explains it: that is the culprit
    then. `srv-prefill-decode-interference`: tokens are late, and nobody is put back.

What to do
    Admit fewer sequences at once, let the scheduler finish what it began (a longer quantum, priorities with a margin),
    swap to the host in pieces instead of computing anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.persistence import lasting

from ._serving import (
    FINISHED,
    HELD_COUNT,
    OF_COUNT,
    PREEMPTED,
    THRASH_RATIO,
    USED,
    Engines,
    Struck,
    engines,
    finding,
    is_thrashing,
    struck,
)
from ._serving_worlds import Pool


@dataclass(frozen=True)
class SrvPreemptThrash:
    """Thresholds: preemptions per finished request, and what they cost."""

    category: ClassVar[str] = "srv"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    preempted_ratio: float = THRASH_RATIO  # per finished request {conditions A13, FastSwitch}
    cost_ratio: float = 0.03  # of a request's time: below it is context {D}
    held_count: int = HELD_COUNT  # windows of 30 s: a burst is shorter {conditions A12}
    of_count: int = OF_COUNT

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per replica that preempts so often, or for their model's pool."""
        told = engines(tables)
        mask = is_thrashing(told, self.preempted_ratio)
        if not mask.any():
            return
        for who in struck(told, lasting(mask, self.held_count, self.of_count)):
            yield self._finding(told, who)

    def _finding(self, told: Engines, who: Struck) -> Finding:
        put_back, used = (
            who.mean(told.count(PREEMPTED) / np.maximum(told.count(FINISHED), 1.0)),
            who.mean(told.gauge(USED)),
        )
        evidence = [
            Evidence("preemptions_per_request", put_back, 0.0, self.preempted_ratio, "ratio"),
            Evidence("kv_cache_usage", used, None, None, "ratio"),
        ]
        return finding(
            "srv-preempt-thrash", told, who, cost_ratio=self.cost_ratio, evidence=evidence,
            summary=f"{who.subject.id} puts {put_back:.2f} requests back for each that it finishes, with {used:.0%} of "
            "its KV cache in use",
            advice="admit fewer sequences at once, and let the scheduler finish what it began",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: so many preemptions per finished request."""
        return Rule(
            "SkewscopeSrvPreemptThrash",
            f"increase({PREEMPTED}[2m]) / (increase({FINISHED}[2m]) > 0) > {self.preempted_ratio:g}",
            30 * self.held_count, "warning", "requests of {{ $labels.replica }} push each other out",
            "{{ $labels.replica }} on {{ $labels.instance }} puts {{ $value | humanize }} requests back for each that "
            "it finishes",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: how often, is the cache full, do requests still finish."""
        return (
            Check("often", "Are requests put back?", PREEMPTED, "rate", "> 0",
                  f"rate({PREEMPTED}[5m]) / rate({FINISHED}[5m])", f"above {self.preempted_ratio:g} see `full`",
                  "nothing is pushed out"),
            Check("full", "Is the KV cache full?", USED, "mean", "> 0.9", USED, "see `kv-pressure`",
                  "priorities or fairness do it: lengthen the quantum", after=("often",)),
            Check("done", "Do requests finish?", FINISHED, "rate", "> 0", f"rate({FINISHED}[5m])",
                  "admit fewer at once", "nothing finishes any more: drain the replica", after=("often",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: quiet, just below, one burst, thrashing, nothing finishes, all."""
        here = frozenset({"n0/127.0.0.1:8000"})
        yield World("quiet", Pool().told())
        yield World("near-miss", _switches(24.0).told())
        yield World("look-alike-burst", _switches(90.0, until=11).told())
        yield World("thrashing", _switches(26.0).told(), here)
        stuck = _switches(26.0).serve("requests_finished_total", 0.0, nodes=["n0"])
        yield World("nothing-finishes", stuck.told(), here)
        every = Pool().serve("preemptions_total", 40.0).slower(0.2)
        yield World("everywhere", every.told(), frozenset({"chat"}))


def _switches(put_back: float, until: int | None = None) -> Pool:
    """Return a pool of which one replica puts so many requests back in a window, 120 finished."""
    pool = Pool().serve("preemptions_total", put_back, nodes=["n0"], until=until)
    return pool.slower(0.2, nodes=["n0"], until=until)
