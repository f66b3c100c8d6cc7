"""Which GPUs there are, under names that stay.

NVML's own index moves when a GPU drops out, and handles change when the driver is loaded again. Here a GPU is known by
its UUID; its slot is its place in PCI order at the first inventory and is never given to another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ._nvml_calls import LOST, RESET_REQUIRED, Calls, code_of

OK_STATE, LOST_STATE, RESET_STATE, ERROR_STATE = "ok", "lost", "reset_required", "error"


@dataclass
class Device:
    """One GPU. `kept` holds what collectors prepared for its handle, `totals` what they count for the GPU itself."""

    slot: int
    uuid: str
    pci_bus_id: str
    handle: Any = None
    state: str = LOST_STATE
    labels: tuple[str, str] = ("", "")
    absent: dict[tuple[Any, ...], float] = field(default_factory=dict)  # call -> ask again at (monotonic s)
    kept: dict[str, Any] = field(default_factory=dict)
    totals: dict[str, Any] = field(default_factory=dict)
    wants_reset: bool = False
    active_ratio: float | None = None  # SM activity, where it can be measured

    def __post_init__(self) -> None:
        self.labels = (str(self.slot), self.uuid)

    def renew(self, handle: Any) -> None:  # noqa: ANN401 - opaque
        """Take a new handle, or None; what was learned through the old one is forgotten."""
        self.handle, self.state = handle, LOST_STATE if handle is None else OK_STATE
        self.kept, self.absent, self.wants_reset, self.active_ratio = {}, {}, False, None


class Inventory:
    """Slots and handles. `board["gpus"]` may tell what an earlier process knew, so that slots outlive it."""

    def __init__(self, calls: Calls, board: Mapping[str, Any]) -> None:
        self._calls, self._board = calls, board
        self.known: list[Device] = []

    def take(self, count: int, without: frozenset[int]) -> None:
        """Find handles for all GPUs; known ones keep their slots, new ones get free slots."""
        if not self.known:
            self.known = _handed_on(self._board.get("gpus"))
        found, broken = self._found(count, without)
        by_uuid = {device.uuid: device for device in self.known if device.uuid}
        self.known = list(by_uuid.values())
        fresh = [one for one in found if one[2] not in by_uuid]
        in_order = len(fresh) == count  # all are new and can be read: their order is that of PCI
        for rank, (index, handle, uuid, bus_id) in enumerate(sorted(fresh, key=_by_bus) if in_order else fresh):
            wanted = rank if in_order else index
            by_uuid[uuid] = device = Device(self._free(wanted), uuid, bus_id, handle, OK_STATE)
            self.known.append(device)
        listed = {uuid: handle for _, handle, uuid, _ in found}
        for device in self.known:
            if device.uuid not in listed and device.slot not in without:
                device.renew(None)
            elif device.handle is None and device.uuid in listed:
                device.renew(listed[device.uuid])
        for index, state in broken.items():
            if len(self.known) < count:  # otherwise it is one that has a slot already
                self.known.append(Device(self._free(index), "", "", None, state))
        self.known.sort(key=lambda device: device.slot)

    def _found(self, count: int, without: frozenset[int]) -> tuple[list[tuple[int, Any, str, str]], dict[int, str]]:
        """Return (index, handle, UUID, PCI bus id) of what can be read, and {index: state} of what cannot."""
        found, broken = [], {}
        for index, slot, call, argument in self._ways(count, without):
            try:
                handle = self._calls.run(slot, call, argument)
                uuid = str(self._calls.run(slot, "GetUUID", handle))
                bus_id = str(self._calls.run(slot, "GetPciInfo", handle).busId)
            except self._calls.error as error:
                code = code_of(error)
                broken[index] = LOST_STATE if code in LOST else RESET_STATE if code == RESET_REQUIRED else ERROR_STATE
                continue
            found.append((index, handle, uuid, bus_id))
        return found, broken

    def _ways(self, count: int, without: frozenset[int]) -> Iterator[tuple[int, int, str, Any]]:
        """Yield how each GPU can be reached without touching those that hang: (index, slot, call, argument)."""
        addressed = [device for device in self.known if device.pci_bus_id]
        if without and addressed:
            for device in addressed:
                if device.slot not in without:
                    yield device.slot, device.slot, "DeviceGetHandleByPciBusId", device.pci_bus_id
            return
        slots = [device.slot for device in self.known] if len(self.known) == count else list(range(count))
        for index in range(count):
            if slots[index] not in without:
                yield index, slots[index], "DeviceGetHandleByIndex", index

    def _free(self, wanted: int) -> int:
        taken = {device.slot for device in self.known}
        return wanted if wanted not in taken else next(slot for slot in range(len(taken) + 1) if slot not in taken)


def _by_bus(one: tuple[int, Any, str, str]) -> str:
    return one[3].lower()


def _handed_on(gpus: Any) -> list[Device]:  # noqa: ANN401 - as it stood on the board of an earlier process
    """Return what an earlier process knew, so that slots outlive it."""
    known = [(gpu, Device(int(gpu["slot"]), str(gpu["uuid"]), str(gpu["pci_bus_id"]))) for gpu in gpus or ()]
    for gpu, device in known:
        device.totals["told"] = gpu
    return [device for _, device in known if device.uuid]
