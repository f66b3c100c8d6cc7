"""Memory grows in such a way that it is full within an hour, and the job then dies of it.

Why it hurts
    When an allocation fails the rank ends, all others wait for it inside a collective until a watchdog kills them, and
    everything since the last checkpoint is lost. Until then the growth costs nothing, so that nobody looks.

How it is seen
    The memory in use on a busy GPU, or on a host, has grown evenly through the last three minutes (or twelve, for slow
    leaks): in both halves, not in one jump, and not ever more slowly. The line through it meets the device's memory
    within the hour. There is no price before it happens: the evidence tells the time that is left. Where step logs have
    `num_alloc_retries` of `torch.cuda.memory_stats`, an allocator that has to empty its cache and try again, in two
    windows or more, is told of its rank: memory is full already, or in pieces.

Look-alikes
    Warm-up (caches, compiled graphs, loading weights) grows fast and levels off. One jump is a larger batch or a second
    model. `kv-pressure`: an inference engine takes all its memory at once and manages it itself. `mem-skew`: full, and
    it stays so.

What to do
    Save a checkpoint now and restart from it; look for tensors that a list keeps (losses with their graph), growing
    contexts, and fragmentation; cap the process (`set_per_process_memory_fraction`) so that it fails early.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.view import Signal, signal

from ._live import busy
from ._live_groups import Array, Group, groups
from ._live_worlds import Fleet

USED, TOTAL, HOST = "skewscope_gpu_memory_used_bytes", "skewscope_gpu_memory_total_bytes", "skewscope_host_memory_bytes"
RETRIES, FAILED = "skewscope_gpu_allocator_retries", "skewscope_gpu_allocator_failures"  # of step logs, since the start
ADVICE = "save a checkpoint and restart from it; look for what keeps memory, and cap the process so that it fails early"
RETRIED_ADVICE = "keep less or split the batch; with memory to spare it is in pieces: set expandable_segments:True"
WHOSE = ("node", "device", "job", "rank")
RECENT_COUNT = 3  # windows: a trend that ended before is over, unless memory was full by then


@dataclass(frozen=True)
class MemOomRisk:
    """Thresholds: how soon memory is full, how much and how evenly it must have grown, over how many windows."""

    category: ClassVar[str] = "memory"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    horizon_s: float = 3600.0  # {conditions A13: within one hour}
    growth_ratio: float = 0.005  # of the capacity, over the windows: more than what samples differ by {D}
    host_growth_ratio: float = 0.02  # hosts' memory moves more: loaders, page cache being written {D}
    even_ratio: float = 0.5  # the smaller half's growth over the larger's: less levels off, or begins {D}
    jump_ratio: float = 0.5  # of all growth in one window: then it is a jump, no trend {D}
    full_ratio: float = 0.97  # of the capacity: a trend that reached it ended by it {D}
    short_count: int = 6  # windows of 30 s in which fast growth is seen {conditions A12: act after 4 min}
    long_count: int = 24  # and slow growth {D}
    retried_count: int = 2  # windows in which allocations were tried again; once is a warm-up {D}

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per GPU or host whose memory runs full, and per rank whose allocator tries again."""
        told = signal(tables, USED)
        capacity = told.aligned(signal(tables, TOTAL))
        yield from self._found(tables, told, capacity, self.growth_ratio, busy(told, tables))
        total = signal(tables, HOST, kind="total")
        free = total.aligned(signal(tables, HOST, kind="available"))
        host = replace(total, values=total.values - free)
        yield from self._found(tables, host, total.values, self.host_growth_ratio, np.isfinite(free))
        yield from self._retried(tables)

    def _retried(self, tables: Frames) -> Iterator[Finding]:
        told = _growth(tables, RETRIES)
        mask = (told.values > 0) & ((told.values > 0).sum(axis=0) >= self.retried_count)
        failures = np.nan_to_num(told.aligned(_growth(tables, FAILED), WHOSE))
        for group in groups(told, mask, tables):
            count, failed = (float(one[:, list(group.columns)].sum()) for one in (told.values, failures))
            yield Finding(
                condition="mem-oom-risk", subject=group.subject or told.subject(group.columns[0]), role="culprit",
                severity="S2", confidence=0.7, window=told.window(group.mask), lost_s=0.0, lost_share=0.0,
                evidence=(
                    Evidence("allocations_tried_again", count, 0.0, 1.0, "allocations"),
                    Evidence("allocations_failed", failed, 0.0, None, "allocations"),
                ),
                summary=f"the allocator of {group.name(told)} found no memory {count:.0f} times, emptied its cache and "
                f"tried again, in {int(group.mask.sum())} windows of {told.window_s:.0f} s",
                advice=RETRIED_ADVICE,
            )  # fmt: skip

    def _found(self, tables: Frames, told: Signal, capacity: Array, least: float, where: Array) -> Iterator[Finding]:
        if not len(told):
            return
        share = told.values / capacity
        left_s = np.fmin(*(self._left_s(share, count, least, told.window_s) for count in self._counts()))
        mask = (left_s <= self.horizon_s) & where
        mask &= self._counts_still(mask, share)[None]
        for group in groups(told, mask, tables):
            yield self._finding(told, group, share, left_s)

    def _counts(self) -> tuple[int, int]:
        return self.short_count, self.long_count

    def _left_s(self, share: Array, count: int, least: float, window_s: float) -> Array:
        """Return [windows, series]: seconds until it is full by the last `count` windows, infinite without a trend."""
        found = np.full(share.shape, np.inf)
        if len(share) < count:
            return found
        seen = sliding_window_view(share, count, axis=0)
        third = count // 3
        first, second, last = (seen[..., at * third : (at + 1) * third].mean(axis=-1) for at in range(3))
        grown, halves = last - first, np.stack([second - first, last - second])
        even = halves.min(axis=0) >= self.even_ratio * halves.max(axis=0)
        smooth = np.diff(seen, axis=-1).max(axis=-1) <= self.jump_ratio * (seen[..., -1] - seen[..., 0])
        trend = (grown >= least) & even & smooth
        per_s = np.where(trend, grown / (2 * third * window_s), np.nan)
        found[count - 1 :] = np.where(trend, (1.0 - seen[..., -1]) / per_s, np.inf)
        return found

    def _counts_still(self, mask: Array, share: Array) -> Array:
        """Return [series]: where the trend goes on, or went on until it was full."""
        full = np.where(mask, share, 0.0).max(axis=0, initial=0.0) >= self.full_ratio
        return np.asarray(mask[-RECENT_COUNT:].any(axis=0) | full)

    def _finding(self, told: Signal, group: Group, share: Array, left_s: Array) -> Finding:
        places = list(group.columns)
        at = np.flatnonzero(group.mask)[-1]
        left = float(left_s[at, places].min())
        used = float(share[at, places][np.argmin(left_s[at, places])])
        subject = group.subject or told.subject(group.columns[0])
        return Finding(
            condition="mem-oom-risk", subject=subject, role="culprit", severity="S2", confidence=0.8,
            window=told.window(group.mask), lost_s=0.0, lost_share=0.0,
            evidence=(
                Evidence("time_until_full", left, None, self.horizon_s, "seconds"),
                Evidence("memory_used", used, None, self.full_ratio, "ratio"),
            ),
            summary=f"memory of {group.name(told)} is {used:.0%} full and grows: at this rate it is full in "
            f"{left / 60:.0f} min",
            advice=ADVICE,
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the service that watches says so, as an expression over raw series would tell any jump."""
        return Rule(
            "SkewscopeMemOomRisk", 'skewscope_finding_active{condition="mem-oom-risk",role="culprit"} == 1', 60,
            "warning", "memory of {{ $labels.subject }} runs full",
            "memory of {{ $labels.subject }} grows evenly and is full within the hour",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: how full, how fast, whose, and whether the host is next."""
        job = "skewscope_gpu_job_memory_bytes"
        return (
            Check("full", "How full is the GPU?", USED, "high", "> 0", f"{USED} / on (instance, gpu) {TOTAL}",
                  "see `slope`", "nothing is held there"),
            Check("slope", "Does it grow evenly? The query gives bytes a second.", USED, "high", "> 0",
                  f"deriv({USED}[10m])", "divide what is free by it: that is the time left; see `whose`",
                  "it does not grow", after=("full",)),
            Check("whose", "Is it the job's own memory?", job, "high", "> 0", f"deriv({job}[10m])",
                  "save a checkpoint, then look for what keeps memory", "somebody else's: see `gpu-squatter`",
                  after=("slope",)),
            Check("host", "How much memory has the host left?", HOST, "low", "> 1e10", f'{HOST}{{kind="available"}}',
                  "the host has enough", "the host runs full too: loaders, pinned buffers or tmpfs",
                  {"kind": "available"}),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: even, slow, level, a jump, loading, over; fast, slow, to the end, a host, retries."""
        ramp = np.arange(12)
        yield World("quiet", _grown(np.zeros(12)).tables())
        yield World("near-miss", _grown(0.0009 * ramp, before=0.6).tables())
        yield World("levels-off", _grown(0.2 * (1 - np.exp(-ramp / 1.5))).tables())
        yield World("one-jump", _grown(0.15 * (ramp >= 8)).tables())
        yield World("begins", _grown(0.03 * np.maximum(ramp - 8, 0)).tables())
        loading = _grown(0.02 * ramp).put("skewscope_gpu_utilization_ratio", 0.02, nodes=["n0"], devices=["gpu1"])
        yield World("loading", loading.tables())
        yield World("over", _grown(0.012 * np.minimum(ramp, 6)).tables())
        yield World("growing", _grown(0.006 * ramp).tables(), frozenset({"n0/gpu1"}))
        slow = _grown(0.0007 * np.arange(24), before=0.94, count=36)
        yield World("slow-leak", slow.tables(), frozenset({"n0/gpu1"}))
        ended = np.array([0.03 * n for n in range(8)] + [-0.75] * 4)
        yield World("ran-full", _grown(ended, before=0.765).tables(), frozenset({"n0/gpu1"}))
        host = Fleet().put(HOST, 2.0**41, labels="kind=total").put(HOST, 2.0**40, labels="kind=available")
        host.put(HOST, 2.0**40 * (1 - 0.04 * ramp[:10]), labels="kind=available", nodes=["n1"], since=10)
        yield World("host", host.tables(), frozenset({"n1"}))
        once = Fleet().put(RETRIES, 3.0, nodes=["n0"], devices=["gpu1"]).put(
            RETRIES, 0.0, nodes=["n0"], devices=["gpu1"], until=2)  # fmt: skip
        yield World("retried-at-first", once.tables())
        again = Fleet().put(RETRIES, np.maximum(np.arange(20.0) - 12, 0), nodes=["n0"], devices=["gpu1"])
        yield World("tries-again", again.tables(), frozenset({"n0/gpu1"}))


def _growth(tables: Frames, metric: str) -> Signal:
    """Return by how much a count since the start grew within each window, 0 where it is not told."""
    high, low = (signal(tables, metric, take=take) for take in ("high", "low"))
    before = np.concatenate((low.values[:1], high.values[:-1]))
    grown = high.values - np.where(np.isfinite(before), before, low.values)
    return replace(high, values=np.maximum(np.nan_to_num(grown), 0.0))


def _grown(more: Array, before: float = 0.76, count: int = 20) -> Fleet:
    """Return a fleet of which one GPU's memory, as a share, grows so in its last windows."""
    fleet = Fleet(windows_count=count)
    fleet.put(TOTAL, 80.0 * 2**30, devices=fleet.gpus).put(USED, before * 80 * 2**30, devices=fleet.gpus)
    since = count - len(more)
    return fleet.put(USED, (before + more) * 80 * 2**30, nodes=["n0"], devices=["gpu1"], since=since)
