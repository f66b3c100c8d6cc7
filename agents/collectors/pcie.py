"""PCIe links of NICs, GPUs and the bridges above them: width, speed and AER errors, from /sys/bus/pci/devices."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from . import _sysfs, _sysfs_pci
from ._sysfs import Source

WIDTH, SPEED = "skewscope_pcie_link_width_lanes", "skewscope_pcie_link_transfers_per_second"
AER, GPUS = "skewscope_pcie_aer_errors_total", "skewscope_gpu_devices"
SEVERITIES = ("correctable", "nonfatal", "fatal")
NVIDIA, DISPLAY, NETWORK = "0x10de", "0x03", "0x02"  # vendor, and the first byte of the class
WATCHED = ("gpu", "nic")
WIDEST_LANES = 32
EXPECTED = "gpus.expected"
ERRORS_EVERY_S = 4.5  # three files a device, of several lines each: they are most of the work


class Pcie:
    """Watches the links that carry a job's bytes. Errors count at both ends: often only the bridge logs them."""

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "fast"
    exports: ClassVar[tuple[str, ...]] = (GPUS, WIDTH, SPEED, AER)

    def __init__(self, place: Place) -> None:
        self._options = place.options
        self._folder = f"{place.sys}/bus/pci/devices"
        self._clock_s = place.clock_s
        self._next_s = float("-inf")
        self._kinds: dict[str, str] = {}  # address -> "gpu", "nic", "other", or "" where it does not say
        self._gpu_folders: list[str] = []
        self._limits: list[Sample] = []
        self._links, self._errors = _sysfs.Files(), _sysfs.Files()
        self._errors_next_s = float("-inf")
        self._error_samples: list[Sample] = []

    def collect(self) -> Iterable[Sample]:
        """Return links and errors of now; the limits of links are read at a scan only."""
        wanted = _sysfs.expected(self._options, EXPECTED)
        now_s = self._clock_s()
        if now_s >= self._next_s or self._lost():
            self._next_s, self._errors_next_s = now_s + _sysfs.RESCAN_S, now_s
            self._scan()
        if not self._kinds and wanted is None:
            raise NoData(f"there is no PCI bus in {self._folder}")
        if now_s >= self._errors_next_s:
            self._errors_next_s = now_s + ERRORS_EVERY_S
            self._error_samples = self._errors.samples()
        samples = self._links.samples()
        samples += self._error_samples
        samples += self._limits
        if self._kinds:
            samples.append((GPUS, ("pci",), sum(map(os.path.exists, self._gpu_folders))))
        if wanted is not None:
            samples.append((GPUS, ("expected",), wanted))
        return samples

    def _scan(self) -> None:
        found = _sysfs.names(self._folder)
        if found == list(self._kinds) and not self._lost():
            return  # nothing came, went or fell silent
        self._kinds = {name: self._kinds.get(name) or self._kind(f"{self._folder}/{name}") for name in found}
        self._gpu_folders = [f"{self._folder}/{name}" for name in found if self._kinds[name] == "gpu"]
        roles: dict[str, str] = {}
        for name in found:
            if self._kinds[name] in WATCHED:
                roles[name] = "endpoint"
                way = _sysfs_pci.chain(f"{self._folder}/{name}")
                if len(way) > 2:  # below the host bridge stands another bridge
                    roles.setdefault(way[-2], "upstream")
        present = {name: set(_sysfs.names(f"{self._folder}/{name}")) for name in roles}
        sources = [
            source for name, role in roles.items() for source in _sources(f"{self._folder}/{name}", role, present[name])
        ]
        self._links.follow(source for source in sources if source.metric != AER)
        self._errors.follow(source for source in sources if source.metric == AER)
        self._limits = [sample for name in roles for sample in _limits(f"{self._folder}/{name}", present[name])]

    def _lost(self) -> bool:
        return self._links.lost or self._errors.lost

    def _kind(self, folder: str) -> str:
        kind = _sysfs.text(f"{folder}/class")[:4]
        if not kind:
            return ""
        if kind == DISPLAY and _sysfs.text(f"{folder}/vendor") == NVIDIA:
            return "gpu"
        return "nic" if kind == NETWORK and not os.path.exists(f"{folder}/physfn") else "other"


def _sources(folder: str, role: str, present: set[str]) -> Iterator[Source]:
    name = os.path.basename(folder)
    if "current_link_width" in present:
        yield Source(f"{folder}/current_link_width", WIDTH, (name, "current"), parse=width_lanes)
    if "current_link_speed" in present:
        yield Source(f"{folder}/current_link_speed", SPEED, (name, "current"), parse=transfers_per_second)
    for severity in SEVERITIES:
        if f"aer_dev_{severity}" in present:
            file, most_bytes = f"{folder}/aer_dev_{severity}", _sysfs.MOST_BYTES
            yield Source(file, AER, (name, role, severity), parse=errors, most_bytes=most_bytes)


def _limits(folder: str, present: set[str]) -> Iterator[Sample]:
    name = os.path.basename(folder)
    for file, metric, parse in (
        ("max_link_width", WIDTH, width_lanes),
        ("max_link_speed", SPEED, transfers_per_second),
    ):
        if file in present:
            try:
                value = parse(_sysfs.text(f"{folder}/{file}").encode())
            except ValueError:
                continue
            if value is not None:
                yield metric, (name, "max"), value


def width_lanes(raw: bytes) -> float | None:
    """Return the lanes of a link; a device that does not answer reads as all ones, which is none.

    >>> width_lanes(b"16"), width_lanes(b"63")
    (16, None)
    """
    lanes = int(raw)
    return lanes if 0 <= lanes <= WIDEST_LANES else None


def transfers_per_second(raw: bytes) -> float | None:
    """Return transfers a second on each lane, None where the link says "Unknown".

    >>> transfers_per_second(b"32.0 GT/s PCIe"), transfers_per_second(b"Unknown")
    (32000000000.0, None)
    """
    if raw.startswith(b"Unknown"):
        return None
    number, unit = raw.split(maxsplit=2)[:2]
    if unit != b"GT/s":
        raise ValueError(f"{raw!r} is no speed in GT/s")
    return float(number) * 1e9


def errors(raw: bytes) -> float:
    r"""Return the total of an AER file: its last line where that is one, else the sum of its lines.

    >>> errors(b"RxErr 1\nBadTLP 2\nTOTAL_ERR_COR 3\n"), errors(b"RxErr 1\nBadTLP 2\n")
    (3, 3)
    """
    rows = [line.split() for line in raw.splitlines() if line.strip()]
    if not rows:
        raise ValueError("an AER file without lines")
    if rows[-1][0].startswith(b"TOTAL"):
        return int(rows[-1][-1])
    return sum(int(row[-1]) for row in rows)
