"""What the driver reports by itself: XID errors by code, and other events of a GPU's health."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from ._nvml_calls import TIMEOUT, code_of
from ._nvml_devices import Devices, devices
from ._nvml_inventory import Device

XID = 0x8
EVENTS = {
    0x2: "double_bit_ecc", 0x200: "sbe_storm", 0x400: "dram_retirement", 0x800: "dram_retirement_failure",
    0x1000: "nonfatal_poison", 0x2000: "fatal_poison", 0x4000: "unavailable", 0x8000: "recovery_action",
    0x10: "clock", 0x80: "power_source",
}  # fmt: skip
WANTED = XID | sum(EVENTS)
MOST_A_TURN = 256  # a storm of events must not keep the driver's process busy
MOST_CODES = 64


class Heard:
    """The events of one GPU since the agent began; `told` is how `kept` left them on the board."""

    def __init__(self, told: Mapping[str, Any] | None = None) -> None:
        told = told or {}
        self.events: dict[str, int] = dict(told.get("events", {}))
        self.xids: dict[str, tuple[int, float]] = {  # code -> (count, last, Unix s)
            code: (count, last_s) for code, (count, last_s) in told.get("xids", {}).items()
        }

    def kept(self) -> dict[str, Any]:
        """Return plain values of JSON."""
        return {"events": dict(self.events), "xids": {code: list(xid) for code, xid in self.xids.items()}}


class NvmlEvents:
    """Keeps one event set for all GPUs and empties it each turn, without waiting.

    The counts stand on the board as `gpu-events`: they outlive the driver's process, which may be killed after an XID.
    """

    process: ClassVar[str] = "nvml"
    group: ClassVar[str] = "fast"
    exports: ClassVar[tuple[str, ...]] = (
        "skewscope_gpu_xid_errors_total", "skewscope_gpu_xid_last_timestamp_seconds", "skewscope_gpu_events_total",
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self._place = place
        self._set: Any = None
        self._start = 0  # the start of NVML that the set belongs to
        self._by_handle: dict[int, Device] = {}

    def collect(self) -> Iterable[Sample]:
        """Return counts since the agent began. Raises NoData where no GPU delivers events."""
        asked = devices(self._place)
        listed = asked.listed()
        if self._start != asked.starts:
            self._set, self._start, self._by_handle = None, asked.starts, {}
        for device in listed:
            if device.handle is not None and "events" not in device.kept:
                self._register(asked, device)
        if self._set is not None and self._drain(asked):
            self._place.board["gpu-events"] = {one.uuid: _heard(self._place, one).kept() for one in asked.known}
        found: list[Sample] = []
        for device in asked.known:  # what a GPU told before it hung stays true
            found += _samples(device, _heard(self._place, device))
        if not self._by_handle and not found:
            raise NoData("no GPU here delivers events")
        return found

    def _register(self, asked: Devices, device: Device) -> None:
        types = asked.ask(device, "GetSupportedEventTypes")
        if types is None:
            return
        device.kept["events"] = types & WANTED
        if not types & WANTED:
            return
        try:
            if self._set is None:
                self._set = asked.calls.run(-1, "EventSetCreate")
            asked.calls.run(device.slot, "DeviceRegisterEvents", device.handle, types & WANTED, self._set)
        except asked.calls.error as error:
            asked.failed(device, ("RegisterEvents",), code_of(error))
            return
        heard = _heard(self._place, device)
        for bit, name in EVENTS.items():
            if types & bit:
                heard.events.setdefault(name, 0)
        self._by_handle[_address(device.handle)] = device

    def _drain(self, asked: Devices) -> bool:
        """Take what the driver has to tell; False where that is nothing."""
        for turn in range(MOST_A_TURN):
            try:
                event = asked.calls.run(-1, "EventSetWait_v2", self._set, 0)
            except asked.calls.error as error:
                if code_of(error) != TIMEOUT:
                    self._forget(asked)
                return turn > 0
            device = self._by_handle.get(_address(event.device))
            if device is not None:
                self._take(_heard(self._place, device), event.eventType, event.eventData)
        return True

    def _forget(self, asked: Devices) -> None:
        """Give up the set: the next turn makes one without the GPU that spoilt it."""
        try:
            asked.calls.run(-1, "EventSetFree", self._set)
        except asked.calls.error:
            pass  # nothing to free then
        self._set, self._by_handle = None, {}
        for device in asked.known:
            device.kept.pop("events", None)

    def _take(self, heard: Heard, kind: int, data: int) -> None:
        if kind == XID:
            code = str(data)
            if code in heard.xids or len(heard.xids) < MOST_CODES:
                heard.xids[code] = (heard.xids.get(code, (0, 0.0))[0] + 1, round(self._place.now_s(), 3))
        elif kind in EVENTS:
            heard.events[EVENTS[kind]] = heard.events.get(EVENTS[kind], 0) + 1


def _heard(place: Place, device: Device) -> Heard:
    found: Heard | None = device.totals.get("events")
    if found is None:
        told = (place.board.get("gpu-events") or {}).get(device.uuid)
        found = device.totals["events"] = Heard(told)
    return found


def _samples(device: Device, heard: Heard) -> Iterable[Sample]:
    gpu, uuid = device.labels
    for code, (count, last_s) in heard.xids.items():
        yield "skewscope_gpu_xid_errors_total", (gpu, uuid, code, "nvml"), count
        yield "skewscope_gpu_xid_last_timestamp_seconds", (gpu, uuid, code), last_s
    for name, count in heard.events.items():
        yield "skewscope_gpu_events_total", (gpu, uuid, name), count


def _address(handle: Any) -> int:  # noqa: ANN401 - a pointer of ctypes
    from ctypes import c_void_p, cast

    return cast(handle, c_void_p).value or 0
