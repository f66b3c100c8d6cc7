"""Who is who: driver, models, bus addresses, CPUs near each GPU, and the NVLink fabric that it has joined."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from typing import Any, ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from ._nvml_devices import Devices, devices
from ._nvml_inventory import Device
from ._nvml_states import States

FABRIC_STATES = ("not_started", "in_progress", "completed")
FABRIC = "skewscope_gpu_fabric_unhealthy"
# aspect -> (shift, width mask, answers that mean health); an answer of 0 means that nobody watches
ASPECTS = {
    "degraded_bandwidth": (0, 0x3, (2,)), "route_recovery": (2, 0x3, (2,)), "route_unhealthy": (4, 0x3, (2,)),
    "access_timeout": (6, 0x3, (2,)), "configuration": (8, 0xF, (1,)), "partition": (12, 0x3, (1,)),
    "manager": (14, 0x3, (1,)),
}  # fmt: skip
HEALTH_SINCE = 550  # the driver that first told the fabric's health; asking an older one in the new form may crash it
UNKNOWN_NODE = 0xFFFFFFFF


class NvmlInfo:
    """Asks for what does not change, and for what hardly does."""

    process: ClassVar[str] = "nvml"
    group: ClassVar[str] = "slow"
    exports: ClassVar[tuple[str, ...]] = (
        "skewscope_driver_info", "skewscope_gpu_info", "skewscope_gpu_fabric_state", FABRIC,
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self._place = place
        self._start = 0
        self._driver: tuple[str, str, str] = ("", "", "")
        self._words = (os.sysconf("SC_NPROCESSORS_CONF") + 63) // 64

    def collect(self) -> Iterable[Sample]:
        """Return info samples, and leave the GPUs on the board. Raises NoData where nothing is known of any."""
        asked = devices(self._place)
        listed = asked.listed()
        if self._start != asked.starts:
            self._driver, self._start = _driver(asked), asked.starts
        found: list[Sample] = [("skewscope_driver_info", self._driver, 1)] if any(self._driver) else []
        for device in listed:
            if device.handle is not None and "about" not in device.kept:
                self._learn(asked, device)
            about = device.totals.get("about")
            if about is not None:
                found.append(("skewscope_gpu_info", about["labels"], 1))
            found += self._fabric(asked, device)
        self._place.board["gpus"] = [_told(device) for device in asked.known if device.uuid]
        if not found:
            raise NoData("the driver tells nothing of itself or of any GPU")
        return found

    def _learn(self, asked: Devices, device: Device) -> None:
        """Ask a GPU about itself until it answers; what was known before stays as long as it does not."""
        about = self._about(asked, device)
        if about["model"] is not None:
            device.totals["about"] = device.kept["about"] = about
        else:
            device.totals.setdefault("about", about)

    def _about(self, asked: Devices, device: Device) -> dict[str, Any]:
        minor, module = asked.ask(device, "GetMinorNumber"), asked.ask(device, "GetModuleId")
        numa = self._numa(asked, device)
        model, vbios = asked.ask(device, "GetName"), asked.ask(device, "GetVbiosVersion")
        bus_id = device.pci_bus_id.lower()
        told = (bus_id, model, minor, module, numa, vbios)
        labels = (*device.labels, *("" if one is None else str(one) for one in told))
        words = asked.ask(device, "GetCpuAffinity", self._words)
        cpus = [64 * at + bit for at, word in enumerate(words or ()) for bit in range(64) if word >> bit & 1]
        return {"labels": labels, "model": model, "minor": minor, "numa": numa, "cpus": cpus}

    def _numa(self, asked: Devices, device: Device) -> int | None:
        """Return the NUMA node of a GPU's bus; the driver's own answer is of GPUs that are nodes themselves."""
        address = device.pci_bus_id.lower()[-12:]
        try:
            with open(f"{self._place.sys}/bus/pci/devices/{address}/numa_node", encoding="ascii") as file:
                node = int(file.read())
        except (OSError, ValueError):
            node = -1
        if node < 0:
            told = asked.ask(device, "GetNumaNodeId")
            node = -1 if told is None or told == UNKNOWN_NODE else int(told)
        return node if node >= 0 else None

    def _fabric(self, asked: Devices, device: Device) -> list[Sample]:
        if device.handle is None:
            return []
        known = "fabric" in device.kept
        info = device.kept["fabric"] if known else self._fabric_form()
        device.kept["fabric"] = info
        if info is None:
            return []
        call = "GetGpuFabricInfoV" if hasattr(info, "healthMask") else "GetGpuFabricInfo"
        if not asked.ask_into(device, call, (), ctypes.byref(info)) or not 1 <= info.state <= len(FABRIC_STATES):
            return []
        states = device.kept.get("fabric-states")
        if states is None:
            states = device.kept["fabric-states"] = States("skewscope_gpu_fabric_state", device.labels, FABRIC_STATES)
        found: list[Sample] = list(states.only(FABRIC_STATES[info.state - 1]))
        if call == "GetGpuFabricInfoV":
            found += _unhealthy(device, info.healthMask)
        return found

    def _fabric_form(self) -> Any:  # noqa: ANN401 - a structure of the wrapper
        """Return an empty answer in the newest form that the driver knows."""
        major = self._driver[0].partition(".")[0]
        recent = major.isdecimal() and int(major) >= HEALTH_SINCE
        form = getattr(self._place.nvml, "c_nvmlGpuFabricInfo_v2_t" if recent else "c_nvmlGpuFabricInfo_t", None)
        return form() if form else None


def _driver(asked: Devices) -> tuple[str, str, str]:
    found = []
    for call in ("SystemGetDriverVersion", "SystemGetNVMLVersion", "SystemGetCudaDriverVersion_v2"):
        try:
            found.append(asked.calls.run(-1, call))
        except asked.calls.error:
            found.append("")
    driver, nvml, cuda = found
    return str(driver), str(nvml), f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else ""


def _unhealthy(device: Device, mask: int) -> Iterable[Sample]:
    for aspect, (shift, width, healthy) in ASPECTS.items():
        answer = mask >> shift & width
        if answer:
            yield FABRIC, (*device.labels, aspect), int(answer not in healthy)


def _told(device: Device) -> dict[str, Any]:
    """Return what other collectors may want to know of a GPU; -1 is unknown."""
    about = device.totals.get("about")
    if about is None and "told" in device.totals:  # one that this process may not touch
        return dict(device.totals["told"])
    about = about or {"minor": None, "numa": None, "cpus": []}
    return {
        "slot": device.slot, "uuid": device.uuid, "pci_bus_id": device.pci_bus_id, "cpus": about["cpus"],
        "numa": -1 if about["numa"] is None else about["numa"],
        "minor": -1 if about["minor"] is None else about["minor"],
    }  # fmt: skip
