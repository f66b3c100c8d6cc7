"""Writes a ring from inside a training process: no lock, no system call per record, nothing that can block."""

from __future__ import annotations

import mmap
import os
import re
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Protocol
from zlib import crc32

from . import layout
from .layout import BEGUN, BODY, CAPACITY, CLOCK, EXPERTS_A_RECORD, GROUP, GROUPS, HEADER_BYTES, LIFE, RECORD_BYTES

_check = struct.Struct("<I").pack
SEAL = struct.Struct(f"<{BODY.size}sI")  # a body and its checksum
_experts = struct.Struct("<QBBBBiQ8II").pack
EXPERTS_KIND = layout.KINDS.index("experts")


class Write(Protocol):
    """Appends one record."""

    def __call__(
        self, kind: int, op: int = 0, group: int = 0, flags: int = 0, step: int = -1, seq: int = 0, start_ns: int = 0,
        end_ns: int = 0, device_ns: int = -1, size: int = 0, extra: int = 0,
    ) -> None:  # fmt: skip
        """Write the fields of `layout.RECORD` after the number."""


def ring_name(job: str, rank: int, pid: int) -> str:
    """Return the file name of a ring.

    >>> ring_name("llm/70b", 3, 4242)
    'llm_70b-r3-4242.ring'
    """
    return f"{re.sub(r'[^A-Za-z0-9._-]', '_', job)[:64] or 'job'}-r{rank}-{pid}.ring"


class RingWriter:
    """One rank's ring. Threads may share it; a forked child must not use it.

    Raises OSError where the file cannot be made; the space is reserved at once, so that a file system that fills up
    later cannot stop the writer.
    """

    def __init__(
        self, folder: Path, *, job: str, rank: int, local_rank: int = -1, world_size: int = -1, device: int = -1,
        gpu_uuid: str = "", node: str = "", capacity: int = CAPACITY,
    ) -> None:  # fmt: skip
        if capacity & (capacity - 1) or capacity < 1:
            raise ValueError(f"capacity {capacity} is no power of two")
        self.path = folder / ring_name(job, rank, os.getpid())
        self._numbers = count(1)
        self._last = [0]  # the newest number
        self.internal_errors = 0
        self._groups: dict[int, int] = {}
        self._map = _made(self.path, HEADER_BYTES + capacity * RECORD_BYTES)
        identity = struct.pack(
            "<HHIIiiiq16si48s64s64s", layout.VERSION, RECORD_BYTES, capacity, os.getpid(), rank, local_rank, world_size,
            time.time_ns(), _boot_id(), device, gpu_uuid.encode()[:48], job.encode()[:64],
            (node or os.uname().nodename).encode()[:64],
        )  # fmt: skip
        self.beat()
        # The magic comes last: a reader never sees a header that is half made.
        self._map[8 : 12 + len(identity)] = identity + _check(crc32(identity))
        self._map[0:8] = layout.MAGIC
        self._mask = capacity - 1
        self.write = _writer(self._map, capacity, self._numbers, self._last)

    write: Write  # appends one record; the fields are those of `layout.RECORD` after its number

    @property
    def last_number(self) -> int:
        """The number of the newest record."""
        return self._last[0]

    def experts(self, step: int, layer: int, counts: Sequence[int]) -> None:
        """Append the routed tokens of each expert of one layer, eight to a record."""
        for first in range(0, len(counts), EXPERTS_A_RECORD):
            some = [min(int(tokens), 0xFFFFFFFF) for tokens in counts[first : first + EXPERTS_A_RECORD]]
            padded = some + [0] * (EXPERTS_A_RECORD - len(some))
            self._last[0] = number = next(self._numbers)
            body = _experts(number, EXPERTS_KIND, 0, 0, 0, step, layer << 32 | first, *padded, len(some))
            at = HEADER_BYTES + (number - 1 & self._mask) * RECORD_BYTES
            SEAL.pack_into(self._map, at, body, crc32(body))

    def group(self, group_id: int, ranks: Sequence[int], rank: int, role: str = "", name: str = "") -> int:
        """Return the index of a group in the header's table, adding it; -1 where the table is full.

        `ranks` are the global ranks of its members in order, `rank` is this one's place among them.
        """
        if group_id in self._groups:
            return self._groups[group_id]
        index = len(self._groups)
        if index >= GROUPS:
            return -1
        first = ranks[0] if ranks else -1
        steps = {after - before for before, after in zip(ranks, ranks[1:], strict=False)}
        stride = steps.pop() if len(steps) == 1 else 0
        packed = GROUP.pack(group_id, len(ranks), rank, first, stride, role.encode()[:16], name.encode()[:24])
        at = layout.GROUP_AT + index * GROUP.size
        self._map[at : at + GROUP.size] = packed
        self._groups[group_id] = index
        return index

    def beginner(self, group: int) -> Callable[[int, int, int, int], None]:
        """Return what shows a call of a group (by index) as begun: (seq, start_ns, op, step).

        The call's record, written at its end, shows that it is over; (0, 0, 0, -1) shows that nothing is open.
        """
        return partial(BEGUN.pack_into, self._map, layout.BEGUN_AT + group * BEGUN.size)

    def begin(self, group: int, op: int, step: int, seq: int, start_ns: int) -> None:
        """Show one call as begun."""
        self.beginner(group)(seq, start_ns, op, step)

    def beat(self, *, closed: bool = False) -> None:
        """Refresh the signs of life and the clock pair; about once a second."""
        monotonic_ns, realtime_ns = _clock_pair()
        pair = struct.pack("<qq", monotonic_ns, realtime_ns)
        self._map[layout.CLOCK_AT : layout.CLOCK_AT + CLOCK.size] = pair + _check(crc32(pair))
        LIFE.pack_into(self._map, layout.LIFE_AT, monotonic_ns, self.last_number, self.internal_errors, int(closed))

    def close(self) -> None:
        """Mark the ring as ended and let go of it; the file stays for its readers."""
        if not self._map.closed:
            self.beat(closed=True)
            self._map.close()


def _writer(ring: mmap.mmap, capacity: int, numbers: Iterator[int], last: list[int]) -> Write:
    """Return the function behind `RingWriter.write`: every look-up it does without is time that a step keeps."""
    mask, number_of, body_of, crc, seal = capacity - 1, numbers.__next__, BODY.pack, _fast_crc(), SEAL.pack_into
    header_bytes, record_bytes = HEADER_BYTES, RECORD_BYTES

    def write(
        kind: int, op: int = 0, group: int = 0, flags: int = 0, step: int = -1, seq: int = 0, start_ns: int = 0,
        end_ns: int = 0, device_ns: int = -1, size: int = 0, extra: int = 0,
    ) -> None:  # fmt: skip
        last[0] = number = number_of()
        body = body_of(number, kind, op, group, flags, step, seq, start_ns, end_ns, device_ns, size, extra)
        seal(ring, header_bytes + (number - 1 & mask) * record_bytes, body, crc(body))

    return write


def _fast_crc() -> Callable[[bytes], int]:
    """Return isal's CRC-32, which takes a third of the time of zlib's; zlib's where there is no isal.

    Imported here, so that only a process that writes a ring holds it.
    """
    try:
        from isal.isal_zlib import crc32 as fast
    except ImportError:
        return crc32
    return fast


def _made(path: Path, size: int) -> mmap.mmap:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    path.unlink(missing_ok=True)  # an older process had the same number
    descriptor = os.open(path, flags, 0o640)
    try:
        os.fchmod(descriptor, 0o640)  # whatever the umask: the agent reads it through the folder's group
        os.posix_fallocate(descriptor, 0, size)
        return mmap.mmap(descriptor, size)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _clock_pair() -> tuple[int, int]:
    """Return (monotonic, realtime) of one moment: the narrowest of three tries."""
    tries = []
    for _ in range(3):
        before, realtime_ns, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        tries.append((after - before, (before + after) // 2, realtime_ns))
    return min(tries)[1:]


def _boot_id() -> bytes:
    try:
        return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)
