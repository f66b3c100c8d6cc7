"""Reads rings that another process may be writing, truncating or filling with garbage."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from operator import eq
from pathlib import Path
from typing import Any
from zlib import crc32

from ..errors import Unreadable
from . import layout
from .layout import (
    BEGUN,
    CLOCK,
    GROUP,
    GROUPS,
    HEADER_BYTES,
    IDENTITY,
    LIFE,
    RECORD,
    RECORD_BYTES,
    Begun,
    Group,
    Header,
)  # fmt: skip

LARGEST_CAPACITY = 1 << 20  # 64 MiB: more is no ring of ours
CHUNK_RECORDS = 1024
LOOK_AHEAD, GLANCE = 1024, 64  # records; an idle ring, at its every look, is worth a glance
MOST_JUMPS = 64
MOST_LOST = 1 << 32  # by one jump: a number that is not true must not spoil a counter for ever

# A record that ends with its own CRC-32 brings the running CRC-32 of a run of records to a value that depends on
# their number alone: one call over the run checks all of them.
_BLANK = bytes(RECORD_BYTES - 4) + crc32(bytes(RECORD_BYTES - 4)).to_bytes(4, "little")
_SEALS = tuple(accumulate(range(CHUNK_RECORDS), lambda seal, _: crc32(_BLANK, seal), initial=0))
_NOT_BEGUN = Begun(0, 0, 0, 0)

Row = tuple[Any, ...]  # the fields of layout.RECORD


def read_header(raw: bytes, former: tuple[bytes, tuple[Group | None, ...]] = (b"", ())) -> Header:
    """Return what the first 4096 bytes of a ring say; raises Unreadable where they are not a whole header.

    `former` is an earlier table of groups, as bytes and as read: it is not read again where it is the same.
    """
    if len(raw) < HEADER_BYTES or raw[:8] != layout.MAGIC:
        raise Unreadable("no ring: the file does not begin with a ring's header")
    (_, version, record_bytes, capacity, pid, rank, local_rank, world_size, started_ns, boot_id, device, gpu_uuid, job,
     node, check) = IDENTITY.unpack_from(raw)  # fmt: skip
    if version != layout.VERSION or record_bytes != RECORD_BYTES:
        raise Unreadable(f"ring layout {version} with records of {record_bytes} bytes", "update skewscope here")
    if crc32(raw[8 : IDENTITY.size - 4]) != check:
        raise Unreadable("the ring's header is damaged (its checksum is wrong)")
    if not 0 < capacity <= LARGEST_CAPACITY or capacity & (capacity - 1):
        raise Unreadable(f"a ring of {capacity} records is none of ours")
    monotonic_ns, realtime_ns, clock_check = CLOCK.unpack_from(raw, layout.CLOCK_AT)
    if crc32(raw[layout.CLOCK_AT : layout.CLOCK_AT + CLOCK.size - 4]) != clock_check:
        monotonic_ns = realtime_ns = 0  # caught while being written: the next look has it
    heartbeat_ns, last_number, internal_errors, closed = LIFE.unpack_from(raw, layout.LIFE_AT)
    groups = _groups(raw, former)
    begun = tuple(
        _NOT_BEGUN if group is None else Begun(*BEGUN.unpack_from(raw, layout.BEGUN_AT + index * BEGUN.size))
        for index, group in enumerate(groups)
    )
    return Header(
        capacity, pid, rank, local_rank, world_size, started_ns, boot_id, device, layout.text(gpu_uuid),
        layout.text(job) or "job", layout.text(node), monotonic_ns, realtime_ns, heartbeat_ns, last_number,
        internal_errors, bool(closed), groups, begun,
    )  # fmt: skip


def _groups(raw: bytes, former: tuple[bytes, tuple[Group | None, ...]]) -> tuple[Group | None, ...]:
    table = raw[layout.GROUP_AT : layout.BEGUN_AT]
    return former[1] if table == former[0] else tuple(_group(raw, index) for index in range(GROUPS))


def _group(raw: bytes, index: int) -> Group | None:
    group_id, size, rank, first, stride, role, name = GROUP.unpack_from(raw, layout.GROUP_AT + index * GROUP.size)
    if not size:
        return None
    return Group(group_id, size, rank, first, stride, layout.text(role), layout.text(name))


def valid_records(raw: bytes | memoryview) -> Iterator[Row]:
    """Yield the rows of all whole records with a right checksum, in the order in which they lie.

    >>> list(valid_records(bytes(64)))
    []
    """
    view = memoryview(raw)
    whole = len(view) // RECORD_BYTES * RECORD_BYTES
    for at, row in zip(range(0, whole, RECORD_BYTES), RECORD.iter_unpack(view[:whole]), strict=True):
        if row[0] and crc32(view[at : at + RECORD_BYTES - 4]) == row[-1]:
            yield row


def _is_sound(view: memoryview, at: int) -> bool:
    """Return whether the record that is `at` places behind the first of `view` has the right checksum."""
    return crc32(view[at * RECORD_BYTES : (at + 1) * RECORD_BYTES]) == _SEALS[1]


def _sound_bytes(view: memoryview, expected: int) -> int:
    """Return how many bytes from the beginning are sound records with the numbers from `expected` on."""
    numbers = view.cast("Q")[:: RECORD_BYTES // 8].tolist()
    run = len(numbers)
    if numbers != list(range(expected, expected + run)):
        run = list(map(eq, numbers, range(expected, expected + run))).index(False)
    if crc32(view[: run * RECORD_BYTES]) == _SEALS[run]:
        return run * RECORD_BYTES
    return next((at for at in range(run) if not _is_sound(view, at)), run) * RECORD_BYTES


@dataclass
class Drained:
    """What came since the last look: whole records as bytes, and how many were lost, by reason."""

    raw: bytearray = field(default_factory=bytearray)
    overwritten: int = 0
    malformed: int = 0

    @property
    def rows(self) -> list[Row]:
        """Return the records as tuples of the fields of `layout.RECORD`."""
        return list(RECORD.iter_unpack(self.raw))


class RingReader:
    """Follows one ring. Never maps the file: a writer that truncates it could kill a reader that does.

    Raises Unreadable where the file is no ring, OSError where it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            found = os.fstat(self._descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise Unreadable(f"{path.name} is no regular file")
            self.inode, self.uid = found.st_ino, found.st_uid
            self.raw_header = os.pread(self._descriptor, HEADER_BYTES, 0)
            self.header = read_header(self.raw_header)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._next = 1
        self._stuck = 0  # the record at which the last look stopped although newer ones stand behind it

    def skip_to(self, number: int) -> None:
        """Go on with record `number`."""
        self._next = max(number, 1)

    def refresh(self) -> Header:
        """Read the header again and return it; a damaged one leaves the former."""
        try:
            raw = os.pread(self._descriptor, HEADER_BYTES, 0)
            table = self.raw_header[layout.GROUP_AT : layout.BEGUN_AT]
            header = read_header(raw, (table, self.header.groups))
        except (Unreadable, OSError):
            return self.header
        # Who writes a ring never changes: one that says so later would take another rank's place.
        if raw[: IDENTITY.size] == self.raw_header[: IDENTITY.size]:
            self.raw_header, self.header = raw, header
        return self.header

    def drain(self, limit: int = layout.CAPACITY) -> Drained:
        """Return up to `limit` records written since the last call."""
        drained = Drained()
        most = 1  # an idle ring costs one record
        jumps = 0  # a writer that goes round makes few; a hostile file could make one at each record
        while len(drained.raw) < limit * RECORD_BYTES and jumps < MOST_JUMPS:
            before = len(drained.raw)
            if not self._take(drained, most):
                break
            jumps += len(drained.raw) == before
            most = min(CHUNK_RECORDS, limit - len(drained.raw) // RECORD_BYTES)
        return drained

    def _take(self, drained: Drained, most: int) -> bool:
        """Take one run of records that lie in a row; False where nothing newer is there."""
        capacity = self.header.capacity
        slot = (self._next - 1) % capacity
        raw = os.pread(self._descriptor, min(most, capacity - slot) * RECORD_BYTES, HEADER_BYTES + slot * RECORD_BYTES)
        whole = len(raw) // RECORD_BYTES * RECORD_BYTES
        taken = _sound_bytes(memoryview(raw)[:whole], self._next)
        drained.raw += memoryview(raw)[:taken]
        self._next += taken // RECORD_BYTES
        if taken == whole:
            return whole > 0
        return self._step_over(drained, memoryview(raw)[taken : taken + RECORD_BYTES])

    def _step_over(self, drained: Drained, record: memoryview) -> bool:
        """Decide at a record that is not the expected one: overwritten, damaged, or not there yet."""
        capacity, number = self.header.capacity, int.from_bytes(record[:8], "little")
        if number > self._next and (number - self._next) % capacity == 0 and _is_sound(record, 0):
            # The writer went round: everything up to one ring behind its newest record is gone.
            oldest = max(number - capacity + 1, self._next + 1)
            drained.overwritten += min(oldest - self._next, MOST_LOST)
            self._next = oldest
            return True
        damaged = self._damaged()
        if not damaged or self._stuck != self._next:
            self._stuck = self._next if damaged else 0  # it may be half written yet: the next look knows
            return False
        drained.malformed += damaged
        self._next += damaged
        self._stuck = self._next  # where a run is longer than one look sees, the next look goes on at once
        return damaged < LOOK_AHEAD

    def _damaged(self) -> int:
        """Return how many records from the next one on are damaged: 0 while newer ones do not show that it is over."""
        capacity = self.header.capacity
        ahead = min(LOOK_AHEAD if self.header.last_number > self._next else GLANCE, capacity)
        view = memoryview(self._ahead(ahead))
        numbers = view.cast("Q")[:: RECORD_BYTES // 8].tolist()
        for at, number in enumerate(numbers if max(numbers, default=0) > self._next else ()):
            newer = number - self._next - at
            if at and newer >= 0 and newer % capacity == 0 and _is_sound(view, at):
                return at
        return ahead if len(numbers) == ahead and self.header.last_number >= self._next + ahead else 0

    def _ahead(self, count: int) -> bytes:
        """Return the next `count` places as they are, whole records only, round the end of the ring."""
        slot = (self._next - 1) % self.header.capacity
        first = min(count, self.header.capacity - slot)
        raw = os.pread(self._descriptor, first * RECORD_BYTES, HEADER_BYTES + slot * RECORD_BYTES)
        if len(raw) == first * RECORD_BYTES:
            raw += os.pread(self._descriptor, (count - first) * RECORD_BYTES, HEADER_BYTES)
        return raw[: len(raw) // RECORD_BYTES * RECORD_BYTES]

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
