"""The KV cache of a replica is full, and running requests are put back for lack of it.

Why it hurts
    Who is put back loses its keys and values and computes them anew, or waits for them to be copied back. Batches
    shrink to what fits, requests queue for room, and tokens come late.

How it is seen
    For two windows of 30 s more than 90 % of the KV cache is in use and requests are preempted. The price is the time
    that a request takes longer, as a share of its time.

Look-alikes
    A cache that is full without preemptions is well used. `srv-preempt-thrash`: requests are put back again and again,
    more than one for five that finish; where the cache is full too, this here is its cause. `srv-admission-backlog`:
    requests wait, and nobody is put back. `mem-oom-risk`: memory outside the cache.

What to do
    Run fewer sequences at once (`max_num_seqs`) or shorter contexts, give the cache more memory, offload it to the
    host, add decode replicas; a quantized cache holds twice as much.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.persistence import lasting

from ._serving import (
    FINISHED,
    FULL_RATIO,
    HELD_COUNT,
    OF_COUNT,
    PREEMPTED,
    USED,
    WAITING,
    Engines,
    Struck,
    engines,
    finding,
    is_full,
    ratio,
    struck,
)
from ._serving_worlds import Pool


@dataclass(frozen=True)
class KvPressure:
    """Thresholds: how full the cache is while requests are put back, and what that costs."""

    category: ClassVar[str] = "kv"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    used_ratio: float = FULL_RATIO  # of the KV cache {conditions A9, llm-d V}
    cost_ratio: float = 0.03  # of a request's time: below it is context {D}
    held_count: int = HELD_COUNT  # windows of 30 s {conditions A12}
    of_count: int = OF_COUNT

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per replica whose cache overflows, or for their model's pool."""
        told = engines(tables)
        mask = is_full(told, self.used_ratio)
        if not mask.any():
            return
        for who in struck(told, lasting(mask, self.held_count, self.of_count)):
            yield self._finding(told, who)

    def _finding(self, told: Engines, who: Struck) -> Finding:
        used, waiting = who.mean(told.gauge(USED)), who.mean(told.gauge(WAITING))
        put_back = who.mean(ratio(told.count(PREEMPTED), told.count(FINISHED)))
        evidence = [
            Evidence("kv_cache_usage", used, None, self.used_ratio, "ratio"),
            Evidence("preemptions_per_request", put_back, 0.0, None, "ratio"),
            Evidence("requests_waiting", waiting, None, None, "count"),
        ]
        return finding(
            "kv-pressure", told, who, cost_ratio=self.cost_ratio, evidence=evidence,
            summary=f"the KV cache of {who.subject.id} is {used:.0%} full and {put_back:.0%} of its requests are put "
            "back for lack of it",
            advice="run fewer sequences at once or shorter contexts, offload the cache, or add decode replicas",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the cache is full and requests are put back."""
        return Rule(
            "SkewscopeKvPressure", f"({USED} > {self.used_ratio:g}) and (increase({PREEMPTED}[2m]) > 0)",
            30 * self.held_count, "warning", "the KV cache of {{ $labels.replica }} is full",
            "{{ $value | humanizePercentage }} of the KV cache of {{ $labels.replica }} on {{ $labels.instance }} are "
            "in use, and requests are put back",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: is it full, are requests put back, how often, does the prefix cache help."""
        hits = "skewscope_serving_prefix_cache_hits_total"
        return (
            Check("full", "Is the KV cache full?", USED, "mean", f"> {self.used_ratio:g}", USED, "see `back`",
                  "see `srv-preempt-thrash`"),
            Check("back", "Are requests put back?", PREEMPTED, "rate", "> 0", f"rate({PREEMPTED}[5m])",
                  "see `often`", "it is well used: nothing to do", after=("full",)),
            Check("often", "Does it finish less than it puts back?", FINISHED, "rate", "> 0",
                  f"rate({PREEMPTED}[5m]) / rate({FINISHED}[5m])",
                  "above 0.2 the work is eaten: run fewer sequences at once", "shorter contexts or more memory",
                  after=("back",)),
            Check("prefix", "Does the prefix cache find much?", hits, "rate", "> 0", f"rate({hits}[5m])",
                  "keep what is shared; offload the rest", "what it holds is of no use: shrink it"),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: quiet, just below, full without harm, put back without need, a moment, pressed, all."""
        yield World("quiet", Pool().told())
        yield World("near-miss", _pressed(0.9, 6.0).told())
        yield World("full-unharmed", _pressed(0.97, 0.0).told())
        yield World("look-alike-thrash", _pressed(0.7, 30.0).told())
        yield World("one-window", _pressed(0.95, 6.0, until=11).told())
        yield World("pressed", _pressed(0.93, 6.0).told(), frozenset({"n0/127.0.0.1:8000"}))
        every = Pool().serve("kv_cache_usage_ratio", 0.95).serve("preemptions_total", 6.0).slower(0.2)
        yield World("everywhere", every.told(), frozenset({"chat"}))


def _pressed(used: float, put_back: float, until: int | None = None) -> Pool:
    """Return a pool of which one replica uses so much of its cache and puts so many back in a window."""
    here = ["n0"]
    pool = Pool().serve("kv_cache_usage_ratio", used, nodes=here, until=until)
    return pool.serve("preemptions_total", put_back, nodes=here, until=until).slower(0.2, nodes=here, until=until)
