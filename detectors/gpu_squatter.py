"""A process that does not belong to the job runs on one of its GPUs.

Why it hurts
    It takes memory that the job counts on, until an allocation fails, and time slices: the driver switches between
    processes, so that each of the job's kernels may wait for a slice of the other. The rank there comes late at every
    step and nothing in the job's own numbers says why.

How it is seen
    Processes on the GPU are of another control group than the job that holds it, in most looks, and hold more than a
    context's worth of memory. It is the culprit where the rank on that GPU is late, else it is told as context. How
    much each process computes is not told by the agent.

Look-alikes
    A monitoring tool or a display server has a context of a few megabytes and computes nothing. `gpu-power-cap` and
    `gpu-slow-silent`: slow as well, but alone. Processes of the multi-process service belong to the job.

What to do
    See whose it is (`nvidia-smi`, then `/proc/PID/cgroup`); end leftovers of your own, tell the owner of others. Give
    the node no new work until it is clean; let the scheduler's epilog end what is left.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.impact import costs
from skewscope.signals.persistence import lasting
from skewscope.signals.view import Signal, signal

from ._live import mean_in
from ._live_groups import Array, Group, groups, judged
from ._live_worlds import Fleet

FOREIGN, MEMORY = "skewscope_gpu_foreign_processes", "skewscope_gpu_job_memory_bytes"


@dataclass(frozen=True)
class GpuSquatter:
    """Thresholds: how many processes, how much memory, for how long, and what that costs."""

    category: ClassVar[str] = "host"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    processes_count: float = 1.0  # that are not the job's {conditions A1}
    memory_bytes: float = 15 * 2**20  # {GCM's default: 15 MiB}
    cost_ratio: float = 0.02  # of the step: below it is context {D}
    held_count: int = 2  # of `of_count` windows: processes are counted once a minute {conditions A12}
    of_count: int = 4

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per GPU with a foreign process, or per host of such GPUs."""
        told = signal(tables, FOREIGN)
        mask = lasting(told.values >= self.processes_count, self.held_count, self.of_count)
        if not mask.any():
            return
        held_bytes = self._memory(tables, told, mask)
        small = np.array([value < self.memory_bytes for value in held_bytes], dtype=bool)
        for group in groups(told, mask & ~small[None], tables):
            yield self._finding(tables, told, group, held_bytes)

    def _memory(self, tables: Frames, told: Signal, mask: Array) -> Array:
        """Return [series]: bytes that others than the job hold on a GPU in the windows of `mask`, NaN unknown."""
        memory = signal(tables, MEMORY)
        found = np.full(len(told), np.nan)
        for column in np.flatnonzero(mask.any(axis=0)).tolist() if len(memory) else ():
            node, device = str(told.node[column]), str(told.device[column])
            here = np.flatnonzero((memory.node == node) & (memory.device == device)).tolist()
            held = {str(memory.job[one]): mean_in(memory.values[:, one], mask[:, column]) for one in here}
            cost, _ = costs(tables).of_device(node, device)
            own = cost.job if cost is not None else max(held, key=lambda job: held[job], default="")
            if held:
                found[column] = np.nansum([value for job, value in held.items() if job != own])
        return found

    def _finding(self, tables: Frames, told: Signal, group: Group, held_bytes: Array) -> Finding:
        count = group.mean(told.values)
        some = held_bytes[list(group.columns)]
        memory = float(some[np.isfinite(some)].max()) if np.isfinite(some).any() else float("nan")
        evidence = [Evidence("foreign_processes", count, 0.0, self.processes_count, "processes")]
        if np.isfinite(memory):
            evidence.append(Evidence("foreign_memory", memory, 0.0, self.memory_bytes, "bytes"))
        size = f" with up to {memory / 2**20:.0f} MiB" if np.isfinite(memory) else ""
        return judged(
            "gpu-squatter", tables, told, group, cost_ratio=self.cost_ratio, evidence=evidence,
            summary=f"{count:.1f} processes{size} on {group.name(told)} are not of the job that holds it",
            advice="find the owner of the process, end it, and give the node no new work until it is clean",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: there are foreign processes on a GPU, for some looks."""
        return Rule(
            "SkewscopeGpuSquatter", f"{FOREIGN} >= {self.processes_count:g}", 60 * self.held_count, "warning",
            "GPU {{ $labels.gpu }} of {{ $labels.instance }} has a foreign process",
            "{{ $value }} processes on GPU {{ $labels.gpu }} of {{ $labels.instance }} are not of its job",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: foreign processes, all processes, memory, and whether the rank is late."""
        processes, late = "skewscope_gpu_processes", "skewscope_collective_local_last_arrivals_total"
        return (
            Check("foreign", "Do processes of somebody else run on the GPU?", FOREIGN, "high",
                  f">= {self.processes_count:g}", FOREIGN, "see `memory` and `late` for what they cost",
                  "all processes are the job's"),
            Check("processes", "How many processes have a context there?", processes, "high", ">= 2",
                  f'{processes}{{kind="compute"}}', "more than the rank alone", "the rank alone: look at its children",
                  {"kind": "compute"}, ("foreign",)),
            Check("memory", "Does a job hold memory beside yours?", MEMORY, "high", f">= {self.memory_bytes:g}",
                  MEMORY, "the job of that name, or nobody's where the name is empty, holds memory",
                  "it holds next to nothing: a monitoring tool", after=("foreign",)),
            Check("late", "Does the rank there come last often?", late, "rate", "> 0.1", f"rate({late}[5m])",
                  "it is slowed: end the process", "it is not slowed: clean up when the job ends", after=("foreign",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: alone, a small context, a short visit, late alone, a squatter that costs, a host of them."""
        yield World("quiet", _squatted(0.0).tables())
        yield World("near-miss", _squatted(1.0, 14 * 2**20).late(1, 0.1).tables())
        yield World("short-visit", _squatted(1.0, 2**30, until=11).tables())
        yield World("look-alike-late", _squatted(0.0, 2**30).late(1, 0.1).tables())
        yield World("squatter", _squatted(1.0, 2**30).late(1, 0.1).tables(), frozenset({"n0/gpu1"}))
        host = _squatted(0.0).put(FOREIGN, 1.0, nodes=["n1"], devices=[f"gpu{n}" for n in range(4)], since=10)
        yield World("host", host.tables(), frozenset({"n1"}))


def _squatted(processes: float, memory_bytes: float = 2.0**30, until: int | None = None) -> Fleet:
    """Return a fleet of which one GPU has so many foreign processes with so much memory, under no job's name."""
    fleet = Fleet()
    fleet.put(FOREIGN, 0.0, devices=fleet.gpus)
    fleet.put(FOREIGN, processes, nodes=["n0"], devices=["gpu1"], since=10, until=until)
    return fleet.put(MEMORY, memory_bytes, nodes=["n0"], devices=["gpu1"], since=10)
