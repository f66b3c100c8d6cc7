"""What each GPU does now: activity, clocks and what holds them back, memory, temperature, and whether it answers."""

from __future__ import annotations

import ctypes
import struct
from collections import deque
from collections.abc import Iterable
from typing import Any, ClassVar

from skewscope.contracts import Place, Sample

from ._nvml_devices import Devices, devices
from ._nvml_inventory import ERROR_STATE, LOST_STATE, OK_STATE, RESET_STATE, Device
from ._nvml_states import States

GPU_UTILIZATION_SAMPLES, SM, MEMORY, GPU_SENSOR, DOUBLE = 1, 1, 2, 0, 0
MEMORY_FORM, TEMPERATURE_FORM, MARGIN_FORM = 0x02000028, 0x0100000C, 0x01000008  # size and version
SAMPLES_KEPT = 256
SAMPLE = struct.Struct("<QI4x")  # time (us, the driver's own clock), percent
LONGEST_SAMPLE_US = 1_000_000  # a longer gap is not one sample: the driver takes none while a GPU idles
LONGEST_STEP_S = 30.0  # what was seen before a longer gap says nothing about it
MINIMUM_S = 15.0
STATES = (OK_STATE, LOST_STATE, RESET_STATE, "hung", ERROR_STATE)
REASONS = (  # in the order of their bits
    "idle", "app_clocks", "sw_power_cap", "hw_slowdown", "sync_boost", "sw_thermal", "hw_thermal", "hw_power_brake",
    "display", "board_limit", "reliability",
)  # fmt: skip
OBSERVED = (("idle", 0x1), ("app_clocks", 0x2), ("hw_slowdown", 0x8))  # the driver has no counters of these
ALL_REASONS = (1 << len(REASONS)) - 1


class Buffers:
    """What the driver writes into, kept for all GPUs. A version says which form of a structure we mean."""

    def __init__(self) -> None:
        self.rates = (ctypes.c_uint32 * 2)()  # percent busy, percent of time with memory traffic
        self.memory = (ctypes.c_uint64 * 5)(MEMORY_FORM)  # version, total, reserved, free, used
        self.temperature = (ctypes.c_int32 * 3)(TEMPERATURE_FORM)  # version, sensor, degrees
        self.margin = (ctypes.c_int32 * 2)(MARGIN_FORM)  # version, degrees
        self._bytes = bytearray(SAMPLE.size * SAMPLES_KEPT)
        self._since, self._kind, self._count = ctypes.c_uint64(), ctypes.c_uint32(), ctypes.c_uint32()
        array = (ctypes.c_ubyte * len(self._bytes)).from_buffer(self._bytes)
        self._samples = (self._since, ctypes.byref(self._kind), ctypes.byref(self._count), array)

    def samples_since(self, time_us: int) -> tuple[Any, ...]:
        """Return what the call for samples wants, set to ask for newer ones."""
        self._since.value, self._count.value = time_us, SAMPLES_KEPT
        return self._samples

    def samples(self) -> Iterable[tuple[int, int]]:
        """Return (time in us, percent) of what came; nothing where it is of a type that percents never were."""
        many = 0 if self._kind.value == DOUBLE else min(self._count.value, SAMPLES_KEPT)
        return SAMPLE.iter_unpack(memoryview(self._bytes)[: many * SAMPLE.size])


class Seen:
    """What one GPU's samples add up to."""

    def __init__(self, device: Device) -> None:
        gpu = device.labels
        self.gpu = gpu
        self.access = States("skewscope_gpu_access_state", gpu, STATES)
        self.reasons = States("skewscope_gpu_clock_event_active", gpu, REASONS)
        self.observed = [(bit, (*gpu, reason)) for reason, bit in OBSERVED]
        self.observed_s = [0.0] * len(OBSERVED)
        self.sm, self.memory, self.sensor = (*gpu, "sm"), (*gpu, "memory"), (*gpu, "gpu")
        self.clocks: deque[tuple[float, int]] = deque()  # (time, MHz), rising: the first is the minimum
        self.busy_s = 0.0
        self.last_us = 0
        self.last_s: float | None = None

    def step_s(self, now_s: float) -> float:
        """Return the seconds since the last look, 0 where they are unknown or too many."""
        step_s = 0.0 if self.last_s is None else now_s - self.last_s
        self.last_s = now_s
        return step_s if step_s <= LONGEST_STEP_S else 0.0

    def lowest_hertz(self, now_s: float, clock_mhz: int) -> float:
        """Take a clock and return the lowest one of the last 15 s."""
        clocks = self.clocks
        while clocks and clocks[-1][1] >= clock_mhz:
            clocks.pop()
        clocks.append((now_s, clock_mhz))
        while clocks[0][0] < now_s - MINIMUM_S:
            clocks.popleft()
        return clocks[0][1] * 1e6


class NvmlDevice:
    """Asks a handful of cheap calls of each GPU."""

    process: ClassVar[str] = "nvml"
    group: ClassVar[str] = "fast"
    exports: ClassVar[tuple[str, ...]] = (
        "skewscope_gpu_devices", "skewscope_gpu_access_state", "skewscope_gpu_utilization_ratio",
        "skewscope_gpu_memory_activity_ratio", "skewscope_gpu_busy_seconds_total", "skewscope_gpu_clock_hertz",
        "skewscope_gpu_sm_clock_min_hertz", "skewscope_gpu_clock_event_active",
        "skewscope_gpu_clock_event_observed_seconds_total", "skewscope_gpu_performance_state",
        "skewscope_gpu_memory_used_bytes", "skewscope_gpu_temperature_celsius",
        "skewscope_gpu_temperature_margin_celsius",
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self._place = place
        self._buffers = Buffers()

    def collect(self) -> Iterable[Sample]:
        """Return the samples of now; a lost GPU has its access state only."""
        asked = devices(self._place)
        listed = asked.listed()
        found: list[Sample] = []
        if asked.count is not None:
            found.append(("skewscope_gpu_devices", ("nvml",), asked.count))
        for device in listed:
            if device.handle is not None:
                device.state = OK_STATE  # the calls below find out
                self._look(asked, device, found)
            found += self._seen(device).access.only(device.state)
        if listed and all(device.state == LOST_STATE for device in listed):
            asked.all_lost()
        self._place.board["gpu-activity"] = {
            device.uuid: round(device.active_ratio, 4)
            for device in listed
            if device.active_ratio is not None and device.state != LOST_STATE
        }
        return found

    def _seen(self, device: Device) -> Seen:
        seen: Seen | None = device.totals.get("device")
        if seen is None:
            seen = device.totals["device"] = Seen(device)
        return seen

    def _look(self, asked: Devices, device: Device, found: list[Sample]) -> None:
        before = len(found)
        seen, now_s = self._seen(device), self._place.clock_s()
        step_s = seen.step_s(now_s)
        self._reasons(asked, device, seen, step_s, found)
        self._activity(asked, device, seen, step_s, found)
        self._clocks(asked, device, seen, now_s, found)
        self._rest(asked, device, seen, found)
        if device.state == LOST_STATE:
            del found[before:]
        elif len(found) == before and device.state == OK_STATE:
            device.state = ERROR_STATE
        if device.wants_reset and device.state == OK_STATE:
            device.state = RESET_STATE

    def _reasons(self, asked: Devices, device: Device, seen: Seen, step_s: float, found: list[Sample]) -> None:
        mask = asked.number(device, "GetCurrentClocksEventReasons")
        if mask is None:  # its name before driver 535
            mask = asked.ask(device, "GetCurrentClocksThrottleReasons")
        if mask is None:
            return
        found += seen.reasons.bits(mask & ALL_REASONS)
        for at, (bit, labels) in enumerate(seen.observed):
            if mask & bit:
                seen.observed_s[at] += step_s
            found.append(("skewscope_gpu_clock_event_observed_seconds_total", labels, round(seen.observed_s[at], 3)))

    def _activity(self, asked: Devices, device: Device, seen: Seen, step_s: float, found: list[Sample]) -> None:
        rates, busy_s = self._buffers.rates, None
        if asked.ask_into(device, "GetUtilizationRates", (), rates):
            busy = rates[0] / 100
            busy_s = busy * step_s
            found.append(("skewscope_gpu_utilization_ratio", seen.gpu, busy))
            found.append(("skewscope_gpu_memory_activity_ratio", seen.gpu, rates[1] / 100))
            if not device.kept.get("gpm-measures"):
                device.active_ratio = busy
        sampled_s = self._sampled_s(asked, device, seen)
        if sampled_s is not None:
            busy_s = sampled_s
        if busy_s is not None:
            seen.busy_s += busy_s
            found.append(("skewscope_gpu_busy_seconds_total", seen.gpu, round(seen.busy_s, 6)))

    def _sampled_s(self, asked: Devices, device: Device, seen: Seen) -> float | None:
        """Return the busy seconds in the samples that are new, None where there are none."""
        new, last_us, busy_us = self._buffers, seen.last_us, 0.0
        if not asked.ask_into(device, "GetSamples", (GPU_UTILIZATION_SAMPLES,), *new.samples_since(last_us)):
            return None
        for time_us, percent in new.samples():
            if last_us and time_us > last_us:
                busy_us += percent * min(time_us - last_us, LONGEST_SAMPLE_US) / 100
            last_us = max(last_us, time_us)
        known, seen.last_us = bool(seen.last_us) and last_us > seen.last_us, last_us
        return busy_us / 1e6 if known else None

    def _clocks(self, asked: Devices, device: Device, seen: Seen, now_s: float, found: list[Sample]) -> None:
        clock_mhz = asked.number(device, "GetClockInfo", SM)
        if clock_mhz is not None:
            found.append(("skewscope_gpu_clock_hertz", seen.sm, clock_mhz * 1e6))
            found.append(("skewscope_gpu_sm_clock_min_hertz", seen.gpu, seen.lowest_hertz(now_s, clock_mhz)))
        clock_mhz = asked.number(device, "GetClockInfo", MEMORY)
        if clock_mhz is not None:
            found.append(("skewscope_gpu_clock_hertz", seen.memory, clock_mhz * 1e6))
        state = asked.number(device, "GetPerformanceState")
        if state is not None and state <= 15:  # 32 is unknown
            found.append(("skewscope_gpu_performance_state", seen.gpu, state))

    def _rest(self, asked: Devices, device: Device, seen: Seen, found: list[Sample]) -> None:
        buffers = self._buffers
        if asked.ask_into(device, "GetMemoryInfo_v2", (), buffers.memory):
            found.append(("skewscope_gpu_memory_used_bytes", seen.gpu, buffers.memory[4]))
        elif memory := asked.ask(device, "GetMemoryInfo"):  # before driver 510: what is reserved counts as used
            found.append(("skewscope_gpu_memory_used_bytes", seen.gpu, memory.used))
        if asked.ask_into(device, "GetTemperatureV", (), buffers.temperature):
            found.append(("skewscope_gpu_temperature_celsius", seen.sensor, buffers.temperature[2]))
        elif degrees := asked.ask(device, "GetTemperature", GPU_SENSOR):
            found.append(("skewscope_gpu_temperature_celsius", seen.sensor, degrees))
        if asked.ask_into(device, "GetMarginTemperature", (), buffers.margin):
            found.append(("skewscope_gpu_temperature_margin_celsius", seen.gpu, buffers.margin[1]))
