"""Raw records on disk: gzip members that each stand alone, in segments of a few MiB, the oldest removed first.

A member is a ring's header and then records, so a torn end costs one member at most. What was not written is taken
from the ring again at the next start, as long as it is there.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from skewscope.spool import HEADER_BYTES, RECORD_BYTES, valid_records

MEMBER_RECORDS = 16_384
FLUSH_S = 5.0
SEGMENT_BYTES = 8 << 20
SEGMENTS_AT_LEAST = 32  # a small archive is cut into small segments, or removing the oldest would take too much
FIRST_RETRY_S, LAST_RETRY_S = 5.0, 300.0
IDENTITY = slice(8, 240)  # of a header: who wrote the ring
STARTED_NS = slice(32, 40)
ENDING = ".ring.gz"


class Archive:
    """One folder of segments. A write that fails is counted and tried again later; the caller never notices."""

    def __init__(self, folder: Path, cap_bytes: int) -> None:
        self.folder = str(folder)
        self.cap_bytes = cap_bytes
        self.segment_bytes = min(SEGMENT_BYTES, max(cap_bytes // SEGMENTS_AT_LEAST, 1))
        self.errors = 0
        self.lost_records = 0
        self.size_bytes = -1
        self._tapes: list[Tape] = []
        self._retry_s = FIRST_RETRY_S
        self._not_before_s = 0.0

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

    def segments(self, stem: str = "") -> list[tuple[int, str]]:
        """Return (first number, name) of all segments, or those of one ring, in rising order."""
        try:
            names = os.listdir(self.folder)
        except OSError:
            return []
        found = []
        for name in names:
            if name.endswith(ENDING) and name.startswith(stem + "." if stem else ""):
                first = name.removesuffix(ENDING).rpartition(".")[2]
                if first.isdecimal():
                    found.append((int(first), name))
        return sorted(found)

    def ready(self, now_s: float) -> bool:
        """Return whether a write may be tried: after a failure there is a pause."""
        return now_s >= self._not_before_s

    def remove(self, name: str) -> bool:
        """Remove a segment; False where that fails."""
        try:
            os.unlink(os.path.join(self.folder, name))
        except OSError:
            return False
        return True

    def write(self, name: str, payload: bytes, now_s: float) -> int | None:
        """Append to a segment and return its new size; None where that is impossible now."""
        try:
            size_bytes = _append(os.path.join(self.folder, name), payload)
        except OSError:
            self.errors += 1
            self._not_before_s = now_s + self._retry_s
            self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)
            return None
        self._retry_s = FIRST_RETRY_S
        self.size_bytes = self._measured() if self.size_bytes < 0 else self.size_bytes + len(payload)
        if self.size_bytes > self.cap_bytes:
            self._make_room(name)
        return size_bytes

    def _measured(self) -> int:
        return sum(size for _, size, _ in self._found())

    def _found(self) -> list[tuple[int, int, str]]:
        found = []
        for _, name in self.segments():
            try:
                status = os.stat(os.path.join(self.folder, name), follow_symlinks=False)
            except OSError:
                continue
            found.append((status.st_mtime_ns, status.st_size, name))
        return sorted(found)

    def _make_room(self, keep: str) -> None:
        found = self._found()
        self.size_bytes = sum(size for _, size, _ in found)
        for _, size, name in found:
            if self.size_bytes <= self.cap_bytes:
                return
            if name != keep and self.remove(name):
                self.size_bytes -= size
                for tape in self._tapes:
                    tape.forget(name)


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
        for _, name in reversed(archive.segments(stem)):
            writer, number = last_record(os.path.join(archive.folder, name))
            if number and writer == head[IDENTITY]:
                self.next_number = number + 1
                break
            if number:  # another process had the same number: its segments keep their names
                self._stem = f"{stem}.{int.from_bytes(head[STARTED_NS], 'little') // 10**9}"
            else:
                archive.remove(name)  # appending to a torn beginning would hide what comes

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
            self.give_up(MEMBER_RECORDS)
            return
        first = int.from_bytes(self._held[:8], "little")
        name = self._segment or f"{self._stem}.{first}{ENDING}"
        squeeze = zlib.compressobj(1, zlib.DEFLATED, 31, 9, zlib.Z_FILTERED)
        payload = squeeze.compress(self.head) + squeeze.compress(self._held) + squeeze.flush()
        size_bytes = self._archive.write(name, payload, now_s)
        if size_bytes is None:
            self.give_up(MEMBER_RECORDS)
            return
        self._held.clear()
        self._since_s = None
        self._segment = name if size_bytes < self._archive.segment_bytes else ""

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


def last_record(path: str) -> tuple[bytes, int]:
    """Return (identity of the writer, number) of the last whole record in a segment; (b"", 0) where there is none."""
    found = b"", 0
    decoder, held, head = zlib.decompressobj(31), bytearray(), b""
    try:
        with open(path, "rb") as file:
            while True:
                chunk = decoder.unused_data or file.read(1 << 16)
                if not chunk:
                    break
                if decoder.eof:
                    decoder, held, head = zlib.decompressobj(31), bytearray(), b""
                held += decoder.decompress(chunk)
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


def _append(path: str, payload: bytes) -> int:
    """Append all of it or nothing; return the new size."""
    os.makedirs(os.path.dirname(path), 0o750, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        before = os.fstat(descriptor).st_size
        try:
            view = memoryview(payload)
            while view:
                view = view[os.write(descriptor, view) :]
        except OSError:
            os.ftruncate(descriptor, before)
            raise
        return before + len(payload)
    finally:
        os.close(descriptor)
