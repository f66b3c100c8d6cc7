"""The records of a ring or of an archive segment as one array, with what was damaged in words; no object per record."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import Unreadable
from ..spool import HEADER_BYTES, RECORD_BYTES, Group, Header, read_header
from ..spool.layout import MAGIC
from . import _bytes

Array = np.ndarray[Any, Any]

RECORDS = np.dtype([
    ("number", "<u8"), ("kind", "u1"), ("op", "u1"), ("group", "u1"), ("flags", "u1"), ("step", "<i4"), ("seq", "<u8"),
    ("start_ns", "<i8"), ("end_ns", "<i8"), ("device_ns", "<i8"), ("size", "<u8"), ("extra", "<u4"), ("crc", "<u4"),
])  # fmt: skip
EXPERTS = np.dtype({
    "names": ["step", "seq", "tokens", "count"], "formats": ["<i4", "<u8", ("<u4", (8,)), "<u4"],
    "offsets": [12, 16, 24, 56], "itemsize": RECORD_BYTES,
})  # fmt: skip
LARGEST_BYTES = 1 << 28
LARGEST_WORLD = 1 << 20
FEED_BYTES = 1 << 10  # what comes of the piece in which a member is torn is lost; 1 KiB cannot unfold beyond 1 MiB
MEMBER = _bytes.GZIP_MAGIC + b"\x08"
BEING_WRITTEN = 1  # a ring may be read while its newest record is half there


@dataclass
class Part:
    """What one file holds of one writer: its last header, `records` sorted by number and each once, and the damage."""

    header: Header
    records: Array
    damage: list[str] = field(default_factory=list)


def read(path: Path) -> Part:
    """Return the records of a ring or a segment; raises Unreadable where the file is neither."""
    if path.stat().st_size > LARGEST_BYTES:
        raise Unreadable(f"{path.stat().st_size >> 20} MiB: no ring or segment of ours is that large")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Unreadable(f"it cannot be read ({error.strerror or error})") from None
    if content.startswith(_bytes.GZIP_MAGIC):
        return _segment(content)
    if not content[:HEADER_BYTES].strip(b"\0"):
        raise Unreadable("the ring was never begun: its header is empty")
    part = _piece(content)
    whole = HEADER_BYTES + part.header.capacity * RECORD_BYTES
    if len(content) < whole:
        part.damage.append(f"the ring is cut: {len(content):,} of {whole:,} bytes")
    return part


def joined(parts: list[Part]) -> Part:
    """Return the records of all parts of one writer, each once, under the header that was written last."""
    header = max((part.header for part in parts), key=lambda header: header.monotonic_ns)
    records = np.concatenate([part.records for part in parts])
    _, first = np.unique(records["number"], return_index=True)
    return Part(header, records[first], [text for part in parts for text in part.damage])


def _segment(content: bytes) -> Part:
    """Return the records of all members of a segment; a damaged member gives what is whole, and the next is found."""
    parts: list[Part] = []
    torn = 0
    reasons: list[str] = []
    for text, whole in _members(content):
        torn += not whole
        try:
            parts.append(_piece(text))
        except Unreadable as error:
            reasons += [str(error)] * whole  # of a torn one too little may have come out
    if not parts:
        raise Unreadable(reasons[0] if reasons else "no ring: not one whole block in the segment")
    writers = {writer(part.header) for part in parts}
    if len(writers) > 1:
        raise Unreadable(f"blocks of {len(writers)} writers in one segment: it was put together by hand")
    made = joined(parts)
    if torn:
        made.damage.append(f"{torn} of its blocks are torn")
    if reasons:
        made.damage.append(f"{len(reasons)} of its blocks: {reasons[0]}")
    return made


def _members(content: bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield the text of each gzip member, and whether it came out whole; after a torn one the next is looked for."""
    view, at, total, in_row = memoryview(content), 0, 0, True
    while at >= 0:
        text, used = _inflated(view[at:])
        total += len(text)
        if total > LARGEST_BYTES:
            raise Unreadable(f"more than {LARGEST_BYTES >> 20} MiB of records: no segment of ours is that large")
        if in_row or is_ring(text):  # else these bytes only looked like the beginning of one
            yield text, used > 0
        at, in_row = (at + used, True) if used else (content.find(MEMBER, at + 1), False)
        at = at if at < len(content) else -1


def _inflated(view: memoryview) -> tuple[bytes, int]:
    """Return what a member unfolds to and its length in bytes, 0 where it is torn."""
    inflate = zlib.decompressobj(_bytes.GZIP_WINDOW)
    text, size, place = [], 0, 0
    try:
        while not inflate.eof and place < len(view) and size <= LARGEST_BYTES:
            feed = view[place : place + FEED_BYTES]
            place += len(feed)
            text.append(inflate.decompress(feed))
            size += len(text[-1])
    except zlib.error:
        return b"".join(text), 0
    return b"".join(text), place - len(inflate.unused_data) if inflate.eof else 0


def _piece(text: bytes) -> Part:
    """Return the header and the sound records of one block or ring."""
    header = read_header(text)
    groups = tuple(group if group and _is_sound(group, header.world_size) else None for group in header.groups)
    rows = np.frombuffer(text, RECORDS, (len(text) - HEADER_BYTES) // RECORD_BYTES, HEADER_BYTES)
    rows = rows[rows["number"] > 0]
    sound = checksums(rows) == rows["crc"]
    bad = int((~sound).sum())
    rows = rows[sound]
    rows = rows[np.argsort(rows["number"], kind="stable")]
    damage = [f"{bad} records are damaged and left out"] if bad > BEING_WRITTEN else []
    if not header.monotonic_ns and not header.realtime_ns:
        damage.append("its clock pair is damaged: times are since the start of the machine")
    if groups != header.groups:
        damage.append("its table of groups is damaged: calls of some are joined to no other rank's")
    return Part(replace(header, groups=groups), rows, damage)


def _is_sound(group: Group, world_size: int) -> bool:
    """Return whether a group can be one: its table has no checksum, and a wild size would fill the memory."""
    most = world_size if world_size > 0 else LARGEST_WORLD
    last = group.first + (group.size - 1) * max(group.stride, 0)
    return 0 <= group.rank < group.size <= most and 0 <= group.first <= last < most


def writer(header: Header) -> tuple[str, int, int, int]:
    """Return what identifies the process that wrote a ring: job, rank, process id, start."""
    return header.job, header.rank, header.pid, header.started_ns


def _table() -> Array:
    """Return CRC-32 of each byte, the polynomial of zlib."""
    row = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        row = np.where(row & 1, (row >> 1) ^ np.uint32(0xEDB88320), row >> 1).astype(np.uint32)
    return row


TABLE = _table()
FEW = 512  # records, of which one by one is sooner


def checksums(rows: Array) -> Array:
    """Return the CRC-32 of each record without its last four bytes: of many, all records of a column at a time.

    >>> rows = np.frombuffer(bytes(60) + zlib.crc32(bytes(60)).to_bytes(4, "little"), RECORDS)
    >>> bool((checksums(rows) == rows["crc"]).all())
    True
    """
    if len(rows) < FEW:
        content = rows.tobytes()
        starts = range(0, len(content), RECORD_BYTES)
        return np.array([zlib.crc32(content[at : at + RECORD_BYTES - 4]) for at in starts], dtype=np.uint32)
    columns = np.ascontiguousarray(rows.view(np.uint8).reshape(len(rows), RECORD_BYTES).T)
    crc = np.full(len(rows), 0xFFFFFFFF, dtype=np.uint32)
    for column in columns[: RECORD_BYTES - 4]:
        crc = TABLE[(crc & 0xFF).astype(np.uint8) ^ column] ^ (crc >> 8)
    return crc ^ np.uint32(0xFFFFFFFF)


def is_ring(head: bytes) -> bool:
    """Return whether a file that begins so holds a ring's header first."""
    return head.startswith(MAGIC)
