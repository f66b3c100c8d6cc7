"""A stand-in for the module pynvml: GPUs as plain objects, whose values and faults a test or a developer sets.

>>> nvml = FakeNvml(gpus=2)
>>> nvml.nvmlInit()
>>> nvml.nvmlDeviceGetPerformanceState(nvml.nvmlDeviceGetHandleByIndex(1))
0
>>> nvml.gpus[1].fault = GPU_IS_LOST
>>> nvml.nvmlDeviceGetPerformanceState(nvml.nvmlDeviceGetHandleByIndex(1))
Traceback (most recent call last):
pynvml.NVMLError_GpuIsLost: GPU is lost

Structures, constants and errors are those of pynvml. A function that is not here is one that the driver does not have.
Time stands still until `advance` is called; then counters grow as a busy machine's do.
"""

from __future__ import annotations

import ctypes
import struct
from collections import deque
from collections.abc import Callable
from functools import partial
from types import FunctionType, SimpleNamespace
from typing import Any

from ._fake_gpu import ENERGY, FakeGpu
from ._fake_gpu import FakeLink as FakeLink

UNINITIALIZED, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, TIMEOUT, FUNCTION_NOT_FOUND = 1, 3, 4, 6, 10, 13
GPU_IS_LOST, RESET_REQUIRED = 15, 16


def _processes(found: list[tuple[int, int | None]]) -> list[SimpleNamespace]:
    return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in found]


# call without prefix -> what it returns of a GPU
# fmt: off
ANSWERS: dict[str, Callable[..., Any]] = {
    "GetUUID": lambda g: g.uuid, "GetName": lambda g: g.model, "GetVbiosVersion": lambda g: "96.00.74.00.01",
    "GetPciInfo": lambda g: SimpleNamespace(busId=g.pci_bus_id), "GetMinorNumber": lambda g: g.minor,
    "GetModuleId": lambda g: g.minor + 1, "GetNumaNodeId": lambda g: g.minor // 4,
    "GetCpuAffinity": lambda g, words: [0xFF << 8 * (g.minor % 8)] + [0] * (words - 1),
    "GetUtilizationRates": lambda g: (g.utilization_percent, g.memory_percent),
    "GetClockInfo": lambda g, domain: g.sm_mhz if domain == 1 else g.memory_mhz,
    "GetMaxClockInfo": lambda g, domain: 1980 if domain == 1 else 2619,
    "GetCurrentClocksEventReasons": lambda g: g.reasons, "GetPerformanceState": lambda g: g.performance_state,
    "GetMemoryInfo_v2": lambda g: (g.memory_total, g.memory_used),
    "GetMemoryInfo": lambda g, form=0: SimpleNamespace(used=g.memory_used, total=g.memory_total),
    "GetBAR1MemoryInfo": lambda g: SimpleNamespace(bar1Used=g.bar1_used),
    "GetTemperatureV": lambda g: g.celsius, "GetMarginTemperature": lambda g: g.margin_celsius,
    "GetTemperatureThreshold": lambda g, which: g.thresholds[which],
    "GetCurrPcieLinkGeneration": lambda g: g.pcie["gen"], "GetCurrPcieLinkWidth": lambda g: g.pcie["width"],
    "GetMaxPcieLinkGeneration": lambda g: g.pcie["max_gen"], "GetMaxPcieLinkWidth": lambda g: g.pcie["max_width"],
    "GetPcieReplayCounter": lambda g: g.fields.get(94, 0), "GetPowerUsage": lambda g: g.fields.get(186, 410_000),
    "GetTotalEnergyConsumption": lambda g: g.fields.get(ENERGY, 0), "GetEnforcedPowerLimit": lambda g: 700_000,
    "GetMemoryErrorCounter": lambda g, *which: g.ecc.get(which, 0), "GetRemappedRows": lambda g: g.remapped,
    "GetRowRemapperHistogram": lambda g: SimpleNamespace(
        **dict(zip(("max", "high", "partial", "low", "none"), g.banks, strict=True))),
    "GetEccMode": lambda g: [g.modes["ecc"]] * 2, "GetMigMode": lambda g: [g.modes["mig"]] * 2,
    "GetPersistenceMode": lambda g: g.modes["persistence"], "GetSupportedEventTypes": lambda g: g.event_types,
    "GetNvLinkState": lambda g, link: g.links[link].state,
    "GetNvLinkErrorCounter": lambda g, link, which: g.links[link].errors.get(161 + which, 0),
    "GetComputeRunningProcesses_v3": lambda g: _processes(g.processes),
    "GetMPSComputeRunningProcesses_v3": lambda g: _processes(g.mps_processes),
    "GpmQueryDeviceSupport": lambda g: SimpleNamespace(isSupportedDevice=int(bool(g.gpm))),
}
# fmt: on
# raw call -> where in the caller's buffer the answers go, 0 where it is not here
RAW = {"GetUtilizationRates": (0, 1), "GetMemoryInfo_v2": (1, 4), "GetTemperatureV": (2,), "GetMarginTemperature": (1,)}
SAMPLE = struct.Struct("<QI4x")  # time (us), percent


class FakeNvml:
    """The functions of pynvml that the agent uses. `order` is which GPUs the driver lists, in its order."""

    def __init__(self, gpus: int = 8) -> None:
        import pynvml

        self._real: Any = pynvml
        self.gpus = [FakeGpu(f"GPU-{at:08x}-0000", f"00000000:{0x1B + 0x10 * at:02X}:00.0", at) for at in range(gpus)]
        self.order = list(range(gpus))
        self.driver = "580.65.06"
        self.init_fault = 0
        self.running = False
        self.starts = 0
        self.events: deque[tuple[int, int, int]] = deque()  # GPU, type, data
        self.calls: list[tuple[str, int]] = []  # (call, GPU or -1), newest last; cleared by who looks
        self.now_s = 1000.0
        self._registered: dict[int, int] = {}
        self._samples: dict[int, FakeGpu] = {}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as pynvml
        call = name.removeprefix("nvml").removeprefix("Device")
        if name.startswith("nvml") and call in ANSWERS:
            return partial(self._answer, call)
        found = getattr(self._real, name)
        if name.startswith("nvml") and isinstance(found, FunctionType):
            return self._absent
        return found

    def advance(self, seconds: float) -> float:
        """Let time pass; return the time that it is then (monotonic s)."""
        self.now_s += seconds
        for gpu in self.gpus:
            gpu.advance(self.now_s, seconds)
        return self.now_s

    def nvmlInit(self) -> None:  # noqa: N802 - as pynvml
        """Start, or fail with `init_fault`."""
        self._fail(self.init_fault)
        self.running, self.starts = True, self.starts + 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        """Stop."""
        self._fail(0 if self.running else UNINITIALIZED)
        self.running = False
        self._registered.clear()

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        """Return how many GPUs are listed."""
        self._fail(0 if self.running else UNINITIALIZED)
        return len(self.order)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> ctypes.c_void_p:  # noqa: N802
        """Return the handle of a GPU by its place in `order`."""
        return self._handle(self.order[index])

    def nvmlDeviceGetHandleByPciBusId(self, bus_id: str) -> ctypes.c_void_p:  # noqa: N802
        """Return the handle of a GPU by its address."""
        found = [at for at in self.order if self.gpus[at].pci_bus_id == bus_id]
        self._fail(0 if found else NOT_FOUND)
        return self._handle(found[0])

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        """Return the driver's version."""
        return self.driver

    def nvmlSystemGetNVMLVersion(self) -> str:  # noqa: N802
        """Return the library's version."""
        return f"13.{self.driver}"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:  # noqa: N802
        """Return the newest CUDA as 1000 x major + 10 x minor."""
        return 13000

    def nvmlDeviceGetSramEccErrorStatus(self, handle: Any, status: Any) -> int:  # noqa: ANN401, N802
        """Fill in the SRAM status."""
        status._obj.bThresholdExceeded = self._gpu("GetSramEccErrorStatus", handle).sram_exceeded
        return 0

    def nvmlDeviceGetGpuFabricInfoV(self, handle: Any, info: Any) -> int:  # noqa: ANN401, N802
        """Fill in the fabric's state and health."""
        gpu = self._gpu("GetGpuFabricInfoV", handle)
        info._obj.state, info._obj.healthMask = gpu.fabric_state, gpu.fabric_mask
        return 0

    def nvmlDeviceGetGpuFabricInfo(self, handle: Any, info: Any) -> int:  # noqa: ANN401, N802
        """Fill in the fabric's state."""
        info._obj.state = self._gpu("GetGpuFabricInfo", handle).fabric_state
        return 0

    def nvmlEventSetCreate(self) -> ctypes.c_void_p:  # noqa: N802
        """Return an event set; there is one."""
        return ctypes.c_void_p(1)

    def nvmlEventSetFree(self, events: Any) -> None:  # noqa: ANN401, N802
        """Give the event set back."""
        self._registered.clear()

    def nvmlDeviceRegisterEvents(self, handle: Any, types: int, events: Any) -> None:  # noqa: ANN401, N802
        """Listen to a GPU."""
        self._registered[self.gpus.index(self._gpu("RegisterEvents", handle))] = types

    def nvmlEventSetWait_v2(self, events: Any, timeout_ms: int) -> SimpleNamespace:  # noqa: ANN401, N802
        """Return the next event that somebody listens to; raises NVMLError_Timeout without one, at once."""
        while self.events:
            at, kind, data = self.events.popleft()
            if self._registered.get(at, 0) & kind:
                return SimpleNamespace(device=ctypes.c_void_p(at + 1), eventType=kind, eventData=data)
        raise self._real.NVMLError(TIMEOUT)

    def nvmlGpmSampleAlloc(self) -> Any:  # noqa: ANN401, N802
        """Return an empty sample."""
        return ctypes.cast(ctypes.c_void_p(0x1000 + 0x10 * len(self._samples)), self._real.c_nvmlGpmSample_t)

    def nvmlGpmSampleGet(self, handle: Any, sample: Any) -> Any:  # noqa: ANN401, N802
        """Take a sample."""
        self._samples[_address(sample)] = self._gpu("GpmSampleGet", handle)
        return sample

    def nvmlGpmMetricsGet(self, get: Any) -> Any:  # noqa: ANN401, N802
        """Fill in the means between two samples."""
        gpu = self._samples[_address(get.sample2)]
        for one in get.metrics[: get.numMetrics]:
            one.nvmlReturn = 0 if one.metricId in gpu.gpm else NOT_SUPPORTED
            one.value = gpu.gpm.get(one.metricId, 0.0)
        return get

    def _nvmlGetFunctionPointer(self, symbol: str) -> Callable[..., int]:  # noqa: N802
        """Return a function of the library itself: it fills buffers of the caller and returns a code."""
        call = symbol.removeprefix("nvmlDevice")
        if call == "GetFieldValues":
            return self._fields
        if call == "GetSamples":
            return self._utilization_samples
        return partial(self._into, call, RAW.get(call, (0,)))

    def _into(self, call: str, places: tuple[int, ...], handle: Any, *arguments: Any) -> int:  # noqa: ANN401
        *chosen, buffer = arguments
        try:
            answer = ANSWERS[call](self._gpu(call, handle), *chosen)
        except self._real.NVMLError as error:
            return int(error.value)
        for place, value in zip(places, answer if isinstance(answer, tuple) else (answer,), strict=True):
            buffer[place] = value
        return 0

    def _fields(self, handle: Any, count: int, values: Any) -> int:  # noqa: ANN401
        try:
            gpu = self._gpu("GetFieldValues", handle)
        except self._real.NVMLError as error:
            return int(error.value)
        for one in values[:count]:
            value = gpu.value(one.fieldId, one.scopeId)
            one.nvmlReturn = gpu.field_faults.get(one.fieldId, NOT_SUPPORTED if value is None else 0)
            narrow = one.fieldId in gpu.narrow_fields
            one.valueType = 0 if isinstance(value, float) else 1 if narrow else 3
            if isinstance(value, float):
                one.value.dVal = value
            else:
                one.value.ullVal = (value or 0) & (0xFFFFFFFF if narrow else (1 << 64) - 1)
        return 0

    def _utilization_samples(self, handle: Any, kind: int, since: Any, form: Any, count: Any, buffer: Any) -> int:  # noqa: ANN401
        try:
            gpu = self._gpu("GetSamples", handle)
        except self._real.NVMLError as error:
            return int(error.value)
        new = [sample for sample in gpu.samples if sample[0] > since.value][: count._obj.value]
        form._obj.value, count._obj.value = 1, len(new)
        for at, sample in enumerate(new):
            SAMPLE.pack_into(buffer, at * SAMPLE.size, *sample)
        return 0 if new else NOT_FOUND

    def _answer(self, call: str, handle: Any, *arguments: Any) -> Any:  # noqa: ANN401
        return ANSWERS[call](self._gpu(call, handle), *arguments)

    def _gpu(self, call: str, handle: Any) -> FakeGpu:  # noqa: ANN401
        at = _address(handle) - 1
        gpu = self.gpus[at]
        self.calls.append((call, at))
        if gpu.on_call is not None:
            gpu.on_call(call)
        self._fail(UNINITIALIZED if not self.running else gpu.fault or gpu.faults.get(call, 0))
        return gpu

    def _handle(self, at: int) -> ctypes.c_void_p:
        handle = ctypes.c_void_p(at + 1)
        self._gpu("GetHandle", handle)
        return handle

    def _absent(self, *arguments: Any) -> Any:  # noqa: ANN401
        raise self._real.NVMLError(FUNCTION_NOT_FOUND)

    def _fail(self, code: int) -> None:
        if code:
            raise self._real.NVMLError(code)


def _address(pointer: Any) -> int:  # noqa: ANN401 - ctypes
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0
