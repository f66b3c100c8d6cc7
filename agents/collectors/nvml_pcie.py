"""The PCIe link of each GPU: its generation and width, and how often it erred."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from ._nvml_batch import Batch, Field
from ._nvml_devices import Devices, devices
from ._nvml_inventory import Device

GENERATION, WIDTH = "skewscope_gpu_pcie_link_generation", "skewscope_gpu_pcie_link_width_lanes"
REPLAYS, RECOVERIES = "skewscope_gpu_pcie_replays_total", "skewscope_gpu_pcie_recovery_entries_total"
ERRORS = "skewscope_gpu_pcie_errors_total"
# fmt: off
FIELDS: dict[Field, tuple[str, tuple[str, ...]]] = {
    (94, 0): (REPLAYS, ()), (169, 0): (RECOVERIES, ()),
    (173, 0): (ERRORS, ("correctable",)), (179, 0): (ERRORS, ("nonfatal",)), (180, 0): (ERRORS, ("fatal",)),
    (176, 0): (ERRORS, ("bad_tlp",)), (178, 0): (ERRORS, ("bad_dllp",)), (175, 0): (ERRORS, ("receiver",)),
    (182, 0): (ERRORS, ("lcrc",)), (183, 0): (ERRORS, ("lane",)), (177, 0): (ERRORS, ("naks_sent",)),
    (174, 0): (ERRORS, ("naks_received",)), (181, 0): (ERRORS, ("unsupported_request",)),
}
# fmt: on
NOW = ((GENERATION, "GetCurrPcieLinkGeneration"), (WIDTH, "GetCurrPcieLinkWidth"))
MOST = ((GENERATION, "GetMaxPcieLinkGeneration"), (WIDTH, "GetMaxPcieLinkWidth"))


class Link:
    """What is asked of one GPU's link, with the labels of the answers."""

    def __init__(self, asked: Devices, device: Device) -> None:
        self.batch = Batch(asked, device, FIELDS)
        self.series = [(FIELDS[field][0], (*device.labels, *FIELDS[field][1])) for field in self.batch.fields]
        self.counts_replays = (94, 0) in self.batch.fields
        self.now = [(metric, (*device.labels, "current"), call) for metric, call in NOW]
        self.most: list[Sample] = []  # does not change while the handle is good
        for metric, call in MOST:
            lanes = asked.ask(device, call)
            if lanes is not None:
                self.most.append((metric, (*device.labels, "max"), lanes))


class NvmlPcie:
    """Asks for the link of each GPU each second: a drop of lanes must show at once."""

    process: ClassVar[str] = "nvml"
    group: ClassVar[str] = "fast"
    exports: ClassVar[tuple[str, ...]] = (GENERATION, WIDTH, REPLAYS, RECOVERIES, ERRORS)

    def __init__(self, place: Place) -> None:
        self._place = place

    def collect(self) -> Iterable[Sample]:
        """Return the samples of now. Raises NoData where no GPU tells of its link."""
        asked = devices(self._place)
        found: list[Sample] = []
        ready = asked.ready()
        for device in ready:
            link: Link | None = device.kept.get("pcie")
            if link is None or link.batch.stale():
                link = Link(asked, device)
                if link.batch.good:
                    device.kept["pcie"] = link
            self._read(asked, device, link, found)
        if not found and ready:
            raise NoData("no GPU here tells of its PCIe link")
        return found

    def _read(self, asked: Devices, device: Device, link: Link, found: list[Sample]) -> None:
        for metric, labels, call in link.now:
            value = asked.number(device, call)
            if value is not None:
                found.append((metric, labels, value))
        found += link.most
        if not link.counts_replays:
            replays = asked.ask(device, "GetPcieReplayCounter")
            if replays is not None:
                found.append((REPLAYS, device.labels, replays))
        for (metric, series), count in zip(link.series, link.batch.read(), strict=False):
            if count is not None:
                found.append((metric, series, count))
