"""TensorBoard's event files: records with checksums, each an Event of protocol buffers; scalars only.

Sources: TensorFlow's record format (length, masked CRC-32C of it, data, masked CRC-32C of them) and event.proto,
summary.proto, tensor.proto; field numbers are facts of these formats.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import NamedTuple

from . import _protobuf_wire as wire

VERSION = b"brain.Event:"
HEADER_BYTES, CHECK_BYTES = 12, 4
CHECKED_BYTES = 1 << 16  # larger records hold images or graphs
WALL, STEP, FILE, SUMMARY = 1, 2, 3, 5  # event.proto
FLOAT, DOUBLE = 1, 2  # types.proto
POLYNOMIAL, MASK = 0x82F63B78, 0xA282EAD8  # Castagnoli, reversed


class Scalar(NamedTuple):
    """One number: its tag, the step it was written for (-1 unknown), and when, seconds since 1970."""

    tag: str
    step: int
    wall_s: float
    value: float


class Records:
    """Reads the scalars of one file; `damage` tells afterwards what was wrong, `others` counts what is no scalar."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.damage = ""
        self.others = 0
        self.bad = 0

    def scalars(self) -> Iterator[Scalar]:
        """Yield all scalars before the first record whose length cannot be trusted."""
        at, size = 0, len(self.content)
        while at < size:
            head = self.content[at : at + HEADER_BYTES]
            if len(head) < HEADER_BYTES or masked(head[:8]) != int.from_bytes(head[8:], "little"):
                cut = len(head) < HEADER_BYTES
                self.damage = "the last record is cut" if cut else f"the record at byte {at} has a wrong checksum"
                break
            length = int.from_bytes(head[:8], "little")
            begin = at + HEADER_BYTES
            at = begin + length + CHECK_BYTES
            if at > size:
                self.damage = "the last record is cut"
                break
            data = self.content[begin : begin + length]
            yield from self._event(data, self.content[begin + length : at])
        if self.bad:
            self.damage = self.damage or f"{self.bad} records are damaged and left out"

    def _event(self, data: bytes, check: bytes) -> Iterator[Scalar]:
        if len(data) <= CHECKED_BYTES and masked(data) != int.from_bytes(check, "little"):
            self.bad += 1
            return
        try:
            parts = list(wire.fields(data))
            found = [one for number, value in parts if number == SUMMARY and isinstance(value, bytes)
                     for one in _values(value)]  # fmt: skip
        except ValueError:
            self.bad += 1
            return
        self.others += sum(number not in (WALL, STEP, FILE, SUMMARY) for number, _ in parts)
        self.others += sum(number is None for _, number in found)
        told = dict(parts)
        wall, step = wire.real(told.get(WALL, 0)), wire.signed(told.get(STEP, 0))  # a step of 0 is not written at all
        for tag, number in found:
            if number is not None and math.isfinite(wall):
                yield Scalar(tag, max(step, 0), wall, number)


def masked(data: bytes) -> int:
    """Return the masked CRC-32C of data.

    >>> hex(masked(b"123456789"))
    '0xc78ab0e5'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + MASK) & 0xFFFFFFFF


def _table() -> tuple[int, ...]:
    made = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (POLYNOMIAL if value & 1 else 0)
        made.append(value)
    return tuple(made)


TABLE = _table()


def _values(summary: bytes) -> Iterator[tuple[str, float | None]]:
    """Yield tag and number of each value of a summary, None for what is no scalar."""
    for number, value in wire.fields(summary):
        if number != 1 or not isinstance(value, bytes):
            continue
        tag, found = "", None
        for part, one in wire.fields(value):
            if part == 1:
                tag = wire.text(one)
            elif part == 2:
                found = wire.real(one)
            elif part == 8 and isinstance(one, bytes):
                found = _tensor(one)
        yield tag, found


def _tensor(message: bytes) -> float | None:
    """Return the number in a tensor of one element, None for any other tensor."""
    kind, content, listed = 0, b"", b""
    for number, value in wire.fields(message):
        if number == 1:
            kind = wire.signed(value)
        elif number == 4 and isinstance(value, bytes):
            content = value
        elif number in (5, 6) and isinstance(value, bytes):
            listed = value
    raw = content or listed
    width = {FLOAT: 4, DOUBLE: 8}.get(kind, 0)
    return float(struct.unpack("<f" if width == 4 else "<d", raw)[0]) if width and len(raw) == width else None
