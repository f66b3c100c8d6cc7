"""One rank's memory is much fuller than that of the others, so it decides the batch and waits for its allocator.

Why it hurts
    All ranks take the micro-batch that the fullest one can hold. Where that one is nearly full, its allocator has to
    give cached blocks back to the driver and ask again, which waits for the GPU each time: the rank comes late.

How it is seen
    The memory in use on a rank's GPU is a quarter more than the median of the other ranks of its job, or less than 5 %
    are free while the others have twice that, in most of the last windows. The price is by how much the rank is late;
    where it is not, the batch that the others could hold is what is lost, and it is told as context.

Look-alikes
    `gpu-squatter`: somebody else's process holds the memory. `mem-oom-risk`: the memory still grows. All ranks equally
    full: that is a well chosen batch. Reserved blocks that are not allocated (fragmentation) look the same from
    outside: `torch.cuda.memory_stats` tells them apart.

What to do
    Split layers, experts or the vocabulary anew so that stages hold alike; shard the optimizer's state, offload it, or
    recompute activations on this stage alone; with fragmentation `expandable_segments:True`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.peers import peer_median
from skewscope.signals.persistence import lasting
from skewscope.signals.view import Signal, signal

from ._live import roles
from ._live_groups import Array, groups, judged
from ._live_worlds import Fleet

USED, TOTAL = "skewscope_gpu_memory_used_bytes", "skewscope_gpu_memory_total_bytes"
FOREIGN = "skewscope_gpu_foreign_processes"


@dataclass(frozen=True)
class MemSkew:
    """Thresholds: memory against peers, how little is free on one rank only, for how long, and what that costs."""

    category: ClassVar[str] = "memory"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    peers_ratio: float = 1.25  # of the median of the others of the job {conditions A13}
    free_ratio: float = 0.05  # of the device's memory {conditions A13}
    roomy_ratio: float = 2.0  # times that are free on the others, so that it is this rank only {D}
    cost_ratio: float = 0.02  # of the step: below it is context {D}
    held_count: int = 2  # of `of_count` windows: memory in use is a state, not a noisy rate {conditions A12}
    of_count: int = 3

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per rank that is much fuller than its peers, or per host of such ranks."""
        told = signal(tables, USED)
        if not len(told):
            return
        jobs = roles(told, tables)
        peers = peer_median(told.values, jobs)
        free, usually_free = self._free(tables, told, jobs)
        fuller = told.values >= self.peers_ratio * peers
        full = (free < self.free_ratio) & (usually_free >= self.roomy_ratio * self.free_ratio)
        mask = (fuller | full) & (jobs != "")[None] & ~(told.aligned(signal(tables, FOREIGN)) >= 1)
        for group in groups(told, lasting(mask, self.held_count, self.of_count), tables):
            own, usual, left = (group.mean(values) for values in (told.values, peers, free))
            evidence = [Evidence("memory_used", own, usual, self.peers_ratio * usual, "bytes")]
            evidence += [Evidence("memory_free", left, None, self.free_ratio, "ratio")] if np.isfinite(left) else []
            yield judged(
                "mem-skew", tables, told, group, cost_ratio=self.cost_ratio, evidence=evidence, confidence=0.8,
                summary=f"{group.name(told)} holds {own / 2**30:.1f} GiB, the others of its job "
                f"{usual / 2**30:.1f} GiB",
                advice="split layers, experts or optimizer state anew, offload or recompute on this rank",
            )  # fmt: skip

    def _free(self, tables: Frames, told: Signal, jobs: Array) -> tuple[Array, Array]:
        """Return the free share of memory and the median of the others' [windows, series], NaN where it is not told."""
        with np.errstate(divide="ignore", invalid="ignore"):
            free = 1.0 - told.values / told.aligned(signal(tables, TOTAL))
        return free, peer_median(free, jobs)

    def alert(self) -> Rule:
        """Return the alert: a GPU is fuller than the median of its host by the threshold."""
        return Rule(
            "SkewscopeMemSkew",
            f"{USED} / on (instance) group_left () quantile by (instance) (0.5, {USED}) >= {self.peers_ratio:g} "
            f"unless on (instance, gpu) {FOREIGN} > 0",
            30 * self.held_count, "info", "GPU {{ $labels.gpu }} of {{ $labels.instance }} is fuller than the others",
            "GPU {{ $labels.gpu }} of {{ $labels.instance }} holds {{ $value }} times the median of its host",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: how full, whose memory, whether it grows, and what the allocator pays."""
        phases = "skewscope_phase_seconds_total"
        return (
            Check("full", "How full is the GPU?", USED, "mean", "> 0", f"{USED} / on (instance, gpu) {TOTAL}",
                  "compare it with the other ranks of the job; then `foreign`", "nothing runs there"),
            Check("foreign", "Is it memory of somebody else?", FOREIGN, "high", ">= 1", FOREIGN,
                  "see `gpu-squatter`", "it is the rank's own: see `growing`", after=("full",)),
            Check("growing", "Does it still grow? The query gives bytes a second.", USED, "high", "> 0",
                  f"deriv({USED}[10m])", "where it is above 0 for long see `mem-oom-risk`; else `late`", "see `late`",
                  after=("foreign",)),
            Check("late", "Is the rank slower in its own work than the others?", phases, "rate", "> 0",
                  f'rate({phases}{{phase=~"forward|backward"}}[5m])',
                  "its allocator waits, or it has more work: look at num_alloc_retries of torch.cuda.memory_stats",
                  "it computes nothing", {"phase": "backward"}, ("growing",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: alike, just below, all full, a stranger's memory, one window; much fuller, little free."""
        yield World("quiet", _held(60.0).tables())
        yield World("near-miss", _held(73.0).late(1, 0.1).tables())
        yield World("all-full", _held(77.5, 77.5).late(1, 0.1).tables())
        yield World("single-window", _held(76.0, until=11).tables())
        stranger = _held(76.0).late(1, 0.1).put(FOREIGN, 0.0, devices=[f"gpu{n}" for n in range(4)])
        yield World("look-alike-squatter", stranger.put(FOREIGN, 1.0, nodes=["n0"], devices=["gpu1"]).tables())
        yield World("no-job", _held(76.0).tables(job=False))
        yield World("fuller", _held(75.5).late(1, 0.1).tables(), frozenset({"n0/gpu1"}))
        yield World("nearly-full", _held(76.5, 70.0).late(1, 0.1).tables(), frozenset({"n0/gpu1"}))
        yield World("stage", _held(76.0).put(USED, 76.0 * 2**30, nodes=["n0"], devices=["gpu2"]).tables(),
                    frozenset({"n0"}))  # fmt: skip


def _held(own_gib: float, others_gib: float = 60.0, until: int | None = None) -> Fleet:
    """Return a fleet of which one GPU holds so much from window 10 on, and the others so much all the time."""
    fleet = Fleet()
    fleet.put(TOTAL, 80.0 * 2**30, devices=fleet.gpus).put(USED, others_gib * 2**30, devices=fleet.gpus)
    return fleet.put(USED, own_gib * 2**30, nodes=["n0"], devices=["gpu1"], since=10, until=until)
