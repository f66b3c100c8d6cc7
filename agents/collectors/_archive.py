"""Raw records on disk: gzip members that each stand alone, in segments of a few MiB, the oldest removed first.

A member is a ring's header and then records, so a torn end costs one member at most. What was not written is taken
from the ring again at the next start, as long as it is there. The oldest is what was written longest ago, and before
that what earlier agents began first: no clock is asked, since clocks jump.
"""

from __future__ import annotations

import logging
import os
import zlib
from itertools import count
from pathlib import Path
from typing import BinaryIO

from skewscope.spool import HEADER_BYTES, RECORD_BYTES, valid_records

from ._archive_folder import ArchiveFolder, Segment, segment_name

MEMBER_RECORDS = 16_384
HELD_RECORDS = 16 * MEMBER_RECORDS  # of all rings together, while nothing can be written
FLUSH_S = 5.0
SEGMENT_BYTES = 8 << 20
SEGMENTS_AT_LEAST = 32  # a small archive is cut into small segments, or removing the oldest would take too much
UNPACKED_BYTES = 256 << 20  # of a segment, many times what ours unfold to
FIRST_RETRY_S, LAST_RETRY_S = 5.0, 300.0
IDENTITY = slice(8, 240)  # of a header: who wrote the ring
STARTED_NS = slice(32, 40)

log = logging.getLogger("skewscope.agent")


class Archive:
    """One folder of segments. A write that fails is counted and tried again later; the caller never notices."""

    def __init__(self, folder: Path, cap_bytes: int) -> None:
        self.cap_bytes = cap_bytes
        self.segment_bytes = min(SEGMENT_BYTES, max(cap_bytes // SEGMENTS_AT_LEAST, 1))
        self.errors = 0
        self.lost_records = 0
        self.size_bytes = -1
        self._folder = ArchiveFolder(str(folder))
        self._tapes: list[Tape] = []
        self._order = 0  # of the newest segment, 0 before the first look
        self._writes = count(1)
        self._written: dict[str, int] = {}  # segment -> number of our last write to it
        self._reason = ""
        self._retry_s = FIRST_RETRY_S
        self._not_before_s = 0.0

    @property
    def held_records(self) -> int:
        """How many records each ring may hold back while nothing can be written."""
        return min(MEMBER_RECORDS, HELD_RECORDS // max(len(self._tapes), 1))

    def tape(self, stem: str, head: bytes) -> Tape:
        """Return where the records of one ring go; `stem` is its file's name without ending, `head` its header."""
        tape = Tape(self, stem, head)
        self._tapes.append(tape)
        return tape

    def close(self, tape: Tape, now_s: float) -> None:
        """Write what a tape still holds and forget it."""
        tape.flush(now_s)
        tape.give_up(0)
        self._tapes.remove(tape)

    def segments(self, stem: str) -> list[Segment]:
        """Return the segments of one ring, or of several that had its name, by the numbers of their records."""
        try:
            found = self._folder.segments()
        except OSError:
            return []
        mine = [one for one in found if one.stem == stem or one.stem.startswith(f"{stem}.")]
        return sorted(mine, key=lambda segment: (segment.first, segment.order))

    def last_record(self, name: str) -> tuple[bytes, int] | None:
        """Return (identity of the writer, number) of the last record of a segment, None where it is not ours."""
        try:
            with os.fdopen(self._folder.read(name), "rb") as file:
                return last_record(file)
        except OSError:
            return None

    def ready(self, now_s: float) -> bool:
        """Return whether a write may be tried: after a failure there is a pause."""
        return now_s >= self._not_before_s

    def remove(self, name: str) -> bool:
        """Remove a segment; False where that fails."""
        try:
            self._folder.remove(name)
        except OSError:
            return False
        self._written.pop(name, None)
        return True

    def write(self, name: str, first: tuple[str, int], payload: bytes, now_s: float) -> tuple[str, int] | None:
        """Append to a segment, or to a new one where `name` is "": that of the ring and record number `first`.

        Returns its name and new size; None where that is impossible now.
        """
        try:
            name = name or segment_name(*first, self._next_order())
            size_bytes = self._folder.append(name, payload)
        except OSError as error:
            self._fail(str(error), now_s)
            return None
        self._retry_s, self._reason = FIRST_RETRY_S, ""
        self._written[name] = next(self._writes)
        self.size_bytes += len(payload) if self.size_bytes >= 0 else 0
        if not 0 <= self.size_bytes <= self.cap_bytes:
            self._make_room(name)
        return name, size_bytes

    def _next_order(self) -> int:
        if not self._order:
            try:
                self._order = max((segment.order for segment in self._folder.segments()), default=0)
            except FileNotFoundError:
                pass  # it is made by the first write
        self._order += 1
        return self._order

    def _fail(self, reason: str, now_s: float) -> None:
        self.errors += 1
        self._not_before_s = now_s + self._retry_s
        self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)
        if reason != self._reason:
            log.warning("the archive cannot be written: %s", reason)
        self._reason = reason

    def _make_room(self, keep: str) -> None:
        """Measure the folder, and remove what is oldest until it is small enough."""
        try:
            found = [(one, self._folder.size_bytes(one.name)) for one in self._folder.segments()]
        except OSError:
            return  # the next write finds out why
        self.size_bytes = sum(size for _, size in found)
        self._written = {one.name: self._written[one.name] for one, _ in found if one.name in self._written}
        found.sort(key=lambda item: (self._written.get(item[0].name, 0), item[0].order, item[0].first))
        for segment, size in found:
            if self.size_bytes <= self.cap_bytes:
                return
            if segment.name != keep and self.remove(segment.name):
                self.size_bytes -= size
                for tape in self._tapes:
                    tape.forget(segment.name)


class Tape:
    """The records of one ring on their way into the archive."""

    def __init__(self, archive: Archive, stem: str, head: bytes) -> None:
        self.head = head
        self._archive = archive
        self._stem = stem
        self._held = bytearray()
        self._since_s: float | None = None
        self._segment = ""
        self.next_number = 1
        another = f"{stem}.{int.from_bytes(head[STARTED_NS], 'little') // 10**9}"
        for segment in reversed(archive.segments(stem)):
            last = archive.last_record(segment.name)
            if last is None:
                self._stem = another
            elif last[1] and last[0] == head[IDENTITY]:
                self.next_number = last[1] + 1
                break
            elif last[1]:  # another process had the same number: its segments keep their names
                self._stem = another
            else:
                archive.remove(segment.name)  # appending to a torn beginning would hide what comes

    def add(self, raw: bytes | bytearray, now_s: float) -> None:
        """Take records; they are written together."""
        self._held += raw
        if self._since_s is None:
            self._since_s = now_s

    def due(self, now_s: float) -> bool:
        """Return whether it is time to write."""
        waited = self._since_s is not None and now_s - self._since_s >= FLUSH_S
        return waited or len(self._held) >= MEMBER_RECORDS * RECORD_BYTES

    def flush(self, now_s: float) -> None:
        """Write what is held; what cannot be written is held longer, but not without bound."""
        if not self._held:
            self._since_s = None
            return
        if not self._archive.ready(now_s):
            self.give_up(self._archive.held_records)
            return
        first = int.from_bytes(self._held[:8], "little")
        squeeze = zlib.compressobj(1, zlib.DEFLATED, 31, 9, zlib.Z_FILTERED)
        payload = squeeze.compress(self.head) + squeeze.compress(self._held) + squeeze.flush()
        written = self._archive.write(self._segment, (self._stem, first), payload, now_s)
        if written is None:
            self.give_up(self._archive.held_records)
            return
        self._held.clear()
        self._since_s = None
        self._segment = written[0] if written[1] < self._archive.segment_bytes else ""

    def give_up(self, kept_records: int) -> None:
        """Drop the oldest of what is held, down to a number of records, and count them as lost."""
        excess = len(self._held) // RECORD_BYTES - kept_records
        if excess > 0:
            self._archive.lost_records += excess
            del self._held[: excess * RECORD_BYTES]

    def forget(self, name: str) -> None:
        """Begin another segment: this one is gone."""
        if self._segment == name:
            self._segment = ""


def last_record(file: BinaryIO) -> tuple[bytes, int]:
    """Return (identity of the writer, number) of the last whole record in a segment; (b"", 0) where there is none.

    It holds 64 KiB at a time, whatever the segment unfolds to.
    """
    found = b"", 0
    decoder, held, head = zlib.decompressobj(31), bytearray(), b""
    left_bytes = UNPACKED_BYTES
    try:
        while left_bytes > 0 and (chunk := decoder.unconsumed_tail or decoder.unused_data or file.read(1 << 16)):
            if decoder.eof:
                decoder, held, head = zlib.decompressobj(31), bytearray(), b""
            plain = decoder.decompress(chunk, 1 << 16)
            left_bytes -= len(plain)
            held += plain
            if not head and len(held) >= HEADER_BYTES:
                head = bytes(held[:HEADER_BYTES])
                del held[:HEADER_BYTES]
            if head:
                found = _last_of(held, head, found)
    except (OSError, zlib.error):
        pass  # a torn end; what came before it counts
    return found


def _last_of(held: bytearray, head: bytes, found: tuple[bytes, int]) -> tuple[bytes, int]:
    """Return the newest record of a member that is being read, and drop what is older from `held`."""
    whole = len(held) // RECORD_BYTES * RECORD_BYTES
    del held[: max(whole - RECORD_BYTES, 0)]
    row = next(valid_records(bytes(held[:RECORD_BYTES])), None)
    return (head[IDENTITY], row[0]) if row else found
