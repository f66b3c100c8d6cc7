"""What changes rarely: repairs of memory, limits of power, clocks and temperature, modes."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import Any, ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from ._nvml_batch import Batch
from ._nvml_devices import Devices, devices
from ._nvml_inventory import Device

REMAPPED, PENDING, FAILURE, BANKS = (
    "skewscope_gpu_remapped_rows", "skewscope_gpu_row_remap_pending", "skewscope_gpu_row_remap_failure",
    "skewscope_gpu_row_remap_banks",
)  # fmt: skip
POWER, CLOCK, DEGREES, MODE = (
    "skewscope_gpu_power_limit_watts", "skewscope_gpu_clock_limit_hertz", "skewscope_gpu_temperature_limit_celsius",
    "skewscope_gpu_mode_enabled",
)  # fmt: skip
SRAM, BAR1, MEMORY = (
    "skewscope_gpu_sram_ecc_threshold_exceeded", "skewscope_gpu_bar1_used_bytes", "skewscope_gpu_memory_total_bytes",
)  # fmt: skip
AVAILABILITY = ("max", "high", "partial", "low", "none")
RETIRED = {29: "corrected", 30: "uncorrected", 31: "pending"}  # pages, before rows could be remapped
POWER_FIELDS = {190: "enforced", 192: "requested", 189: "default", 188: "max"}
THRESHOLDS = {0: "shutdown", 1: "slowdown", 2: "memory_max", 3: "gpu_max"}
DOMAINS = {1: "sm", 2: "memory"}
PERSISTENCE_ON = 1


class NvmlHealth:
    """Asks single calls of each GPU, seldom."""

    process: ClassVar[str] = "nvml"
    group: ClassVar[str] = "slow"
    exports: ClassVar[tuple[str, ...]] = (
        REMAPPED, PENDING, FAILURE, BANKS, POWER, CLOCK, DEGREES, MODE, SRAM, BAR1, MEMORY,
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self._place = place

    def collect(self) -> Iterable[Sample]:
        """Return the samples of now. Raises NoData where no GPU answers any of this."""
        asked = devices(self._place)
        found: list[Sample] = []
        ready = asked.ready()
        for device in ready:
            self._repairs(asked, device, found)
            self._limits(asked, device, found)
            self._modes(asked, device, found)
            self._memory(asked, device, found)
        if not found and ready:
            raise NoData("no GPU here tells of its limits and repairs")
        return found

    def _repairs(self, asked: Devices, device: Device, found: list[Sample]) -> None:
        gpu = device.labels
        rows = asked.ask(device, "GetRemappedRows")
        if rows is not None:
            corrected, uncorrected, pending, failure = rows
            found += _pairs(REMAPPED, gpu, (("corrected", corrected), ("uncorrected", uncorrected)))
            found += [(PENDING, gpu, int(bool(pending))), (FAILURE, gpu, int(bool(failure)))]
            banks = asked.ask(device, "GetRowRemapperHistogram")
            if banks is not None:
                found += _pairs(BANKS, gpu, ((name, getattr(banks, name)) for name in AVAILABILITY))
        else:
            for field, value in _read(asked, device, "retired", RETIRED):
                name = RETIRED[field]
                found.append((PENDING, gpu, int(bool(value))) if name == "pending" else (REMAPPED, (*gpu, name), value))
        status = _kept(device, "sram", self._place.nvml, "c_nvmlEccSramErrorStatus_v1_t")
        if status is not None and asked.ask_into(device, "GetSramEccErrorStatus", (), ctypes.byref(status)):
            found.append((SRAM, gpu, int(bool(status.bThresholdExceeded))))

    def _limits(self, asked: Devices, device: Device, found: list[Sample]) -> None:
        gpu = device.labels
        milliwatts = _read(asked, device, "power-limits", POWER_FIELDS)
        watts = {POWER_FIELDS[field]: value / 1e3 for field, value in milliwatts}
        if "enforced" not in watts:
            milli = asked.ask(device, "GetEnforcedPowerLimit")
            if milli is not None:
                watts["enforced"] = milli / 1e3
        found += _pairs(POWER, gpu, watts.items())
        for number, name in DOMAINS.items():
            clock_mhz = asked.ask(device, "GetMaxClockInfo", number)
            if clock_mhz is not None:
                found.append((CLOCK, (*gpu, name), clock_mhz * 1e6))
        for number, name in THRESHOLDS.items():
            degrees = asked.ask(device, "GetTemperatureThreshold", number)
            if degrees is not None:
                found.append((DEGREES, (*gpu, name), degrees))

    def _modes(self, asked: Devices, device: Device, found: list[Sample]) -> None:
        for name, call in (("ecc", "GetEccMode"), ("mig", "GetMigMode")):
            now_and_next = asked.ask(device, call)
            if now_and_next is not None:
                found.append((MODE, (*device.labels, name), int(now_and_next[0] == 1)))
        persistence = asked.ask(device, "GetPersistenceMode")
        if persistence is not None:
            found.append((MODE, (*device.labels, "persistence"), int(persistence == PERSISTENCE_ON)))

    def _memory(self, asked: Devices, device: Device, found: list[Sample]) -> None:
        memory = asked.ask(device, "GetMemoryInfo")
        if memory is not None:
            found.append((MEMORY, device.labels, memory.total))
        mapped = asked.ask(device, "GetBAR1MemoryInfo")
        if mapped is not None:
            found.append((BAR1, device.labels, mapped.bar1Used))


def _pairs(metric: str, gpu: tuple[str, str], values: Iterable[tuple[str, float]]) -> list[Sample]:
    return [(metric, (*gpu, name), value) for name, value in values]


def _read(asked: Devices, device: Device, name: str, fields: Iterable[int]) -> list[tuple[int, int | float]]:
    """Return (field, value) of what a GPU answers; the batch is kept under the name."""
    batch: Batch | None = device.kept.get(name)
    if batch is None or batch.stale():
        batch = Batch(asked, device, [(field, 0) for field in fields])
        if not batch.good:
            return []
        device.kept[name] = batch
    read = zip(batch.fields, batch.read(), strict=False)
    return [(field, value) for (field, _), value in read if value is not None]


def _kept(device: Device, name: str, nvml: Any, kind: str) -> Any:  # noqa: ANN401 - a structure of the wrapper
    """Return a structure that is made once for each handle, None where the wrapper is too old to have it."""
    if name not in device.kept:
        made = getattr(nvml, kind, None)
        device.kept[name] = made() if made else None
    return device.kept[name]
