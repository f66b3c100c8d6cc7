"""The GPU looks busy and does little: its kernels are so short that the host cannot launch them fast enough.

Why it hurts
    Between two kernels the GPU waits for microseconds until the next launch arrives. Each gap is too short to be seen
    as idle time, together they are a large part of the step. A faster GPU would not help, and one rank with a slower
    host holds all others up.

How it is seen
    The driver says that kernels run nearly all the time, but SMs have no warp for a large part of it, and the rank is
    not waiting in a collective then. This hidden void is larger than that of the other ranks of the job, or than it
    was before, while the rank's process uses a whole core. GPUs that do not tell SM activity (before Hopper) cannot be
    judged, nor can a job that was so from its start on all ranks: compare its power with that of other jobs.

Look-alikes
    `host-cpu-contention`: the launching thread waits for a CPU. `data-loader-stall`: utilisation itself falls.
    `gpu-hw-slowdown` and `gpu-slow-silent`: kernels last longer and SMs stay busy. `coll-late-rank`: waiting ranks spin
    in a collective, which is taken out. `pcie-d2h-bottleneck`: the GPU waits for copies to the host.

What to do
    CUDA graphs, `torch.compile`, fused optimisers and kernels, larger micro-batches; look for Python work and
    synchronisations (`.item()`, printing) in the step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.peers import own_median, peer_median
from skewscope.signals.persistence import lasting
from skewscope.signals.view import Signal, signal

from ._live import UTILIZATION, roles
from ._live_groups import BEFORE, Array, groups, judged
from ._live_pci import SENT, capacity
from ._live_shares import COLLECTIVES, known_or, share_of_step
from ._live_worlds import Fleet

ACTIVE, ACTIVE_S = "skewscope_gpu_sm_active_ratio", "skewscope_gpu_sm_active_seconds_total"
CPU, DELAY = "skewscope_rank_cpu_seconds_total", "skewscope_rank_run_delay_seconds_total"


@dataclass(frozen=True)
class HostLaunchBound:
    """Thresholds: the hidden void, what makes it the launches', and what it costs."""

    category: ClassVar[str] = "host"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    void_ratio: float = 0.10  # of the wall time, beyond the peers' or its own {conditions A1: gaps above 10 % of T}
    strong_ratio: float = 0.15  # of the wall time: so much needs one window less {D}
    busy_ratio: float = 0.85  # gaps between kernels do not show in utilisation, stalls do {D}
    cpu_ratio: float = 0.7  # of a core: a thread that launches all the time {D}
    delay_ratio: float = 0.05  # beyond the peers': then the thread waits for a CPU {conditions A1}
    sent_ratio: float = 0.10  # of the link beyond the peers': then it waits for copies {conditions A2}
    cost_ratio: float = 0.02  # of the step: below it is context {D}
    held_count: int = 3
    of_count: int = 4

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per rank whose launches are late, per host of such ranks, or for the job."""
        told = _void(tables, self.busy_ratio)
        if not (told.values >= self.void_ratio).any():
            return
        jobs = roles(told, tables)
        usual = np.fmin(peer_median(told.values, jobs), own_median(told.values, before=BEFORE)[None])
        usual = np.maximum(usual, 0.0)  # below it what was measured overlaps: no void is smaller than none
        excess = told.values - usual
        mask = (excess >= self.void_ratio) & (jobs != "")[None]
        if not mask.any():
            return
        mask &= self._launching(tables, told)
        strong = excess >= self.strong_ratio
        for group in groups(told, lasting(mask, self.held_count, self.of_count, strong), tables):
            void, more = group.mean(told.values), group.mean(excess)
            busy = group.mean(told.aligned(signal(tables, UTILIZATION)))
            yield judged(
                "host-launch-bound", tables, told, group, cost_ratio=self.cost_ratio,
                evidence=(
                    Evidence("hidden_void", void, void - more, void - more + self.void_ratio, "ratio"),
                    Evidence("utilization", busy, None, self.busy_ratio, "ratio"),
                ),
                summary=f"{group.name(told)} looks busy for {busy:.0%} of the time, but for {void:.0%} its SMs have "
                f"nothing to do, {more:.0%} more than usual: launches come too slowly",
                advice="use CUDA graphs or compiled, fused kernels; take Python work and synchronisation out of the "
                "step", confidence=0.75,
            )  # fmt: skip

    def _launching(self, tables: Frames, told: Signal) -> Array:
        """Return [windows, series]: a core at work, and neither starved nor copying."""
        idle_cpu = told.aligned(signal(tables, CPU, take="increase").rate()) < self.cpu_ratio
        sent = signal(tables, SENT, take="increase").rate()
        copying = _beyond(tables, replace(sent, values=sent.values / capacity(sent, tables)), self.sent_ratio)
        starved = _beyond(tables, signal(tables, DELAY, take="increase").rate(), self.delay_ratio)
        return np.asarray(~idle_cpu & ~(told.aligned(copying) > 0) & ~(told.aligned(starved) > 0))

    def alert(self) -> Rule:
        """Return the alert: busy to the eye, idle within, and more so than the job's other ranks."""
        waits = f"sum by (instance, gpu) (rate({COLLECTIVES}[5m]))"
        void = f"({UTILIZATION} - {ACTIVE} - on (instance, gpu) {waits})"
        return Rule(
            "SkewscopeHostLaunchBound",
            f"{void} - scalar(quantile(0.5, {void})) >= {self.void_ratio:g} "
            f"and on (instance, gpu) {UTILIZATION} >= {self.busy_ratio:g}",
            30 * self.held_count, "warning", "GPU {{ $labels.gpu }} of {{ $labels.instance }} waits for launches",
            "GPU {{ $labels.gpu }} of {{ $labels.instance }} looks busy and is idle within for {{ $value }} of the "
            "time beyond the others",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: busy to the eye, idle within, a core at work, no waiting for it."""
        power = "skewscope_gpu_power_watts"
        return (
            Check("busy", "Does the GPU look busy?", UTILIZATION, "mean", f">= {self.busy_ratio:g}", UTILIZATION,
                  "then see `active`", "it is idle for long times: see `data-loader-stall`"),
            Check("active", "Do its SMs have work?", ACTIVE, "mean", "< 0.7", ACTIVE,
                  "gaps between kernels, or waiting in a collective: see `power` and `core`",
                  "its SMs work: it is not this", after=("busy",)),
            Check("power", "Does it draw little for a busy GPU?", power, "mean", "< 450", f'{power}{{kind="average"}}',
                  "idle within, as gaps make it", "it works hard: kernels are long, not late", {"kind": "average"},
                  ("active",)),
            Check("core", "Does its process use a whole core?", CPU, "rate", f">= {self.cpu_ratio:g}",
                  f"rate({CPU}[2m])", "the launching thread is the limit: CUDA graphs, fused kernels",
                  "its process sleeps: it waits for something else", after=("active",)),
            Check("delay", "Does that thread get its core?", DELAY, "rate", f"< {self.delay_ratio:g}",
                  f"rate({DELAY}[2m])", "it does; the work of launching is too much",
                  "see `host-cpu-contention` first", after=("core",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: full kernels, small gaps, starving, copying, stalled, slow kernels, gaps, gaps everywhere."""
        yield World("quiet", _fleet(0.85).tables())
        yield World("near-miss", _fleet(0.77).tables())
        slow = _fleet(0.85).late(1, 0.15).tables()
        yield World("look-alike-slow-kernels", slow)
        starved = _fleet(0.65).put(DELAY, 9.0, nodes=["n0"], devices=["gpu1"], since=10)
        yield World("look-alike-starved", starved.late(1, 0.15).tables())
        copying = _fleet(0.65).put(SENT, 10e9 * 30, nodes=["n0"], devices=["gpu1"], since=10)
        yield World("look-alike-copies", copying.late(1, 0.15).tables())
        stalled = _fleet(0.65).put(UTILIZATION, 0.75, nodes=["n0"], devices=["gpu1"], since=10)
        yield World("look-alike-stall", stalled.late(1, 0.15).tables())
        yield World("gaps", _fleet(0.62, others=0.66).late(1, 0.15).tables(), frozenset({"n0/gpu1"}))
        everywhere = _fleet(0.6, others=0.6).slow_transfer(0.0)
        yield World("gaps-everywhere", everywhere.tables(), frozenset({"llm"}))


def _void(tables: Frames, busy_ratio: float) -> Signal:
    """Return the share of time in which a kernel seems to run, no SM has a warp, and no collective is open.

    NaN where the GPU does not look busy: then it waits for more than launches.
    """
    active = signal(tables, ACTIVE_S, take="increase").rate()
    active = active if len(active) else signal(tables, ACTIVE)
    waits = known_or(active.aligned(share_of_step(tables, COLLECTIVES)), 0.0)
    busy = active.aligned(signal(tables, UTILIZATION))
    return replace(active, values=np.where(busy >= busy_ratio, busy - active.values - waits, np.nan))


def _beyond(tables: Frames, told: Signal, least: float) -> Signal:
    """Return 1 where a series is `least` beyond its peers or its own first windows, else 0."""
    usual = np.fmin(peer_median(told.values, roles(told, tables)), own_median(told.values, before=BEFORE)[None])
    return replace(told, values=(told.values - known_or(usual, 0.0) >= least).astype(float))


def _fleet(active: float, others: float = 0.85) -> Fleet:
    """Return a fleet of ranks with a core at work each; later the SMs of one and of the others are active so much."""
    fleet = Fleet()
    fleet.put(CPU, 0.98 * 30, devices=fleet.gpus)
    fleet.put(SENT, 1e9 * 30, devices=fleet.gpus)
    fleet.put(ACTIVE, 0.85, devices=fleet.gpus)
    fleet.put(ACTIVE, others, devices=fleet.gpus, since=10)
    return fleet.put(ACTIVE, active, nodes=["n0"], devices=["gpu1"], since=10)
