"""Prompts that are read between tokens stall the answers that are under way.

Why it hurts
    A long prompt that is read in one piece holds the GPU for tens or hundreds of milliseconds, and all answers of the
    replica wait. The mean token is a little later, the slowest many times: people see the text stutter.

How it is seen
    For two windows of 30 s the slowest hundredth of a replica's tokens takes three times as long as the middle one or
    more, nobody is put back, and over the last ten windows the time between tokens goes with the prompt tokens that it
    reads (correlation of 0.7 or more). The price is the time that a request takes longer, as a share of its time.

Look-alikes
    `kv-pressure`, `srv-preempt-thrash`: tokens wait for requests that were put back; preemptions show it. Load: all
    tokens become slower with the prompts, and the slowest are no further from the middle. `srv-egress-jitter`: tokens
    are late after the engine made them in time.

What to do
    Read prompts in chunks (`max_num_batched_tokens`, chunked prefill) or give prompts replicas of their own
    (disaggregation); route long prompts away from replicas that answer many.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.persistence import lasting

from ._serving import (
    HELD_COUNT,
    OF_COUNT,
    PREEMPTED,
    PREFIX,
    Array,
    Engines,
    Struck,
    engines,
    finding,
    quantile,
    ratio,
    struck,
)
from ._serving_worlds import Pool

TOKEN_S, PROMPTS = f"{PREFIX}inter_token_latency_seconds", f"{PREFIX}prompt_tokens_total"


@dataclass(frozen=True)
class SrvPrefillDecodeInterference:
    """Thresholds: how far the slowest tokens are from the middle one, and how much that goes with prompts."""

    category: ClassVar[str] = "srv"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    tail_ratio: float = 3.0  # the slowest hundredth of tokens over the median {conditions A13}
    correlation_ratio: float = 0.7  # of token time and prompt tokens {conditions A13}
    correlated_count: int = 10  # windows that say so {D}
    cost_ratio: float = 0.03  # of a request's time: below it is context {D}
    held_count: int = HELD_COUNT  # windows of 30 s {conditions A12}
    of_count: int = OF_COUNT

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per replica whose tokens wait for prompts, or for their model's pool."""
        told = engines(tables)
        bounds, counts = told.buckets(TOKEN_S)
        if not len(bounds):
            return
        tail = ratio(quantile(bounds, counts, 0.99), quantile(bounds, counts, 0.5))
        mask = (tail >= self.tail_ratio) & ~(told.count(PREEMPTED) > 0)
        if not mask.any():
            return
        with_prompts = correlation(told.each(TOKEN_S), told.count(PROMPTS), self.correlated_count)
        mask &= with_prompts >= self.correlation_ratio
        for who in struck(told, lasting(mask, self.held_count, self.of_count)):
            yield self._finding(told, who, tail, with_prompts)

    def _finding(self, told: Engines, who: Struck, tail: Array, with_prompts: Array) -> Finding:
        times, tied, token_s = who.mean(tail), who.mean(with_prompts), who.mean(told.each(TOKEN_S))
        evidence = [
            Evidence("slowest_token_over_median", times, None, self.tail_ratio, "ratio"),
            Evidence("correlation_with_prompts", tied, None, self.correlation_ratio, "ratio"),
            Evidence("inter_token_latency_s", token_s, None, None, "s"),
        ]
        return finding(
            "srv-prefill-decode-interference", told, who, cost_ratio=self.cost_ratio, evidence=evidence,
            summary=f"the slowest hundredth of the tokens of {who.subject.id} takes {times:.1f} times the median, and "
            f"goes with the prompts that it reads (correlation {tied:.2f})",
            advice="read prompts in chunks, or give them replicas of their own",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the slowest hundredth of tokens over the median, where nobody is put back."""
        by = "sum by (instance, model, replica, le)"
        slow, middle = (
            f"histogram_quantile({share:g}, {by} (rate({TOKEN_S}_bucket[2m])))" for share in (0.99, 0.5)
        )  # fmt: skip
        back = f"sum by (instance, model, replica) (increase({PREEMPTED}[2m])) > 0"
        more = f"sum by (instance, model, replica) (rate({PROMPTS}[2m]))"
        return Rule(
            "SkewscopeSrvPrefillDecodeInterference", f"({slow} / {middle} >= {self.tail_ratio:g}) unless ({back}) "
            f"and ({more} > 0)",
            30 * self.held_count, "warning", "tokens of {{ $labels.replica }} wait for prompts",
            "the slowest hundredth of tokens of {{ $labels.replica }} on {{ $labels.instance }} takes "
            "{{ $value | humanize }} times the median",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: are tokens late, are requests put back, do prompts come in waves."""
        return (
            Check("tokens", "How long does a token take?", f"{TOKEN_S}_sum", "rate", "> 0",
                  f"histogram_quantile(0.99, rate({TOKEN_S}_bucket[5m])) * rate({TOKEN_S}_count[5m]) / "
                  f"rate({TOKEN_S}_sum[5m])",
                  f"where the slowest in a hundred take {self.tail_ratio:g} times the mean see `back`",
                  "answers run evenly"),
            Check("back", "Are requests put back?", PREEMPTED, "rate", "> 0", f"rate({PREEMPTED}[5m])",
                  "see `kv-pressure` and `srv-preempt-thrash`", "see `prompts`", after=("tokens",)),
            Check("prompts", "Are many prompt tokens read?", PROMPTS, "rate", "> 0", f"rate({PROMPTS}[1m])",
                  "where token times follow them, read prompts in chunks", "something else holds tokens up",
                  after=("back",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: quiet, a short tail, no tie to prompts, put back, a moment, interference, all."""
        yield World("quiet", _stalls(1.0).told())
        yield World("near-miss", _stalls(2.4).told())
        yield World("look-alike-other", _stalls(6.0, tied=False).told())
        yield World("look-alike-kv", _stalls(6.0).serve("preemptions_total", 3.0, nodes=["n0"]).told())
        yield World("one-window", _stalls(6.0, until=11).told())
        yield World("interference", _stalls(6.0).told(), frozenset({"n0/127.0.0.1:8000"}))
        yield World("everywhere", _stalls(6.0, nodes=("n0", "n1", "n2", "n3")).told(), frozenset({"chat"}))


def correlation(one: Array, other: Array, count: int) -> Array:
    """Return the correlation of two series over the last `count` windows [windows, series], NaN while fewer are known.

    >>> rising = np.arange(6.0)[:, None]
    >>> correlation(rising, 2 * rising, 4)[:, 0].round(6).tolist()
    [nan, nan, nan, 1.0, 1.0, 1.0]
    """
    found = np.full(one.shape, np.nan)
    for end in range(count, len(one) + 1):
        first, second = one[end - count : end], other[end - count : end]
        known = np.isfinite(first) & np.isfinite(second)
        first, second = (np.where(known, part, 0.0) for part in (first, second))
        size = np.maximum(known.sum(axis=0), 1)
        first, second = ((part - part.sum(axis=0) / size) * known for part in (first, second))
        spread = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
        enough = known.sum(axis=0) >= count // 2
        found[end - 1] = np.where(enough, ratio((first * second).sum(axis=0), spread), np.nan)
    return found


def _stalls(times: float, *, tied: bool = True, until: int | None = None, nodes: tuple[str, ...] = ("n0",)) -> Pool:
    """Return a pool of which some replicas' slowest tokens take so many times the median (0.03 s)."""
    pool = Pool()
    waves = np.resize([1.0, 3.0, 2.0, 4.0], 20)
    for bound, share in (("0.025", 0.1), ("0.035", 0.9), ("0.06", 0.995), ("+Inf", 1.0)):
        pool.serve("inter_token_latency_seconds_bucket", 31_200.0 * share, bound=bound, since=0)
    if times > 1.0:
        for bound, share in (("0.06", 0.97), (f"{0.03 * times:g}", 0.98), (f"{0.032 * times:g}", 1.0)):
            pool.serve("inter_token_latency_seconds_bucket", 31_200.0 * share, bound=bound, nodes=nodes, until=until)
        pool.serve("inter_token_latency_seconds_sum", 936.0 + 100.0 * waves, nodes=nodes, until=until)
        pool.serve("prompt_tokens_total", 108e3 * (waves if tied else waves[::-1] % 3.0), nodes=nodes, until=until)
        pool.slower(0.2, nodes=nodes, until=until)
    return pool
