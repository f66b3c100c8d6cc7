"""How file servers answer: calls, their times, retransmissions and timeouts of each NFS mount.

It reads the kernel's own book, <proc>/self/mountstats, and never touches a mount: a call to a server that does not
answer would not return. Mounts of one file system share one book and count once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from skewscope.contracts import Place, Sample
from skewscope.errors import NoData

from ._proc import whole

MOUNTS = 32
MOUNT_LETTERS = 64
OPERATIONS = {b"READ": "read", b"WRITE": "write", b"COMMIT": "write"}
MOUNTED = re.compile(rb"device (\S+) mounted on (\S+) with fstype (\S+)")
OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass
class Mount:
    """The book of one file system: per operation [calls, round trip s, execution s]; counters of the whole."""

    point: str
    key: bytes = b""
    calls: dict[str, list[float]] = field(default_factory=dict)
    retransmissions: int = 0
    timeouts: int = 0
    connects: int = 0
    read_bytes: int = 0
    written_bytes: int = 0

    def add(self, other: Mount) -> None:
        """Add what another book says."""
        for operation, numbers in other.calls.items():
            mine = self.calls.setdefault(operation, [0.0, 0.0, 0.0])
            self.calls[operation] = [a + b for a, b in zip(mine, numbers, strict=True)]
        for name in ("retransmissions", "timeouts", "connects", "read_bytes", "written_bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def samples(self) -> Iterator[Sample]:
        """Return what is counted."""
        for operation, (calls, round_trip_s, execution_s) in self.calls.items():
            yield "skewscope_nfs_operations_total", (self.point, operation), calls
            yield "skewscope_nfs_round_trip_seconds_total", (self.point, operation), round_trip_s
            yield "skewscope_nfs_execution_seconds_total", (self.point, operation), execution_s
        yield "skewscope_nfs_retransmissions_total", (self.point,), self.retransmissions
        yield "skewscope_nfs_timeouts_total", (self.point,), self.timeouts
        yield "skewscope_nfs_connects_total", (self.point,), self.connects
        yield "skewscope_nfs_bytes_total", (self.point, "read"), self.read_bytes
        yield "skewscope_nfs_bytes_total", (self.point, "write"), self.written_bytes


class Nfs:
    """Reads <proc>/self/mountstats."""

    process: ClassVar[str] = "host"
    group: ClassVar[str] = "slow"
    exports: ClassVar[tuple[str, ...]] = (
        "skewscope_nfs_operations_total", "skewscope_nfs_round_trip_seconds_total",
        "skewscope_nfs_execution_seconds_total", "skewscope_nfs_retransmissions_total", "skewscope_nfs_timeouts_total",
        "skewscope_nfs_connects_total", "skewscope_nfs_bytes_total",
    )  # fmt: skip

    def __init__(self, place: Place) -> None:
        self._path = f"{place.proc}/self/mountstats"

    def collect(self) -> Iterable[Sample]:
        """Return the counters of the first 32 mounts and of all others together; raises NoData without NFS."""
        shown: dict[str, Mount] = {}
        for mount in mounts(whole(self._path, 8 << 20)):
            if mount.point not in shown and len(shown) >= MOUNTS:
                mount.point = "other"
            shown.setdefault(mount.point, Mount(mount.point)).add(mount)
        if not shown:
            raise NoData("no NFS file system is mounted")
        return [sample for mount in shown.values() for sample in mount.samples()]


def mounts(raw: bytes) -> list[Mount]:
    """Return the books of all NFS file systems, each once, in the order of their mounting."""
    found: dict[bytes, Mount] = {}
    mount: Mount | None = None
    for line in raw.splitlines():
        if line.startswith(b"device "):
            match = MOUNTED.match(line)
            mount = None
            if match and match[3] in (b"nfs", b"nfs4"):
                mount = Mount(point(match[2].decode("utf-8", "replace")), match[1])
            continue
        words = line.split()
        if mount and words:
            if words[0] == b"events:":  # equal events of one export: the same file system mounted twice
                mount = found.setdefault(mount.key + line, mount) if mount.key + line not in found else None
            else:
                _read(mount, words)
    return list(found.values())


def _read(mount: Mount, words: list[bytes]) -> None:
    try:
        if words[0] == b"bytes:":
            mount.read_bytes, mount.written_bytes = int(words[5]), int(words[6])
        elif words[0] == b"xprt:" and words[1] in (b"tcp", b"rdma"):
            mount.connects += int(words[4])
        elif re.fullmatch(rb"[A-Z_0-9]+:", words[0]) and len(words) >= 9:
            calls, sent, timeouts, _, _, _, round_trip_ms, execution_ms = map(int, words[1:9])
            numbers = mount.calls.setdefault(OPERATIONS.get(words[0][:-1], "metadata"), [0.0, 0.0, 0.0])
            numbers[0] += calls
            numbers[1] += round_trip_ms / 1e3
            numbers[2] += execution_ms / 1e3
            mount.retransmissions += max(0, sent - calls)
            mount.timeouts += timeouts
    except (ValueError, IndexError):
        pass  # a line of another version: the others still count


def point(text: str) -> str:
    r"""Return a mount point as people write it, no longer than 64 letters.

    >>> point("/my\\040data")
    '/my data'
    """
    plain = OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
    return plain if len(plain) <= MOUNT_LETTERS else f"{plain[: MOUNT_LETTERS - 1]}…"
