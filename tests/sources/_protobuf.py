"""Writes messages of protocol buffers, as the producers of recordings do."""

from __future__ import annotations


def varint(value: int) -> bytes:
    """Return a whole number, seven bits a byte."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | str | bytes) -> bytes:
    """Return a field; bytes are taken as they are, a number below 0 has the 64 bits of its complement."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value & (2**64 - 1))
    raw = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(raw)) + raw
