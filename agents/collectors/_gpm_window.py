"""Means between two samples of the GPU performance monitor (GPM), Hopper and newer.

The driver does not like GPM from several threads, nor many sample buffers: there are two a GPU, which take turns, and
one structure for all answers. A window under 100 ms is refused by the hardware and one over a minute tells nothing.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any

from ._nvml_calls import code_of
from ._nvml_devices import Devices
from ._nvml_inventory import Device

LEAST_WINDOW_S, LONGEST_WINDOW_S = 0.1, 60.0
VERSION = 1  # of nvmlGpmMetricsGet_t
METRIC = struct.Struct("<IId24x")  # id, return code, value, three names


def supports_gpm(asked: Devices, device: Device) -> bool:
    """Return whether a GPU has GPM; asked once for each handle."""
    known = device.kept.get("gpm-support")
    if known is None:
        answer = asked.ask(device, "GpmQueryDeviceSupport")
        known = device.kept["gpm-support"] = bool(answer is not None and answer.isSupportedDevice)
    return bool(known)


class Metrics:
    """The structure into which the driver writes the means of all wanted metrics."""

    def __init__(self, nvml: Any, ids: tuple[int, ...]) -> None:  # noqa: ANN401 - a module or a fake
        self._get = nvml.c_nvmlGpmMetricsGet_t()
        self._get.version, self._get.numMetrics = VERSION, len(ids)
        for at, number in enumerate(ids):
            self._get.metrics[at].metricId = number
        start = type(self._get).metrics.offset
        self._answers = memoryview((ctypes.c_ubyte * (METRIC.size * len(ids))).from_buffer(self._get, start)).cast("B")

    def between(self, asked: Devices, device: Device, older: Any, newer: Any) -> list[float | None]:  # noqa: ANN401
        """Return the means between two samples, None for a metric that the GPU does not have; empty where it failed."""
        self._get.sample1, self._get.sample2 = older, newer
        try:
            asked.calls.run(device.slot, "GpmMetricsGet", self._get)
        except asked.calls.error:
            return []
        return [value if code == 0 and value == value else None for _, code, value in METRIC.iter_unpack(self._answers)]


class Window:
    """Two sample buffers of one GPU and the time between them."""

    def __init__(self, asked: Devices, device: Device) -> None:
        self.older = asked.calls.run(device.slot, "GpmSampleAlloc")
        self.newer = asked.calls.run(device.slot, "GpmSampleAlloc")
        self._asked, self._device = asked, device
        self._since_s: float | None = None

    def step(self, now_s: float) -> float | None:
        """Take a sample; return the length of the window that ends with it: 0 without a usable one, None too early."""
        since_s = self._since_s
        if since_s is not None and now_s - since_s < LEAST_WINDOW_S:
            return None
        self.older, self.newer, self._since_s = self.newer, self.older, None
        if not self._take():
            return 0.0
        self._since_s = now_s
        length_s = 0.0 if since_s is None else now_s - since_s
        return length_s if length_s <= LONGEST_WINDOW_S else 0.0

    def _take(self) -> bool:
        device = self._device
        try:
            self._asked.calls.run(device.slot, "GpmSampleGet", device.handle, self.newer)
        except self._asked.calls.error as error:
            self._asked.failed(device, ("GpmSampleGet",), code_of(error))
            return False
        return True
