"""What each RDMA port is, and how near it stands to each GPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from . import _sysfs, _sysfs_net, _sysfs_pci

INFO, AFFINITY = "skewscope_rdma_info", "skewscope_gpu_nic_affinity_info"


class RdmaInfo:
    """Reads names and places; GPUs come from `board["gpus"]`."""

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "slow"
    exports: ClassVar[tuple[str, ...]] = (INFO, AFFINITY)

    def __init__(self, place: Place) -> None:
        self._sys = str(place.sys)
        self._board = place.board

    def collect(self) -> Iterable[Sample]:
        """Return one sample a port, and one a pair of GPU and device."""
        folder = f"{self._sys}/class/infiniband"
        devices = _sysfs.names(folder)
        if not devices:
            raise NoData(f"there is no RDMA device in {folder}")
        return [*self._ports(folder, devices), *self._pairs(folder, devices)]

    def _ports(self, folder: str, devices: list[str]) -> Iterator[Sample]:
        for device in devices:
            place = f"{folder}/{device}"
            firmware, board = _sysfs.text(f"{place}/fw_ver"), _sysfs.text(f"{place}/board_id")
            numa, way = _sysfs_pci.numa_node(f"{place}/device"), _sysfs_pci.chain(place)
            for port in _sysfs.names(f"{place}/ports"):
                interface = _sysfs_net.interface_of(self._sys, device, port)
                layer = _sysfs.text(f"{place}/ports/{port}/link_layer")
                yield INFO, (device, port, interface, layer, firmware, board, numa, way[-1] if len(way) > 1 else ""), 1

    def _pairs(self, folder: str, devices: list[str]) -> Iterator[Sample]:
        nics = [
            (device, _sysfs_pci.chain(f"{folder}/{device}"), _sysfs_pci.numa_node(f"{folder}/{device}/device"))
            for device in devices
        ]
        for slot, uuid, address in _gpus(self._board.get("gpus")):
            gpu = f"{self._sys}/bus/pci/devices/{address}"
            way, numa = _sysfs_pci.chain(gpu), _sysfs_pci.numa_node(gpu)
            for device, nic_way, nic_numa in nics:
                if way and nic_way:
                    yield AFFINITY, (slot, uuid, device, _sysfs_pci.level(way, nic_way, numa, nic_numa)), 1


def _gpus(listed: Any) -> Iterator[tuple[str, str, str]]:  # noqa: ANN401 - what another collector left
    for gpu in listed or ():
        if gpu.get("uuid") and gpu.get("pci_bus_id"):
            yield str(gpu.get("slot", "")), str(gpu["uuid"]), _sysfs_pci.address(str(gpu["pci_bus_id"]))
