"""Network interfaces: traffic, errors, drops, link state and speed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from . import _sysfs, _sysfs_net
from ._sysfs import Source

SENT, RECEIVED = "skewscope_ethernet_transmit_bytes_total", "skewscope_ethernet_receive_bytes_total"
SENT_PACKETS, RECEIVED_PACKETS = (f"skewscope_ethernet_{way}_packets_total" for way in ("transmit", "receive"))
ERRORS, DROPS = "skewscope_ethernet_errors_total", "skewscope_ethernet_drops_total"
UP, CHANGES = "skewscope_ethernet_up", "skewscope_nic_carrier_changes_total"
SPEED, DUPLEX = "skewscope_ethernet_speed_bytes_per_second", "skewscope_ethernet_full_duplex"
UNSUPPORTED_MBITS = (-1, 0xFFFFFFFF)


class Ethernet:
    """Counts what interfaces carry.

    Speed is asked only after a link changed: drivers take a lock for it and ask firmware, which may refuse in the log.
    """

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "fast"
    exports: ClassVar[tuple[str, ...]] = (
        SENT, RECEIVED, SENT_PACKETS, RECEIVED_PACKETS, ERRORS, DROPS, UP, CHANGES, SPEED, DUPLEX,
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self._sys, self._proc = str(place.sys), place.proc
        self._watch = _sysfs.Watch(f"{place.sys}/class/net", place.clock_s)
        self._files = _sysfs.Files()
        self._interfaces: list[str] = []
        self._labels: dict[str, list[tuple[str, ...]]] = {}
        self._links: list[Sample] = []
        self._speeds: list[Sample] = []

    def collect(self) -> Iterable[Sample]:
        """Return traffic and link state of every interface."""
        if self._watch.due():
            self._scan()
        if not self._interfaces:
            raise NoData(f"there is no network interface in {self._watch.folder} but the loopback")
        links = self._files.samples()
        if links != self._links:
            self._links = links
            self._files.retry()  # the carrier cannot be read while an interface is switched off
            self._speeds = [
                sample for name in self._interfaces for sample in _speed(f"{self._watch.folder}/{name}", name)
            ]
        try:
            traffic = list(self._traffic())
        except (OSError, ValueError, AssertionError):
            if not links:
                raise
            traffic = []
        return [*traffic, *links, *self._speeds]

    def _scan(self) -> None:
        self._interfaces = _sysfs_net.interfaces(self._sys)
        self._files.follow(
            source for name in self._interfaces for source in _sources(f"{self._watch.folder}/{name}", name)
        )
        self._labels = {name: [(name,), (name, "transmit"), (name, "receive")] for name in self._interfaces}

    def _traffic(self) -> Iterator[Sample]:
        counted = counters(self._proc)
        for name, (alone, sent, received) in self._labels.items():
            now = counted.get(name)
            if now is None:
                continue
            yield SENT, alone, now.bytes_sent
            yield RECEIVED, alone, now.bytes_recv
            yield SENT_PACKETS, alone, now.packets_sent
            yield RECEIVED_PACKETS, alone, now.packets_recv
            yield ERRORS, sent, now.errout
            yield ERRORS, received, now.errin
            yield DROPS, sent, now.dropout
            yield DROPS, received, now.dropin


def counters(proc: Path) -> dict[str, Any]:
    """Return psutil's counters of each interface, read below `proc`."""
    import psutil

    before, psutil.PROCFS_PATH = psutil.PROCFS_PATH, str(proc)
    try:
        found: dict[str, Any] = psutil.net_io_counters(pernic=True, nowrap=False)
    finally:
        psutil.PROCFS_PATH = before
    return found


def _sources(folder: str, name: str) -> Iterator[Source]:
    yield Source(f"{folder}/operstate", UP, (name, "logical"), parse=_up)
    yield Source(f"{folder}/carrier", UP, (name, "physical"), parse=_carrier)  # EINVAL while it is switched off
    if os.path.exists(f"{folder}/carrier_changes"):
        yield Source(f"{folder}/carrier_changes", CHANGES, (name,))


def _up(raw: bytes) -> float | None:
    state = raw.strip()
    return None if state in (b"", b"unknown") else float(state == b"up")


def _carrier(raw: bytes) -> float:
    return float(int(raw) == 1)


def _speed(folder: str, name: str) -> Iterator[Sample]:
    mbits = _sysfs.text(f"{folder}/speed")  # EINVAL while the link is down, -1 where nobody knows
    if mbits.isdecimal() and int(mbits) not in UNSUPPORTED_MBITS:
        yield SPEED, (name,), int(mbits) * 1e6 / 8
    duplex = _sysfs.text(f"{folder}/duplex")
    if duplex in ("full", "half"):
        yield DUPLEX, (name,), float(duplex == "full")
