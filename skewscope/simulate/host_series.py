"""Hosts as the agent's collectors show them: processors, pressure, memory, clock, file server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from . import noise
from .confounders import host_load
from .noise import Array
from .series import Series, Shown
from .training import Run, saving_factor
from .world import WINDOW_S, World

CPUS = 192
CHECKPOINT_BYTES_PER_GPU = 6e9
SERVER_S_PER_MIB = 0.004
GRANTED_RATIO = 1.35  # OWN: power that a rack is granted, over the limits of its GPUs


class HostSeries:
    """Computes what hosts show, [windows, nodes]."""

    def __init__(self, world: World, held: Array, runs: dict[int, Run]) -> None:
        self.world, self.windows = world, len(held)
        per = world.fleet.gpus_per_node
        self.ranks = np.ceil(held).reshape(self.windows, -1, per).sum(axis=2)  # busy ranks of each node
        self.saving, self.writing = self._saving(runs)

    def _knob(self, name: str) -> Array:
        return self.world.node.knob(name)[: self.windows]

    def _saving(self, runs: dict[int, Run]) -> tuple[Array, Array]:
        """Return the bytes of checkpoints that each node writes per window, and by how much that takes longer."""
        found = np.zeros((self.windows, len(self.world.fleet.nodes)))
        longer = np.ones(found.shape)
        per = self.world.fleet.gpus_per_node
        for at, run in runs.items():
            job = self.world.fleet.jobs[at]
            factor = saving_factor(self.world, job)[: self.windows]
            count = run.sums["checkpoint"][: self.windows, 0] / max(job.plan.checkpoint_s, 1e-9) / factor
            nodes = list(range(job.first_gpu // per, -(-job.gpus.stop // per)))
            found[:, nodes] += count[:, None] * CHECKPOINT_BYTES_PER_GPU * per
            longer[:, nodes] = np.maximum(longer[:, nodes], factor[:, None])
        return found, longer

    def series(self) -> Iterator[Series]:
        """Yield all series of hosts."""
        load = host_load(self.world)[: self.windows] * (0.3 + 0.7 * np.minimum(self.ranks, 1.0))
        busy = np.clip(load + self._knob("cpu_load"), 0.0, 0.99)
        system, stolen = self._knob("system_share"), self._knob("steal")
        seconds = CPUS * WINDOW_S
        waits = np.minimum(self.saving / 1e11, 0.05) * np.minimum(self.writing, 4.0)
        for mode, share in (
            ("user", busy * (1.0 - system)), ("system", busy * system), ("iowait", waits), ("steal", stolen),
            ("idle", 1.0 - busy - waits - stolen),
        ):  # fmt: skip
            yield _counter("skewscope_host_cpu_seconds_total", f"mode={mode}", np.maximum(share, 0.0) * seconds)
        yield from self._pressure(waits)
        yield from self._clock()
        yield _gauge("skewscope_host_tasks", "state=runnable", 2.0 + CPUS * busy + 120.0 * self._knob("pressure"), 0.3)
        switches = 2e4 * WINDOW_S * (1.0 + self.ranks + 10.0 * self._knob("cpu_load"))
        yield _counter("skewscope_host_context_switches_total", "", switches)
        free = (1.0 - noise.HOST_BYTES_RATIO) * 2.0**41 - 6e10 * self.ranks
        yield _gauge("skewscope_host_memory_bytes", "kind=available", free, 0.01)
        yield _gauge("skewscope_host_memory_bytes", "kind=dirty", 1e8 + 0.05 * self.saving, 0.2)
        drawn = noise.rng(self.world.seed, "faults").poisson(0.4 * WINDOW_S, busy.shape).astype(float)
        yield _counter("skewscope_host_major_faults_total", "", drawn)
        yield from self._server()
        yield from self._power()
        logs = np.full(busy.shape, 4e6 * WINDOW_S)
        yield Series("skewscope_disk_bytes_total", "direction=write", "disk", True, lambda: Shown(logs))

    def _pressure(self, waits: Array) -> Iterator[Series]:
        rng = noise.rng(self.world.seed, "pressure")
        base = 0.002 + 0.001 * rng.random(waits.shape)
        some = np.clip(base + self._knob("pressure"), 0.0, 1.0)
        metric = "skewscope_host_pressure_seconds_total"
        for resource, kind, share in (
            ("cpu", "some", some), ("io", "some", base + 4.0 * waits), ("io", "full", 0.5 * base + 2.0 * waits),
            ("memory", "some", 0.2 * base + self._knob("memory_pressure")), ("memory", "full", 0.1 * base),
        ):  # fmt: skip
            yield _counter(metric, f"resource={resource},kind={kind}", share * WINDOW_S)

    def _clock(self) -> Iterator[Series]:
        yield _gauge("skewscope_host_clock_offset_seconds", "", self._knob("offset_s"), 0.05)

    def _power(self) -> Iterator[Series]:
        """Yield what each rack may draw, as each of its hosts tells it."""
        fleet = self.world.fleet
        for rack in dict.fromkeys(fleet.racks):
            nodes = np.array(fleet.nodes_of_rack(rack))
            limits = fleet.hardware.limit_watts * fleet.gpus_per_node * len(nodes)
            granted = GRANTED_RATIO * limits * self._knob("power_budget")[:, nodes]
            yield _of_nodes("skewscope_power_budget_watts", f"domain={rack}", granted, nodes)

    def _server(self) -> Iterator[Series]:
        """Yield what the file server of checkpoints does."""
        mount = "mount=/checkpoints"
        size = self.saving
        calls = np.ceil(size / 2**20)
        yield _counter("skewscope_nfs_bytes_total", f"{mount},direction=write", size)
        yield _counter("skewscope_nfs_operations_total", f"{mount},operation=write", calls)
        for metric, factor in (("round_trip", 1.0), ("execution", 1.3)):
            spent = calls * SERVER_S_PER_MIB * factor * self.writing
            yield _counter(f"skewscope_nfs_{metric}_seconds_total", f"{mount},operation=write", spent)


def _counter(metric: str, labels: str, values: Array) -> Series:
    return Series(metric, labels, "node", True, lambda: Shown(values))


def _of_nodes(metric: str, labels: str, values: Array, nodes: Array) -> Series:
    return Series(metric, labels, "node", False, lambda: Shown(values), at=nodes)


def _gauge(metric: str, labels: str, values: Array, swing_ratio: float = 0.0) -> Series:
    make: Callable[[], Shown] = lambda: Shown(values, swing_ratio * np.abs(values))  # noqa: E731 - typed
    return Series(metric, labels, "node", False, make)
