"""GPUs as the agent's NVML collectors show them: clocks, power, heat, activity, links, memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np

from . import noise
from .activity import Activity
from .fleet import GIB
from .noise import Array
from .own_work import clock_ratio
from .series import Series, Shown
from .world import WINDOW_S, World

BUSY_CLOCK = {"NVIDIA H100 80GB HBM3": 0.88, "NVIDIA A100-SXM4-80GB": 0.97}  # of the highest, at the power cap
WAIT_POWER_RATIO = 0.60  # OWN: of the dynamic power, while a collective spins or moves data
CLOCK_POWER_EXPONENT = 2.2
COUNTED = ("sw_thermal", "hw_thermal", "hw_power_brake")
JOB_BYTES_RATIO = 0.76  # ACME: memory use of held GPUs is 75 % at the median


class GpuSeries:
    """Computes what GPUs show; arrays are [windows, gpus] and made once, when they are first needed."""

    def __init__(self, world: World, activity: Activity) -> None:
        self.world, self.activity = world, activity
        self.windows = len(activity.held)
        self.hardware = world.fleet.hardware

    def _knob(self, name: str) -> Array:
        return self.world.gpu.knob(name)[: self.windows]

    @cached_property
    def ratio(self) -> Array:
        """Clock of a busy GPU over that of a healthy one."""
        return clock_ratio(self.world)[: self.windows]

    @cached_property
    def kernels(self) -> Array:
        """Share of time in which arithmetic runs, without the gaps between launches."""
        gap = self.world.rank.knob("launch_gap")[: self.windows]
        return np.asarray(np.clip(self.activity.compute, 0, 1) / (1.0 + gap))

    @cached_property
    def capped(self) -> Array:
        """Share of time at the power limit."""
        usual = noise.smooth(np.full(self.ratio.shape, noise.CAPPED_SHARE), self.world.seed, "capped",
                             noise.CAPPED_SPREAD_RATIO)  # fmt: skip
        limit = self._knob("limit")
        free = self.ratio / np.minimum(limit, 1.0) ** 0.45
        cool = np.clip((free - 0.93) / 0.07, 0.0, 1.0)  # other reasons leave the power below the limit
        share = np.where(limit < 0.97, 0.97, usual) * cool
        return np.asarray(np.clip(share, 0.0, 1.0) * self.kernels)

    @cached_property
    def watts(self) -> Array:
        """Mean power."""
        idle = self.hardware.idle_watts * np.exp(
            noise.IDLE_SPREAD_RATIO * noise.rng(self.world.seed, "idle").standard_normal(self.world.fleet.gpus)
        )
        full = self.hardware.limit_watts * noise.BUSY_POWER_RATIO
        work = self.kernels * self._knob("activity") ** 0.5 * self.ratio**CLOCK_POWER_EXPONENT
        rest = WAIT_POWER_RATIO * np.clip(self.activity.transfer + self.activity.waiting, 0.0, 1.0)
        drawn = noise.smooth((full - idle) * np.minimum(work + rest, 1.0), self.world.seed, "watts",
                             noise.POWER_SPREAD_RATIO)  # fmt: skip
        return np.asarray(np.minimum(idle + drawn, self.hardware.limit_watts * self._knob("limit") * 1.01))

    @cached_property
    def celsius(self) -> Array:
        """GPU temperature; when it reaches the limit the driver holds it there."""
        rng = noise.rng(self.world.seed, "heat")
        nodes = np.repeat(rng.standard_normal(len(self.world.fleet.nodes)), self.world.fleet.gpus_per_node)
        slots = noise.BUSY_RISE_SPREAD_C * rng.standard_normal(self.world.fleet.gpus)
        share = (self.watts - self.hardware.idle_watts) / (self.hardware.limit_watts - self.hardware.idle_watts)
        rise = (noise.BUSY_RISE_C + slots) * share
        wander = 0.4 * noise.rng(self.world.seed, "heat2").standard_normal(share.shape, dtype=np.float32)
        busy = np.where(share > 0.02, self._knob("heat"), 0.2 * self._knob("heat"))
        found = noise.INLET_C + noise.INLET_SPREAD_C * nodes + rise + wander + busy
        return np.asarray(np.minimum(found, self.hardware.slowdown_celsius + 0.3))

    @cached_property
    def hertz(self) -> Array:
        """Mean SM clock: high while a job holds the GPU, low otherwise."""
        spread = 0.004 * noise.rng(self.world.seed, "hertz").standard_normal(self.world.fleet.gpus)
        busy = self.hardware.clock_hertz * BUSY_CLOCK[self.hardware.model] * (1.0 + spread) * self.ratio
        held = np.minimum(self.activity.held, 1.0)
        return noise.smooth(held * busy + (1.0 - held) * self.hardware.idle_clock_hertz, self.world.seed, "clock",
                            0.003)  # fmt: skip

    def lowest_hertz(self) -> Array:
        """Lowest clock seen: throttling in hardware shows even where it is short."""
        cut = np.ones(self.ratio.shape)
        for reason, clock in (("hw_thermal", 0.5), ("hw_power_brake", 0.5), ("sw_thermal", 0.8)):
            seen = self._knob(reason) > 0.02
            cut = np.where(seen & (self.activity.held > 0.5), np.minimum(cut, clock), cut)
        top = self.hardware.clock_hertz * BUSY_CLOCK[self.hardware.model]
        low = np.where(cut < 1.0, np.minimum(self.hertz, cut * top), self.hertz * 0.985)
        return np.asarray(np.maximum(low, self.hardware.idle_clock_hertz * 0.98))

    def memory_bytes(self) -> Array:
        """Memory in use."""
        usual = self.hardware.memory_bytes * JOB_BYTES_RATIO
        spread = 0.01 * noise.rng(self.world.seed, "bytes").standard_normal(self.world.fleet.gpus)
        held = np.ceil(self.activity.held) * usual * (1.0 + spread) * self._knob("memory_ratio")
        used = 0.55 * GIB + held + self._knob("foreign_memory_bytes")
        return np.asarray(np.minimum(used, 0.995 * self.hardware.memory_bytes))

    def series(self) -> Iterator[Series]:
        """Yield all series whose values follow from load and knobs."""
        idle = WINDOW_S * (1.0 - np.minimum(self.activity.held, 1.0))
        reasons = [name for name in COUNTED if self._knob(name).any()]
        yield from self._gauges()
        for reason in reasons:
            yield _counter("skewscope_gpu_clock_event_seconds_total", f"reason={reason}", self._held_back(reason))
        yield _counter("skewscope_gpu_clock_event_seconds_total", "reason=sw_power_cap", lambda: WINDOW_S * self.capped)
        key = ("skewscope_gpu_clock_event_observed_seconds_total", "reason=idle")
        yield _counter(*key, lambda: idle, agent=True)
        for reason in reasons:
            yield _gauge("skewscope_gpu_clock_event_active", f"reason={reason}", self._active(reason))
        yield _gauge("skewscope_gpu_clock_event_active", "reason=sw_power_cap", lambda: self.capped)
        yield _gauge("skewscope_gpu_clock_event_active", "reason=idle", lambda: idle / WINDOW_S)
        yield _counter("skewscope_gpu_energy_joules_total", "", lambda: self.watts * WINDOW_S)
        busy = self.activity.busy
        made = {"busy": lambda: busy, "sm_active": self._sm, "tensor_active": self._tensor, "dram_active": self._dram}
        for name, values in made.items():
            yield _counter(f"skewscope_gpu_{name}_seconds_total", "", _times(values, WINDOW_S), agent=True)
        yield from self._bytes()

    def _held_back(self, reason: str) -> Callable[[], Array]:
        return lambda: WINDOW_S * np.clip(self._knob(reason), 0.0, 1.0) * np.ceil(self.activity.busy)

    def _active(self, reason: str) -> Callable[[], Array]:
        return lambda: np.clip(self._knob(reason), 0.0, 1.0) * np.ceil(self.activity.busy)

    def _gauges(self) -> Iterator[Series]:
        held = self.activity.held
        top = float(self.hardware.pcie_generation)
        now = np.where(held > 0.02, top - self._knob("generations_lost"), 1.0)
        for metric, labels, make, swing in (
            ("gpu_utilization_ratio", "", lambda: self.activity.busy, 0.02),
            ("gpu_memory_activity_ratio", "", lambda: 0.8 * self._dram(), 0.05),
            ("gpu_sm_active_ratio", "", self._sm, 0.04),
            ("gpu_sm_occupancy_ratio", "", lambda: 0.35 * self._sm(), 0.04),
            ("gpu_tensor_active_ratio", "", self._tensor, 0.05),
            ("gpu_dram_active_ratio", "", self._dram, 0.05),
            ("gpu_clock_hertz", "domain=sm", lambda: self.hertz, 0.006),
            ("gpu_sm_clock_min_hertz", "", self.lowest_hertz, 0.004),
            ("gpu_performance_state", "", lambda: np.where(held > 0.02, 0.0, 8.0), 0.0),
            ("gpu_power_watts", "kind=average", lambda: self.watts, 0.03),
            ("gpu_power_watts", "kind=instant", lambda: self.watts, 0.06),
            ("gpu_temperature_celsius", "sensor=gpu", lambda: self.celsius, 0.008),
            ("gpu_temperature_celsius", "sensor=memory", self._memory_celsius, 0.008),
            ("gpu_temperature_margin_celsius", "", lambda: self.hardware.slowdown_celsius - self.celsius, 0.02),
            ("gpu_memory_used_bytes", "", self.memory_bytes, 0.001),
            ("gpu_pcie_link_generation", "kind=current", lambda: now, 0.0),
            ("gpu_processes", "kind=compute", self._processes, 0.0),
            ("gpu_allocated", "", lambda: np.ceil(held), 0.0),
        ):  # fmt: skip
            yield _gauge(f"skewscope_{metric}", labels, make, swing)
        yield Series("skewscope_pcie_link_transfers_per_second", "kind=current", "gpu_link", False,
                     lambda: Shown(2.0**now * 1e9))  # fmt: skip

    def _processes(self) -> Array:
        key = ("skewscope_gpu_foreign_processes", "")
        foreign = self.world.gpu.levels.get(key)
        return np.asarray(np.ceil(self.activity.held) + (0.0 if foreign is None else foreign[: self.windows]))

    def _memory_celsius(self) -> Array:
        return np.asarray(self.celsius + noise.MEMORY_RISE_C * (self.watts / self.hardware.limit_watts))

    def _sm(self) -> Array:
        rest = 0.18 * (self.activity.transfer + self.activity.waiting)
        active = noise.SM_ACTIVE * self.kernels + rest + 0.5 * self._knob("foreign")
        return np.asarray(np.clip(noise.smooth(active, self.world.seed, "sm", 0.01), 0.0, 1.0))

    def _tensor(self) -> Array:
        active = noise.TENSOR_ACTIVE * self.kernels * self._knob("activity")
        return noise.smooth(active, self.world.seed, "tensor", 0.012)

    def _dram(self) -> Array:
        active = noise.DRAM_ACTIVE * self.kernels * self._knob("activity") + 0.06 * self.activity.transfer
        return noise.smooth(active, self.world.seed, "dram", 0.012)

    def _bytes(self) -> Iterator[Series]:
        other = self._knob("pcie_foreign_bytes_per_s") * WINDOW_S
        wire = self.activity.wire_bytes
        yield _counter("skewscope_gpu_pcie_receive_bytes_total", "", lambda: self.activity.h2d_bytes + wire + other)
        sent = self.activity.d2h_bytes + wire + 0.35 * other
        yield _counter("skewscope_gpu_pcie_transmit_bytes_total", "", lambda: sent)
        for way in ("receive", "transmit"):
            yield _counter(f"skewscope_gpu_nvlink_{way}_bytes_total", "", lambda: self.activity.nvlink_bytes)


def _gauge(metric: str, labels: str, make: Callable[[], Array], swing_ratio: float = 0.0) -> Series:
    def shown() -> Shown:
        values = make()
        return Shown(values, swing_ratio * np.abs(values))

    return Series(metric, labels, "gpu", False, shown)


def _counter(metric: str, labels: str, make: Callable[[], Array], *, agent: bool = False) -> Series:
    return Series(metric, labels, "gpu", True, lambda: Shown(make()), agent=agent)


def _times(make: Callable[[], Array], factor: float) -> Callable[[], Array]:
    return lambda: make() * factor
