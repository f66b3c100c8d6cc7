"""TCP of the whole node: segments, retransmissions, timeouts and drops, from /proc/net/snmp and /proc/net/netstat."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from . import _proc

CONNECTIONS, OPENED, LOST = (
    f"skewscope_tcp_{what}" for what in ("connections", "opened_connections_total", "lost_connections_total")
)
SEGMENTS, AGAIN = "skewscope_tcp_segments_total", "skewscope_tcp_retransmitted_segments_total"
CAUSES, TIMEOUTS = "skewscope_tcp_retransmissions_total", "skewscope_tcp_timeouts_total"
DUPLICATES = "skewscope_tcp_duplicate_segments_total"
DROPS, ERRORS = "skewscope_tcp_drops_total", "skewscope_tcp_receive_errors_total"
MOST_BYTES = 1 << 15

Columns = Mapping[str, tuple[str, tuple[str, ...]]]
# fmt: off
SNMP: Columns = {
    "CurrEstab": (CONNECTIONS, ()),
    "ActiveOpens": (OPENED, ("outgoing",)), "PassiveOpens": (OPENED, ("incoming",)),
    "AttemptFails": (LOST, ("not_opened",)), "EstabResets": (LOST, ("reset",)),
    "OutSegs": (SEGMENTS, ("transmit",)), "InSegs": (SEGMENTS, ("receive",)),
    "RetransSegs": (AGAIN, ()), "InErrs": (ERRORS, ()),
}
NETSTAT: Columns = {
    "TCPFastRetrans": (CAUSES, ("fast",)), "TCPSlowStartRetrans": (CAUSES, ("slow_start",)),
    "TCPLostRetransmit": (CAUSES, ("lost_again",)), "TCPLossProbes": (CAUSES, ("loss_probe",)),
    "TCPSynRetrans": (CAUSES, ("syn",)),
    "TCPDSACKOldSent": (DUPLICATES, ()), "TCPTimeouts": (TIMEOUTS, ()), "TCPAbortOnTimeout": (LOST, ("timeout",)),
    "ListenOverflows": (DROPS, ("accept_queue_full",)), "ListenDrops": (DROPS, ("listen",)),
    "TCPBacklogDrop": (DROPS, ("backlog",)), "TCPRcvQDrop": (DROPS, ("receive_queue",)),
    "TCPOFODrop": (DROPS, ("out_of_order",)), "TCPZeroWindowDrop": (DROPS, ("zero_window",)),
}
# fmt: on


class Tcp:
    """Reads the counters of the network namespace that the agent runs in."""

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "fast"
    exports: ClassVar[tuple[str, ...]] = (
        CONNECTIONS, OPENED, LOST, SEGMENTS, AGAIN, CAUSES, DUPLICATES, TIMEOUTS, DROPS, ERRORS,
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self._folder = f"{place.proc}/net"
        self._rows = (
            _Row(f"{self._folder}/snmp", b"Tcp:", SNMP),
            _Row(f"{self._folder}/netstat", b"TcpExt:", NETSTAT),
        )

    def collect(self) -> Iterable[Sample]:
        """Return all counters that this kernel has."""
        samples: list[Sample] = []
        fault: ValueError | None = None
        for row in self._rows:
            try:
                samples += row.samples()
            except ValueError as error:  # one file in another form must not hide the other
                fault = error
        if samples:
            return samples
        if not any(os.path.exists(row.path) for row in self._rows):
            raise NoData(f"there are no statistics of TCP in {self._folder}")
        raise fault or OSError(f"the statistics of TCP in {self._folder} cannot be read")


class _Row:
    """One pair of lines, names and numbers, that begin with the same word."""

    def __init__(self, path: str, prefix: bytes, columns: Columns) -> None:
        self.path = path
        self._file = _proc.Kept(path, MOST_BYTES)
        self._prefix = prefix
        self._columns = columns
        self._header = b""
        self._plan: list[tuple[int, str, tuple[str, ...]]] = []

    def samples(self) -> list[Sample]:
        raw = self._file.read()
        if not raw:
            return []
        rows = [line for line in raw.splitlines() if line.startswith(self._prefix)]
        if len(rows) < 2:
            raise ValueError(f"{self.path} has no pair of lines {self._prefix.decode()}")
        if rows[0] != self._header:
            self._learn(rows[0])
        numbers = rows[1].split()
        return [(metric, labels, int(numbers[at])) for at, metric, labels in self._plan if at < len(numbers)]

    def _learn(self, header: bytes) -> None:
        places = {name: at for at, name in enumerate(header.decode("ascii", "replace").split())}
        self._plan = [(places[name], *where) for name, where in self._columns.items() if name in places]
        self._header = header
