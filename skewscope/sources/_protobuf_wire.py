"""The wire format of protocol buffers, as far as reading needs it: fields by number, without any schema compiler.

Source: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
LONGEST_VARINT = 10
SIGN, WORD = 1 << 63, 1 << 64

Field = tuple[int, int | bytes]  # number, value: an integer (varint), else the bytes of the field


def varint(text: bytes, at: int) -> tuple[int, int]:
    r"""Return the unsigned number that begins at `at`, and where it ends. Raises ValueError where it is cut.

    >>> varint(b"\x96\x01", 0)
    (150, 2)
    """
    value = shift = 0
    for place in range(at, min(at + LONGEST_VARINT, len(text))):
        byte = text[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (WORD - 1), place + 1
        shift += 7
    raise ValueError("a number is cut or too long")


def fields(text: bytes) -> Iterator[Field]:
    r"""Yield number and value of each field of a message. Raises ValueError where the message is damaged.

    >>> list(fields(b"\x08\x96\x01\x12\x02hi"))
    [(1, 150), (2, b'hi')]
    """
    at, end = 0, len(text)
    while at < end:
        key = text[at]
        if key < 0x80:
            at += 1
        else:
            key, at = varint(text, at)
        number, kind = key >> 3, key & 7
        if not number:
            raise ValueError("a field has number 0")
        if kind == VARINT:
            value = text[at] if at < end else 0x80
            if value < 0x80:
                at += 1
            else:
                value, at = varint(text, at)
            yield number, value
            continue
        if kind == BYTES:
            size, at = varint(text, at)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"a field has wire type {kind}")
        if at + size > end:
            raise ValueError("a field is cut")
        yield number, text[at : at + size]
        at += size


def signed(value: int | bytes) -> int:
    """Return a field of type int64; 0 for a field of another form.

    >>> signed(2**64 - 1), signed(7)
    (-1, 7)
    """
    if not isinstance(value, int):
        return 0
    return value - WORD if value >= SIGN else value


def text(value: int | bytes) -> str:
    """Return a field of type string; "" for a field of another form."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def real(value: int | bytes) -> float:
    """Return a field of type float or double by its length; NaN for a field of another form.

    >>> real(struct.pack("<f", 0.5)), real(struct.pack("<d", 0.25))
    (0.5, 0.25)
    """
    if isinstance(value, bytes) and len(value) in (4, 8):
        return float(struct.unpack("<f" if len(value) == 4 else "<d", value)[0])
    return float("nan")


def integers(value: int | bytes) -> list[int]:
    """Return a repeated field of integers, packed or single.

    >>> integers(bytes([1, 2])), integers(3)
    ([1, 2], [3])
    """
    if isinstance(value, int):
        return [value]
    found, at = [], 0
    while at < len(value):
        one, at = varint(value, at)
        found.append(one)
    return found
