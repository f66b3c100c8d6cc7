"""What drivers of network interfaces count: pauses, congestion marks, errors of the wire, stalls of PCIe.

The driver asks its firmware for these, which takes milliseconds and, where firmware refuses, a line in the kernel log
each time. So they come in the slow group, and an interface that fails is left alone for longer and longer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from . import _sysfs_net

PAUSES, PAUSED = "skewscope_nic_pause_frames_total", "skewscope_nic_pause_seconds_total"
MARKED, ERRORS = "skewscope_nic_ecn_marked_packets_total", "skewscope_nic_errors_total"
STALLED = "skewscope_nic_pcie_stalled_seconds_total"
WAYS = {"rx": "receive", "tx": "transmit", "rd": "read", "wr": "write"}
FIRST_WAIT_S, LONGEST_WAIT_S = 60.0, 3600.0

Meaning = tuple[str, tuple[str, ...], float]  # metric, labels after device and port, scale


class Statistics(Protocol):
    """What is asked of the kernel; each raises OSError."""

    def count(self, interface: str) -> int:
        """Return how many statistics an interface has."""

    def names(self, interface: str, count: int) -> list[str]:
        """Return their names."""

    def values(self, interface: str, count: int) -> Sequence[int]:
        """Return their values in the order of the names."""


class Ioctl:
    """Asks through the ioctl SIOCETHTOOL, which needs no privilege for statistics."""

    SIOCETHTOOL = 0x8946
    GET_STRINGS, GET_STATS, GET_SET_INFO = 0x1B, 0x1D, 0x37
    STATS, NAME_BYTES = 1, 32
    # The kernel writes as many entries as the driver has at that moment, whatever was asked for.
    SPARE_ENTRIES = 4096

    def __init__(self) -> None:
        self._descriptor = -1

    def count(self, interface: str) -> int:
        """Return how many statistics an interface has."""
        answer = self._ask(interface, "=IIQI", (self.GET_SET_INFO, 0, 1 << self.STATS, 0), 0)
        mask, count = answer[8:16].cast("Q")[0], answer[16:20].cast("I")[0]
        return count if mask else 0

    def names(self, interface: str, count: int) -> list[str]:
        """Return the names of the statistics."""
        spare = (count + self.SPARE_ENTRIES) * self.NAME_BYTES
        answer = self._ask(interface, "=III", (self.GET_STRINGS, self.STATS, count), spare)
        cells = (bytes(answer[at : at + self.NAME_BYTES]) for at in range(12, 12 + count * self.NAME_BYTES, 32))
        return [cell.partition(b"\0")[0].decode("ascii", "replace") for cell in cells]

    def values(self, interface: str, count: int) -> Sequence[int]:
        """Return the values of the statistics."""
        answer = self._ask(interface, "=II", (self.GET_STATS, count), (count + self.SPARE_ENTRIES) * 8)
        if answer[4:8].cast("I")[0] != count:
            raise OSError(f"{interface} changed its statistics while they were read")
        return answer[8 : 8 + count * 8].cast("Q")

    def _ask(self, interface: str, form: str, request: tuple[int, ...], spare_bytes: int) -> memoryview:
        import fcntl
        import struct
        from array import array

        buffer = array("B", struct.pack(form, *request) + bytes(spare_bytes + 4))
        name = interface.encode()
        if len(name) > 15:
            raise OSError(f"{interface} is too long for an interface")
        asked = struct.pack("16sP16x", name, buffer.buffer_info()[0])
        fcntl.ioctl(self._socket(), self.SIOCETHTOOL, asked)
        return memoryview(buffer)

    def _socket(self) -> int:
        if self._descriptor < 0:
            import socket

            self._descriptor = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC).detach()
        return self._descriptor

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


@dataclass
class _Known:
    """What is known of one interface; `device` tells when another one took its name."""

    device: str
    labels: tuple[str, str]  # device and port; the RDMA device may come later than the interface
    count: int = -1
    plan: list[tuple[int, str, tuple[str, ...], float]] = field(default_factory=list)
    wire: tuple[int, int] | None = None  # where packets of the wire and of the host stand
    until_s: float = float("-inf")
    wait_s: float = FIRST_WAIT_S
    fault: str = ""

    def leave_alone(self, now_s: float, fault: str) -> None:
        """Do not ask again before some time, which doubles."""
        self.until_s, self.wait_s = now_s + self.wait_s, min(2 * self.wait_s, LONGEST_WAIT_S)
        self.count, self.fault = -1, fault


class Ethtool:
    """Reads what is of use among the hundreds of statistics of a driver."""

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "slow"
    exports: ClassVar[tuple[str, ...]] = (PAUSES, PAUSED, MARKED, ERRORS, STALLED)

    def __init__(self, place: Place, statistics: Statistics | None = None) -> None:
        self._sys = str(place.sys)
        self._clock_s = place.clock_s
        self._statistics = statistics or Ioctl()
        self._known: dict[str, _Known] = {}

    def collect(self) -> Iterable[Sample]:
        """Return the statistics of all interfaces that are not left alone."""
        interfaces = _sysfs_net.interfaces(self._sys)
        ports = _sysfs_net.ports(self._sys)
        self._known = {name: self._still(name, _sysfs_net.port_labels(self._sys, name, ports)) for name in interfaces}
        samples: list[Sample] = []
        for name, known in self._known.items():
            if self._clock_s() < known.until_s:
                continue
            try:
                samples += self._read(name, known)
            except OSError as error:
                known.leave_alone(self._clock_s(), f"{name}: {error.strerror or error}")
        if not samples:
            faults = [known.fault for known in self._known.values() if known.fault]
            raise NoData("; ".join(faults) or "no driver here has statistics of use")
        return samples

    def _still(self, name: str, labels: tuple[str, str]) -> _Known:
        device = os.path.realpath(f"{self._sys}/class/net/{name}/device")
        known = self._known.get(name)
        return known if known and (known.device, known.labels) == (device, labels) else _Known(device, labels)

    def _read(self, name: str, known: _Known) -> list[Sample]:
        count = self._statistics.count(name)
        if count != known.count:
            self._learn(known, self._statistics.names(name, count) if count else [])
            known.count = count
        if not known.plan:
            known.until_s = self._clock_s() + LONGEST_WAIT_S
            return []
        values = self._statistics.values(name, count)
        if known.wire and values[known.wire[0]] == 0 < values[known.wire[1]]:
            raise OSError("its firmware keeps the counters of the wire to itself")  # they read as 0, which is untrue
        known.wait_s, known.fault = FIRST_WAIT_S, ""
        return [(metric, every, values[at] * scale) for at, metric, every, scale in known.plan]

    @staticmethod
    def _learn(known: _Known, names: list[str]) -> None:
        meanings = ((at, meaning(name)) for at, name in enumerate(names))
        known.plan = [(at, found[0], (*known.labels, *found[1]), found[2]) for at, found in meanings if found]
        both = ("rx_packets_phy", "rx_packets")
        known.wire = (names.index(both[0]), names.index(both[1])) if set(both) <= set(names) else None


# fmt: off
_ERRORS = {
    "rx_pcs_symbol_err_phy": "pcs_symbol", "rx_corrected_bits_phy": "corrected_bits", "rx_crc_errors_phy": "crc",
    "rx_discards_phy": "discard", "outbound_pci_buffer_overflow": "pcie_buffer_overflow",
    "rx_pci_signal_integrity": "pcie_signal_receive", "tx_pci_signal_integrity": "pcie_signal_transmit",
    "tx_pause_storm_warning_events": "pause_storm_warning", "tx_pause_storm_error_events": "pause_storm",
    "link_down_events_phy": "link_down",
}
_FORMS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Meaning]], ...] = (
    # mlx5 names only priorities that may be paused; "global" where pauses know no priority
    (re.compile(r"([rt]x)_(?:prio(\d)|(global))_pause"), lambda hit: (PAUSES, (hit[2] or hit[3], WAYS[hit[1]]), 1)),
    (re.compile(r"([rt]x)_(?:prio(\d)|(global))_pause_duration"),
     lambda hit: (PAUSED, (hit[2] or hit[3], WAYS[hit[1]]), 1e-6)),
    (re.compile(r"([rt]x)_pfc_ena_frames_pri(\d)"), lambda hit: (PAUSES, (hit[2], WAYS[hit[1]]), 1)),  # bnxt_en
    (re.compile(r"([rt]x)_priority_(\d)_xoff(?:\.nic)?"), lambda hit: (PAUSES, (hit[2], WAYS[hit[1]]), 1)),  # ice
    (re.compile(r"rx_prio(\d)_marked"), lambda hit: (MARKED, (hit[1],), 1)),
    (re.compile(r"outbound_pci_stalled_(rd|wr)_events"), lambda hit: (STALLED, (WAYS[hit[1]],), 1)),
)
# fmt: on


def meaning(name: str) -> Meaning | None:
    """Return what a statistic is exported as, None for the many that are not.

    >>> meaning("rx_prio3_pause_duration")
    ('skewscope_nic_pause_seconds_total', ('3', 'receive'), 1e-06)
    """
    if name in _ERRORS:
        return ERRORS, (_ERRORS[name],), 1
    for form, made in _FORMS:
        hit = form.fullmatch(name)
        if hit:
            return made(hit)
    return None
