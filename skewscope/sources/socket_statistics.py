"""Socket statistics of a rank's host: the text of `ss -tin`, taken once or several times during the job.

Lines `# step=N time_ns=T` before each dump tell its time. Of several connections to one peer the one that moved most
bytes speaks for the path: small ones are limited by the application. Addresses become ranks when all files are known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..contracts import Reading
from ..errors import Unreadable
from . import _bytes
from ._lines import ended

ENDS = re.compile(r"^(?:[A-Z][A-Z0-9-]*\s+)?\d+\s+(\d{1,15})\s+(\S+):(\d+|\*)\s+(\S+):(\d+|\*)(?:\s|$)")
TIME = re.compile(r"^#.*?\btime_ns=(\d{1,19})")
RTT = re.compile(r"\brtt:(\d{1,9}(?:\.\d+)?)/")
SPEED = re.compile(r"\bdelivery_rate (\d+(?:\.\d+)?)([KMG]?)bps")
SENT = re.compile(r"\bbytes_(?:sent|acked):(\d{1,15})")
RETRANSMITS = re.compile(r"\bretrans:\d+/(\d{1,15})")
LATEST_NS = (1 << 63) - 1
PREFIX = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}
BITS = 8


@dataclass
class Connection:
    """One connection in one dump; -1 and NaN are unknown."""

    t_ns: int
    src: str
    dst: str
    ports: str
    sent_bytes: int = 0
    rtt_ms: float = -1.0
    speed_bytes_per_s: float = float("nan")
    retransmits: int = 0
    queued_bytes: int = 0  # that it has not sent, or of which it does not know that they came
    window_ns: int = -1
    moved_bytes: int = -1


class SocketStatistics:
    """Reads `ss_rankN.txt`."""

    format: ClassVar[str] = "socket-statistics"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins the output of ss with TCP details."""
        if b"Address:Port" not in head:
            return 0.0
        return 0.9 if b"rtt:" in head and b"cwnd:" in head else 0.5

    def read(self, path: Path) -> Reading:
        """Return `links` per dump and peer, retransmissions as `samples`; raises Unreadable without a connection."""
        content, damage = ended(*_bytes.whole(path))
        found = _with_windows(connections(content.decode("utf-8", "replace")))
        if not found:
            raise Unreadable(
                "no TCP connection with its details" + (f" ({damage})" if damage else ""), "take it with `ss -tin`"
            )
        reading = Reading(str(path), self.format, events=len(found))
        if damage:
            reading.status, reading.error = "partial", damage
        reading.job["addresses"] = sorted({connection.src for connection in found})
        reading.batches = [("links", _links(found)), *_samples(found)]
        return reading


def connections(text: str) -> list[Connection]:
    r"""Return the connections of all dumps in the order of the text.

    >>> text = "0 0 10.0.0.1:5 [::ffff:10.0.0.2]:6\n\t cubic rtt:2.5/1 bytes_sent:9 delivery_rate 80bps"
    >>> [(c.src, c.dst, c.rtt_ms, c.speed_bytes_per_s) for c in connections(text)]
    [('10.0.0.1', '10.0.0.2', 2.5, 10.0)]
    """
    found: list[Connection] = []
    t_ns = -1
    current: Connection | None = None
    for line in text.splitlines():
        told = TIME.match(line)
        ends = ENDS.match(line.strip())
        if told:
            t_ns, current = min(int(told[1]), LATEST_NS), None
        elif ends:
            current = Connection(t_ns, _address(ends[2]), _address(ends[4]), f"{ends[3]}-{ends[5]}")
            current.queued_bytes = int(ends[1])
        elif current is not None and ("rtt:" in line or "cwnd:" in line):
            _describe(current, line)
            found.append(current)
            current = None
    return found


def _address(text: str) -> str:
    return text.strip("[]").split("%", 1)[0].removeprefix("::ffff:")


def _describe(connection: Connection, line: str) -> None:
    rtt, speed, sent, again = (pattern.search(line) for pattern in (RTT, SPEED, SENT, RETRANSMITS))
    connection.rtt_ms = float(rtt[1]) if rtt else -1.0
    connection.speed_bytes_per_s = float(speed[1]) * PREFIX[speed[2]] / BITS if speed else float("nan")
    connection.sent_bytes = int(sent[1]) if sent else 0
    connection.retransmits = int(again[1]) if again else 0


def _with_windows(found: list[Connection]) -> list[Connection]:
    """Fill what each connection moved since the dump before; counters run from the start of the connection."""
    before: dict[tuple[str, str, str], Connection] = {}
    for connection in found:
        key = (connection.src, connection.dst, connection.ports)
        last = before.get(key)
        connection.moved_bytes = connection.sent_bytes - (last.sent_bytes if last else 0)
        if last is not None and connection.t_ns > last.t_ns >= 0:
            connection.window_ns = connection.t_ns - last.t_ns
        before[key] = connection
    return found


def _links(found: list[Connection]) -> dict[str, Any]:
    """Return one row per dump and pair of addresses."""
    pairs: dict[tuple[int, str, str], list[Connection]] = {}
    for connection in found:
        pairs.setdefault((connection.t_ns, connection.src, connection.dst), []).append(connection)
    chief = [max(group, key=lambda connection: connection.sent_bytes) for group in pairs.values()]
    moved = [sum(max(connection.moved_bytes, 0) for connection in group) for group in pairs.values()]
    rtt = np.array([connection.rtt_ms for connection in chief])
    return {
        "t_ns": np.array([connection.t_ns for connection in chief], dtype=np.int64),
        "window_ns": np.array([connection.window_ns for connection in chief], dtype=np.int64),
        "src": [connection.src for connection in chief], "dst": [connection.dst for connection in chief],
        "medium": "tcp",
        "moved_bytes": np.array(moved, dtype=np.int64),
        "speed_bytes_per_s": np.array([connection.speed_bytes_per_s for connection in chief]),
        "latency_ns": np.where(rtt >= 0, np.rint(rtt * 1e6), -1).astype(np.int64), "source": SocketStatistics.format,
    }  # fmt: skip


def _samples(found: list[Connection]) -> list[tuple[str, dict[str, Any]]]:
    """Return retransmissions and send queues per dump, where the time is known and there are some."""
    again: dict[int, float] = {}
    queues: dict[int, list[float]] = {}
    for connection in found:
        if connection.t_ns >= 0:
            again[connection.t_ns] = again.get(connection.t_ns, 0.0) + connection.retransmits
            queues.setdefault(connection.t_ns, []).append(float(connection.queued_bytes))
    told = {
        "skewscope_host_tcp_retransmits_total": again,
        "skewscope_tcp_send_queue_bytes": {t_ns: sum(sizes) for t_ns, sizes in queues.items()},
        "skewscope_tcp_send_queue_max_bytes": {t_ns: max(sizes) for t_ns, sizes in queues.items()},
    }
    return [
        ("samples", {"t_ns": list(row), "metric": metric, "value": list(row.values()), "job": "job", "rank": -1})
        for metric, row in told.items() if any(row.values())
    ]  # fmt: skip
