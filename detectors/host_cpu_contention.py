"""Threads of a rank are ready to run and get no CPU: kernels are launched late and everybody waits.

Why it hurts
    The thread that launches kernels and those that move NCCL's data need a core for microseconds, many times a step.
    On a crowded host each of these times waits for its turn. The GPU idles between kernels and the rank comes late.

How it is seen
    The kernel counts how long threads of a rank were ready without running, and how long the quota of its control
    group held it up. Both together take more of a core than those of the other ranks of the job do, in most windows.
    Where half of a host's ranks starve it is the host; where no process of a rank is known, the host's own pressure.

Look-alikes
    `gpu-hw-slowdown` and `gpu-power-cap`: one GPU is late and no thread waits for a CPU. `host-launch-bound`: the
    launching thread runs all the time and does not wait. `host-noisy-neighbour`: the time is stolen by the hypervisor.
    A host that is as busy as all others (loaders, checkpoints) is no news.

What to do
    Find who else runs there; give ranks cores of their own (cpuset, `--cpus-per-task`), raise the quota, move
    interrupts and loader workers away from these cores.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.persistence import STRONG_RATIO, lasting
from skewscope.signals.view import Signal, signal

from ._live_groups import Array, Group, groups, judged, usual
from ._live_shares import known_or
from ._live_worlds import Fleet

DELAY = "skewscope_rank_run_delay_seconds_total"
THROTTLED = "skewscope_rank_cpu_throttled_seconds_total"
PRESSURE = "skewscope_host_pressure_seconds_total"


@dataclass(frozen=True)
class HostCpuContention:
    """Thresholds: how long threads wait for a CPU, beyond and against what is usual, and what that costs."""

    category: ClassVar[str] = "host"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    delay_ratio: float = 0.05  # of the wall time, beyond the peers' {conditions A1, D}
    pressure_ratio: float = 0.10  # cpu some above 10 % for 60 s {conditions A1, D}
    peers_ratio: float = 2.0  # times what is usual: busy hosts wait more, all alike {D}
    cost_ratio: float = 0.02  # of the step: below it is context {D}
    held_count: int = 3  # of `of_count` windows of 30 s {conditions A12: warn after 2}
    of_count: int = 4

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per starving rank, per host of which half starves, or for the job."""
        told = self._waits(tables)
        yield from self._found(tables, told, self.delay_ratio, "run_delay", "the threads of {} wait for a CPU")
        pressure = signal(tables, PRESSURE, take="increase", resource="cpu", kind="some").rate()
        silent = np.flatnonzero(~np.isin(pressure.node, told.node))
        hosts = Signal(
            pressure.t_ns, pressure.window_s, pressure.node[silent], pressure.device[silent], pressure.job[silent],
            pressure.rank[silent], pressure.values[:, silent],
        )  # fmt: skip
        yield from self._found(tables, hosts, self.pressure_ratio, "cpu_pressure", "tasks of {} wait for a CPU")

    def _waits(self, tables: Frames) -> Signal:
        """Return seconds a second in which threads of a rank were ready and did not run."""
        delay = signal(tables, DELAY, take="increase").rate()
        throttled = signal(tables, THROTTLED, take="increase").rate()
        if not len(delay):
            return throttled
        return replace(delay, values=delay.values + known_or(delay.aligned(throttled), 0.0))

    def _found(self, tables: Frames, told: Signal, least: float, name: str, says: str) -> Iterable[Finding]:
        if not (told.values >= least).any():
            return
        expected = usual(told, tables)
        mask = self._mask(told.values, expected, least)
        for group in groups(told, mask, tables):
            value, baseline = group.mean(told.values), group.mean(expected)
            yield judged(
                "host-cpu-contention", tables, told, group, cost_ratio=self.cost_ratio,
                evidence=self._evidence(tables, told, group, Evidence(name, value, baseline, least, "ratio")),
                summary=f"{says.format(group.name(told))} {value:.0%} of the time, where {baseline:.0%} is usual",
                advice="find who else uses these CPUs; give the ranks cores of their own or a larger quota",
                confidence=0.85,
            )  # fmt: skip

    def _mask(self, values: Array, expected: Array, least: float) -> Array:
        beyond = values - expected
        waits = (beyond >= least) & (values >= self.peers_ratio * expected)
        return lasting(waits, self.held_count, self.of_count, strong=beyond >= STRONG_RATIO * least)

    def _evidence(self, tables: Frames, told: Signal, group: Group, first: Evidence) -> tuple[Evidence, ...]:
        pressure = signal(tables, PRESSURE, take="increase", resource="cpu", kind="some").rate()
        here = group.mean(told.aligned(pressure, ("node",)))
        known = np.isfinite(here) and first.signal != "cpu_pressure"
        more = Evidence("cpu_pressure", here, None, self.pressure_ratio, "ratio")
        return (first, more) if known else (first,)

    def alert(self) -> Rule:
        """Return the alert: a rank waits for CPUs more than the ranks of its job usually do."""
        wait = f"rate({DELAY}[2m])"
        return Rule(
            "SkewscopeHostCpuContention",
            f"{wait} - on (job_id) group_left () quantile by (job_id) (0.5, {wait}) >= {self.delay_ratio:g}",
            30 * self.held_count, "warning", "rank {{ $labels.rank }} of {{ $labels.job_id }} waits for CPUs",
            "threads of rank {{ $labels.rank }} on {{ $labels.instance }} wait {{ $value }} s a second for a CPU, "
            "beyond the other ranks of the job",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: waiting, quota, pressure of the host, and that the GPU is not slowed itself."""
        throttle = "skewscope_gpu_clock_event_seconds_total"
        return (
            Check("run-delay", "Do threads of the rank wait for a CPU?", DELAY, "rate", f">= {self.delay_ratio:g}",
                  f"rate({DELAY}[2m])", "it starves; see `quota` and `pressure` for who takes the time",
                  "its threads run when they want to: it is not this"),
            Check("quota", "Is it its own quota that holds it up?", THROTTLED, "rate", "> 0.01",
                  f"rate({THROTTLED}[2m])", "raise the CPU limit of its control group",
                  "no quota: others use its cores", after=("run-delay",)),
            Check("pressure", "Is the whole host short of CPUs?", PRESSURE, "rate", f">= {self.pressure_ratio:g}",
                  f'rate({PRESSURE}{{resource="cpu",kind="some"}}[2m])', "too many tasks on this host: find them",
                  "only some cores are crowded: look at the rank's cpuset and at interrupts",
                  {"resource": "cpu", "kind": "some"}, ("run-delay",)),
            Check("clocks", "Is the GPU slowed by heat or power at the same time?", throttle, "rate", "< 0.05",
                  f'rate({throttle}{{reason=~"hw_.*"}}[2m])', "the GPU is at full speed: the host is the cause",
                  "the GPU is slowed itself: see `gpu-hw-slowdown` first", {"reason": "hw_thermal"}, ("run-delay",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: little waiting, just below, busy hosts all alike, a rank late for another reason, starving."""
        quiet, starving = {"value": 0.003}, {"value": 0.4, "since": 10}
        yield World("quiet", _world(quiet).tables())
        yield World("near-miss", _world(quiet, {"value": 0.052, "since": 10}).tables())
        yield World("single-window", _world(quiet, {"value": 0.4, "since": 10, "until": 11}).tables())
        yield World("all-busy", _world({"value": 0.3}).tables())
        yield World("look-alike-late", _world(quiet).late(1, 0.1).tables())
        yield World("starving", _world(quiet, starving).late(1, 0.1).tables(), frozenset({"n0/gpu1"}))
        crowded = _world(quiet).put(DELAY, 0.4 * 30, nodes=["n1"], devices=[f"gpu{n}" for n in range(4)], since=10)
        yield World("crowded-host", crowded.late(5, 0.1).tables(), frozenset({"n1"}))
        pressed = Fleet().put(PRESSURE, 0.6, labels="resource=cpu,kind=some")
        pressed.put(PRESSURE, 9.0, labels="resource=cpu,kind=some", nodes=["n1"], since=10)
        yield World("pressed-host", pressed.tables(), frozenset({"n1"}))


def _world(every: dict[str, float], one: dict[str, float] | None = None) -> Fleet:
    """Return a fleet whose ranks wait `every` seconds a second, and one of them otherwise."""
    fleet = Fleet()
    fleet.put(DELAY, every["value"] * 30, devices=fleet.gpus)
    if one:
        until = int(one["until"]) if "until" in one else None
        fleet.put(DELAY, one["value"] * 30, nodes=["n0"], devices=["gpu1"], since=int(one["since"]), until=until)
    return fleet
