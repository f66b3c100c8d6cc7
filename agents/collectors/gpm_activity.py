"""How busy the parts of each GPU are: SMs, tensor cores, pipes, memory. Hopper and newer, no rights needed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from ._gpm_window import Metrics, Window, supports_gpm
from ._nvml_devices import Devices, devices
from ._nvml_inventory import Device

MIB = 1 << 20
PIPE = "skewscope_gpu_pipe_active_ratio"
# fmt: off
RATIOS: dict[int, tuple[str, tuple[str, ...]]] = {
    2: ("skewscope_gpu_sm_active_ratio", ()), 3: ("skewscope_gpu_sm_occupancy_ratio", ()),
    5: ("skewscope_gpu_tensor_active_ratio", ()), 10: ("skewscope_gpu_dram_active_ratio", ()),
    4: (PIPE, ("int",)), 6: (PIPE, ("dfma",)), 7: (PIPE, ("hmma",)), 8: (PIPE, ("dmma",)), 9: (PIPE, ("imma",)),
    11: (PIPE, ("fp64",)), 12: (PIPE, ("fp32",)), 13: (PIPE, ("fp16",)),
}
SECONDS = {
    2: "skewscope_gpu_sm_active_seconds_total", 5: "skewscope_gpu_tensor_active_seconds_total",
    10: "skewscope_gpu_dram_active_seconds_total",
}
BYTES = {  # MiB/s; used only where the driver has no counter of its own
    20: "skewscope_gpu_pcie_transmit_bytes_total", 21: "skewscope_gpu_pcie_receive_bytes_total",
    60: "skewscope_gpu_nvlink_receive_bytes_total", 61: "skewscope_gpu_nvlink_transmit_bytes_total",
}
# fmt: on
IDS = (*RATIOS, *BYTES)
SM = 2


class Activity:
    """The window of one GPU, what was measured last, and what it adds up to."""

    def __init__(self, asked: Devices, device: Device) -> None:
        self.window = Window(asked, device)
        self.totals: dict[str, float] = device.totals.setdefault("gpm", {})
        self.labels = [(name, (*device.labels, *more), number) for number, (name, more) in RATIOS.items()]
        self.gauges: list[Sample] = []

    def take(self, values: dict[int, float], window_s: float, counted: frozenset[str]) -> None:
        """Take the means of a window."""
        self.gauges = [
            (name, labels, round(values[number] / 100, 6)) for name, labels, number in self.labels if number in values
        ]
        totals = self.totals
        for number, name in SECONDS.items():
            if number in values:
                totals[name] = totals.get(name, 0.0) + values[number] / 100 * window_s
        for number, name in BYTES.items():
            if number in values and name not in counted:
                totals[name] = totals.get(name, 0.0) + values[number] * MIB * window_s


class GpmActivity:
    """Samples each GPU and asks for the means since the sample before."""

    process: ClassVar[str] = "nvml"
    group: ClassVar[str] = "fast"
    exports: ClassVar[tuple[str, ...]] = (
        *dict.fromkeys(name for name, _ in RATIOS.values()), *SECONDS.values(), *BYTES.values(),
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self._place = place
        self._metrics: Metrics | None = None

    def collect(self) -> Iterable[Sample]:
        """Return ratios of the last window and seconds of all. Raises NoData where no GPU has GPM."""
        asked = devices(self._place)
        ready = asked.ready()
        able = [device for device in ready if supports_gpm(asked, device)]
        if ready and not able:
            raise NoData("no GPU here has GPM: it came with Hopper, and a GPU in MIG mode has it by instance only")
        found: list[Sample] = []
        for device in able:
            activity = device.kept.get("gpm") or self._begin(asked, device)
            if activity is None:
                continue
            self._measure(asked, device, activity)
            found += activity.gauges
            for name, total in activity.totals.items():
                if name not in _counted(device):
                    found.append((name, device.labels, round(total, 6)))
        return found

    def _begin(self, asked: Devices, device: Device) -> Activity | None:
        try:
            activity = device.kept["gpm"] = Activity(asked, device)
        except asked.calls.error:
            return None
        return activity

    def _measure(self, asked: Devices, device: Device, activity: Activity) -> None:
        window_s = activity.window.step(self._place.clock_s())
        if window_s is None:
            return  # what was measured last still holds
        values: dict[int, float] = {}
        if window_s:
            if self._metrics is None:
                self._metrics = Metrics(self._place.nvml, IDS)
            means = self._metrics.between(asked, device, activity.window.older, activity.window.newer)
            values = {number: mean for number, mean in zip(IDS, means, strict=False) if mean is not None}
        activity.take(values, window_s, _counted(device))
        device.kept["gpm-measures"] = SM in values  # otherwise utilization has to do
        device.active_ratio = values[SM] / 100 if SM in values else None


def _counted(device: Device) -> frozenset[str]:
    """Return the byte counters that the driver itself keeps of a GPU."""
    return device.kept.get("counted") or frozenset()
