"""A rank registers memory for RDMA and frees it again all the time.

Why it hurts
    Each registration is a system call that pins pages, takes the lock of the address space and writes to the adapter's
    tables. A hundred a second cost a rank its launching thread's time, and the adapter fetches translations anew.

How it is seen
    Memory that a process has pinned, or that its GPU has mapped for adapters, rises once at the start and then stays.
    Here it goes up and down in most windows, by a tenth and more, and it does not at the other ranks, or did not
    before. The operations themselves are not counted by the agent; `rdma statistic` on the host shows them.

Look-alikes
    Start-up and the first steps, when pools grow: they only rise. A checkpoint or an evaluation frees and takes memory
    once. `host-cpu-contention`: the thread waits for a CPU; here it works.

What to do
    Keep communication buffers (static graphs, gradient buckets as views, no `empty_cache()` in the loop), let NCCL
    register them once (`ncclCommRegister`, the registered memory pool), set the allocator to keep its segments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.peers import own_median, peer_median
from skewscope.signals.persistence import QUICK_COUNT, QUICK_OF_COUNT, STRONG_RATIO, held, lasting
from skewscope.signals.view import signal

from ._live import busy, roles
from ._live_groups import BEFORE, Array, groups, judged
from ._live_worlds import Fleet

PINNED, MAPPED = "skewscope_rank_pinned_memory_bytes", "skewscope_gpu_bar1_used_bytes"


@dataclass(frozen=True)
class PcieMrChurn:
    """Thresholds: how much memory comes and goes, how often, and what that costs."""

    category: ClassVar[str] = "pcie"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    swing_ratio: float = 0.10  # of the most that was pinned, up or down between looks {D}
    turns_count: int = 2  # rises, and falls, among `of_count` windows {D}
    peers_ratio: float = 3.0  # times what the peers' memory moves {D}
    least_bytes: float = 16.0 * 2**20  # that move: next to nothing may move by a tenth {D}
    cost_ratio: float = 0.02  # of the step: below it is context {D}
    held_count: int = 5  # moves {D: 100 operations a second cannot be counted, so persistence proves it}
    of_count: int = 8

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per rank whose memory comes and goes, per host of such ranks, or for the job."""
        seen: set[str] = set()
        for metric, what in ((PINNED, "pinned memory"), (MAPPED, "memory mapped for adapters")):
            for found in self._found(tables, metric, what):
                if found.subject.id not in seen:
                    seen.add(found.subject.id)
                    yield found

    def _found(self, tables: Frames, metric: str, what: str) -> Iterator[Finding]:
        told = signal(tables, metric)
        if not len(told):
            return
        low, high = signal(tables, metric, take="low").values, signal(tables, metric, take="high").values
        swing, rises, falls = _moves(low, high, self.swing_ratio, self.least_bytes)
        moves = rises | falls
        if not moves.any():
            return
        jobs = roles(told, tables)
        usual = np.fmin(peer_median(swing, jobs), own_median(swing, before=BEFORE)[None])
        turns = held(rises, self.turns_count, self.of_count) & held(falls, self.turns_count, self.of_count)
        mask = moves & ~(swing < self.peers_ratio * usual) & busy(told, tables) & (jobs != "")[None]
        both = mask & rises & falls & (swing >= STRONG_RATIO * self.swing_ratio)
        mask = lasting(mask, self.held_count, self.of_count) | lasting(both, QUICK_COUNT, QUICK_OF_COUNT)
        mask &= _seen_soon(turns, self.of_count)
        for group in groups(told, mask, tables):
            moved, others = group.mean(swing), group.mean(usual)
            yield judged(
                "pcie-mr-churn", tables, told, group, cost_ratio=self.cost_ratio, confidence=0.7,
                evidence=(Evidence("memory_swing", moved, others, self.swing_ratio, "ratio"),),
                summary=f"{what} of {group.name(told)} goes up and down by {moved:.0%} from window to window, where "
                f"{others:.0%} is usual: memory is registered and freed all the time",
                advice="keep communication buffers and register them once; see `rdma statistic` for the operations",
            )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: pinned memory changes often and by much."""
        return Rule(
            "SkewscopePcieMrChurn",
            f"(max_over_time({PINNED}[4m]) - min_over_time({PINNED}[4m])) / max_over_time({PINNED}[4m]) >= "
            f"{self.swing_ratio:g} and changes({PINNED}[4m]) >= {self.held_count:g} and "
            f"resets({PINNED}[4m]) >= {self.turns_count:g}",
            120, "info", "rank {{ $labels.rank }} registers memory all the time",
            "pinned memory of rank {{ $labels.rank }} on {{ $labels.instance }} moves by "
            "{{ $value | humanizePercentage }}",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: pinned memory, mapped memory, system time, and lateness."""
        system, late = "skewscope_host_cpu_seconds_total", "skewscope_collective_local_last_arrivals_total"
        switches = "skewscope_rank_context_switches_total"
        return (
            Check("pinned", "Does pinned memory move?", PINNED, "high", "> 0", f"resets({PINNED}[10m])",
                  "look whether it falls again and again: then see `late`", "nothing is pinned through RDMA"),
            Check("mapped", "Does memory mapped for adapters move?", MAPPED, "high", "> 0", f"resets({MAPPED}[10m])",
                  "look whether it falls again and again", "nothing is mapped: see `pcie-p2p-misroute`"),
            Check("system", "Does the host spend much time in the kernel?", system, "rate", "> 8",
                  f'rate({system}{{mode="system"}}[5m])', "registering is work of the kernel", "the kernel does little",
                  {"mode": "system"}),
            Check("switches", "Does the rank call the kernel often?", switches, "rate", "> 500",
                  f'rate({switches}{{kind="voluntary"}}[5m])', "many calls that wait", "few calls",
                  {"kind": "voluntary"}, ("pinned",)),
            Check("late", "Does the rank come last often?", late, "rate", "> 0.1", f"rate({late}[5m])",
                  "it costs steps: keep the buffers", "it is hidden", after=("pinned",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: steady, small moves, growing, freed once, everywhere, late alone, churn, mapped churn."""
        turns = np.resize([1.0, 0.55, 0.9, 0.5], 10) * 2.0**30
        yield World("quiet", _pins(np.full(10, 2.0**30)).tables())
        yield World("near-miss", _pins(np.resize([1.0, 0.92], 10) * 2.0**30).late(1, 0.1).tables())
        yield World("growing", _pins(np.linspace(0.2, 3.0, 10) * 2.0**30).tables())
        yield World("freed-once", _pins(np.repeat([1.0, 0.3], 5) * 2.0**30).tables())
        yield World(
            "everywhere", Fleet().put(PINNED, np.resize(turns, 20), devices=[f"gpu{n}" for n in range(4)]).tables()
        )
        yield World("look-alike-late", _pins(np.full(10, 2.0**30)).late(1, 0.1).tables())
        yield World("churn", _pins(turns).late(1, 0.1).tables(), frozenset({"n0/gpu1"}))
        yield World("mapped", _pins(turns, MAPPED).late(1, 0.1).tables(), frozenset({"n0/gpu1"}))


def _moves(low: Array, high: Array, least: float, least_bytes: float) -> tuple[Array, Array, Array]:
    """Return (swing as a ratio, where it rises, where it falls) [windows, series] against the window before."""
    most = np.maximum.accumulate(np.nan_to_num(high), axis=0)
    before_low, before_high = (np.vstack([one[:1], one[:-1]]) for one in (low, high))
    up, down = high - before_low, before_high - low
    swing = np.fmax(up, down) / np.where(most > 0, most, np.nan)
    bound = np.maximum(least * most, least_bytes)
    return swing, up >= bound, down >= bound


def _seen_soon(good: Array, of: int) -> Array:
    """Return [windows, series]: where one of the next `of` windows is True in `good`."""
    found = np.zeros_like(good)
    for ahead in range(min(of, len(good))):
        found[: len(good) - ahead] |= good[ahead:]
    return found


def _pins(values: Array, metric: str = PINNED) -> Fleet:
    """Return a fleet of which one rank has so much memory pinned in its last ten windows; the others 1 GiB."""
    fleet = Fleet()
    fleet.put(metric, 2.0**30, devices=fleet.gpus)
    return fleet.put(metric, values, nodes=["n0"], devices=["gpu1"], since=10)
