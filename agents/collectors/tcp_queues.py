"""What waits in the send queues of the node's TCP connections, from /proc/net/tcp and /proc/net/tcp6.

The kernel keeps little below a socket (TCP small queues), so what the host cannot send piles up here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from . import _proc

QUEUED, LONGEST = "skewscope_tcp_send_queue_bytes", "skewscope_tcp_send_queue_max_bytes"
EVERY_S, MOST_SHARE = 10.0, 0.002  # a long list takes its time: seldom, and little of a processor
MOST_BYTES = 4 << 20  # of a file: some 28,000 connections; what comes after them is not looked at
SENDING = (b"01", b"04", b"08", b"09", b"0B")  # established, and those that close with something left to send


class TcpQueues:
    """Reads the connections of the network namespace that the agent runs in."""

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "fast"
    exports: ClassVar[tuple[str, ...]] = (QUEUED, LONGEST)

    def __init__(self, place: Place) -> None:
        self._paths = [f"{place.proc}/net/{name}" for name in ("tcp", "tcp6")]
        self._clock_s = place.clock_s
        self._next_s = float("-inf")
        self._found: list[Sample] = []

    def collect(self) -> Iterable[Sample]:
        """Return the sum and the longest of all send queues; raises NoData where there is no list of connections."""
        begin_s = self._clock_s()
        if begin_s < self._next_s:
            return self._found
        there = [path for path in self._paths if os.path.exists(path)]
        if not there:
            raise NoData(f"there is no list of TCP connections in {os.path.dirname(self._paths[0])}")
        queues = [size for path in there for size in queued(_proc.whole(path, MOST_BYTES))]
        self._found = [(QUEUED, (), sum(queues)), (LONGEST, (), max(queues, default=0))]
        now_s = self._clock_s()
        self._next_s = begin_s + max(EVERY_S, (now_s - begin_s) / MOST_SHARE)
        return self._found


def queued(text: bytes) -> list[int]:
    """Return the bytes in the send queues of connections that have some.

    >>> queued(b"  0: 0100007F:1F90 0200007F:A0B1 01 000000FF:00000000 00:0 0 0 0 5")
    [255]
    """
    found = []
    for line in text.split(b"\n"):
        words = line.split(None, 5)
        if len(words) > 4 and words[3] in SENDING and words[4][:8] != b"00000000":
            try:
                found.append(int(words[4][:8], 16))
            except ValueError:
                continue  # the file was cut within a line
    return found
