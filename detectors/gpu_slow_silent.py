"""A GPU does the same work more slowly than its peers, and no flag, error or host says why.

Why it hurts
    Marginal silicon, memory or firmware makes one rank late in every step, by the same share, for weeks. No counter
    tells; the job just runs at the speed of its slowest GPU.

How it is seen
    Step time less the time in collectives is a rank's own work. It is 1.1 times that of the peers of its stage or
    more, beyond what healthy ranks differ by, in most of the last windows. Its SMs are active longer for each step
    (GPM), which a late host cannot cause. All known reasons are taken out first: heat, power, clocks, input, copies,
    garbage collection, waiting for a CPU, more tokens.

Look-alikes
    `gpu-hw-slowdown`, `gpu-power-cap`, `gpu-clock-pinned-low`: the clock is low. `host-cpu-contention`,
    `data-loader-stall`, `pcie-h2d-starvation`: the GPU waits. `data-sequence-skew`, `pp-stage-imbalance`: it has more
    to do. Many ranks of a host at once: the host. Without GPM and host metrics it stays a suspicion (context).

What to do
    Give the rank less work now; run a matrix multiplication of fixed shape on the GPU and on a neighbour when the job
    ends, and swap the GPU where it is 1.1 times slower there too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.persistence import QUICK_COUNT, QUICK_OF_COUNT, lasting
from skewscope.signals.view import Signal

from . import _crowds, _late_ranks, _live, _own_work
from ._live_worlds import Fleet

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class GpuSlowSilent:
    """Thresholds: own work against peers, how much of it must be unexplained, what confirms it, how long it lasts."""

    category: ClassVar[str] = "gpu"
    needs: ClassVar[tuple[str, ...]] = ("windows", "ranks")

    slow_ratio: float = 1.10  # Greyhound validates compute at 1.1 times the median
    strong_ratio: float = 1.15  # OWN: in two of three windows, of which the first may be slow for a part of it only
    severe_ratio: float = 1.50  # conditions A3: critical
    spread_z: float = 4.0  # OWN: healthy ranks differ by 3 to 9 % in recordings; beyond 4 robust deviations
    explained_ratio: float = 0.5  # OWN: of the excess; then another condition is the cause
    confirmed_ratio: float = 0.3  # OWN: of the excess, seen in SM time a step; collectives keep few SMs busy
    crowd_ratio: float = 0.25  # A11: so many at once are no single GPU
    held_count: int = 4  # A12: last resort, two minutes
    of_count: int = 5

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return a finding per GPU whose rank computes slower than its peers without a known reason."""
        for job in _late_ranks.late(tables, self):
            yield from self._of_job(tables, job)

    def _of_job(self, tables: Frames, job: _late_ranks.Late) -> Iterable[Finding]:
        told, usual, ratio, groups = job.told, job.usual, job.ratio, job.groups
        suspect = job.suspect & _live.busy(told, tables)
        active = _own_work.sm_active(told, tables, groups)
        suspect &= ~(active < 0.99)  # its SMs are not active longer: it waits for something that is not measured
        strong = suspect & (ratio >= self.strong_ratio)
        mask = lasting(suspect, self.held_count, self.of_count) | lasting(strong, QUICK_COUNT, QUICK_OF_COUNT)
        for one in _crowds.found(told, mask, tables):
            yield self._finding(tables, told, one, usual, active, _own_work.host_is_told(tables))

    def _finding(
        self, tables: Frames, told: Signal, one: _crowds.Found, usual: Array, active: Array, host_told: bool
    ) -> Finding:
        own_s, usual_s, sm = one.mean(told.values), one.mean(usual), one.mean(active)
        ratio = own_s / usual_s
        sure = sm >= 1 + self.confirmed_ratio * (ratio - 1)
        culprit = (sure or host_told) and one.subject is None
        more = f"; its SMs are active {sm:.2f} times as long" if sure else ""
        return _live.finding(
            "gpu-slow-silent", tables, told, one.column, one.mask, role="culprit" if culprit else "context",
            subject=one.subject or _own_work.gpu(told, one.column), ranks=one.ranks,
            confidence=0.85 if sure else 0.6 if culprit else 0.3,
            least="S4" if not culprit else "S2" if ratio >= self.severe_ratio else "S3",
            evidence=(
                Evidence("own_work_per_step", own_s, usual_s, self.slow_ratio * usual_s, "s"),
                Evidence("own_work_against_peers", ratio, 1.0, self.slow_ratio, "ratio"),
                *([Evidence("sm_active_against_peers", sm, 1.0, 1 + self.confirmed_ratio * (ratio - 1), "ratio")]
                  if sm == sm else []),
            ),
            summary=f"{one.where(told)} needs {own_s * 1e3:.0f} ms for its part of a step, its peers "
            f"{usual_s * 1e3:.0f} ms ({ratio:.2f} times), and nothing that is measured explains it{more}",
            advice="give its rank less work now; test the GPU with matrix multiplications of fixed shape, then swap it",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: step time less collectives, against the median of the job."""
        own = (
            "(sum by (job_id, rank, node, gpu) (rate(skewscope_step_seconds_total[5m])) - "
            "sum by (job_id, rank, node, gpu) (rate(skewscope_collective_seconds_total[5m])))"
        )
        return Rule(
            "SkewscopeGpuSlowSilent",
            f"{own} / on (job_id) group_left quantile by (job_id) (0.5, {own}) >= {self.slow_ratio:g}",
            self.of_count * 60, "warning", "GPU {{ $labels.gpu }} of {{ $labels.node }} computes slowly",
            "rank {{ $labels.rank }} needs {{ $value }} times the time of its peers for its own work",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: equal, 9 % slower, hot, a low clock, input, more work, a host; a little, much, without GPM."""
        yield World("quiet", _slow(0.0).tables())
        yield World("near-miss", _slow(0.04).tables())
        one: dict[str, Any] = {"nodes": ["n1"], "devices": ["gpu2"], "since": 10}
        hot = _slow(0.15).put("skewscope_gpu_clock_event_seconds_total", 9.0, labels="reason=hw_thermal", **one)
        yield World("hot", hot.tables())
        low = _slow(0.15).put("skewscope_gpu_clock_hertz", 1.2e9, labels="domain=sm", **one)
        yield World("low-clock", low.tables())
        waits = _slow(0.15).put(_own_work.PHASES, 30 / 0.65 * 0.12, labels="phase=data", **one)
        waits.put(_own_work.PHASES, 0.5, labels="phase=data", nodes=["n0"], devices=waits.gpus)
        yield World("input", waits.tables())
        more = _slow(0.15).put(_own_work.WORK, 1e6, labels="unit=tokens", devices=waits.gpus)
        yield World("more-work", more.put(_own_work.WORK, 1.3e6, labels="unit=tokens", **one).tables())
        yield World("host-is-late", _slow(0.15, active_s=0.0).tables())
        yield World("all-of-a-stage", _slow(0.15, ranks=(4, 5, 6, 7)).tables())
        yield World("little", _slow(0.055).tables(), frozenset({"n1/gpu2"}))
        yield World("slow", _slow(0.15).tables(), frozenset({"n1/gpu2"}))
        yield World("no-gpm", _slow(0.15, gpm=False).tables(), frozenset({"n1/gpu2"}))

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: is the clock held, does the host delay it, does it wait for input, are its SMs busy."""
        seconds = "skewscope_gpu_clock_event_seconds_total"
        delay, phase = "skewscope_rank_run_delay_seconds_total", "skewscope_phase_seconds_total"
        return (
            Check("hot", "Does heat hold the clock?", seconds, "rate", ">= 0.05",
                  f'rate({seconds}{{reason="hw_thermal"}}[5m])', "see `gpu-hw-slowdown`", "host",
                  {"reason": "hw_thermal"}),
            Check("host", "Do its threads wait for a processor?", delay, "rate", ">= 0.05", f"rate({delay}[5m])",
                  "see `host-cpu-contention`", "input", {}, ("hot",)),
            Check("input", "Does it wait for its batches?", phase, "rate", ">= 0.05",
                  f'rate({phase}{{phase="data"}}[5m])', "see `data-loader-stall`", "active", {"phase": "data"},
                  ("host",)),
            Check("active", "Are its SMs busy for most of the time?", _own_work.SM_ACTIVE, "rate", ">= 0.6",
                  f"rate({_own_work.SM_ACTIVE}[5m])",
                  "it computes all the time and is slow: test it with matrix multiplications, then swap it",
                  "it is idle in between: look for what it waits for (launches, copies, storage)", {}, ("input",)),
        )  # fmt: skip


def _slow(by_s: float, *, ranks: tuple[int, ...] = (6,), active_s: float | None = None, gpm: bool = True) -> Fleet:
    """Return a fleet in which ranks compute longer; of that `active_s` with active SMs, by default all of it."""
    fleet = Fleet().late(list(ranks), by_s)
    for rank in range(8 if gpm else 0):
        own_s, waits_s = 0.45, 0.05 + by_s
        if rank in ranks:
            own_s, waits_s = 0.45 + (by_s if active_s is None else active_s), 0.05
        share = (0.9 * own_s + 0.1 * waits_s) / (0.5 + by_s)  # a waiting collective keeps a tenth of the SMs
        fleet.put(_own_work.SM_ACTIVE, 30.0 * 0.82, nodes=[f"n{rank // 4}"], devices=[f"gpu{rank % 4}"], until=10)
        fleet.put(_own_work.SM_ACTIVE, 30.0 * share, nodes=[f"n{rank // 4}"], devices=[f"gpu{rank % 4}"], since=10)
    return fleet
