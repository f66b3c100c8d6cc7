"""The ring file that a rank writes and the agent and the analysis read: layout, writer, reader.

Standard library only, but for the checksum of isal where there is one.

A ring is one file of one rank: a header of 4096 bytes, then `capacity` records of 64 bytes, little-endian, record
number n (from 1) in slot (n - 1) mod capacity. Each record ends with a CRC-32 of the rest, so a reader in another
process needs no lock: a record that is half written or overwritten fails its check. The file outlives its writer.

All times are CLOCK_MONOTONIC nanoseconds, which ranks of one node share; the header keeps a pair of (monotonic,
realtime) readings to place them in the world's time.
"""

from __future__ import annotations

from .layout import (
    BLOCKING,
    CAPACITY,
    FAILED,
    GROUPS,
    HEADER_BYTES,
    KINDS,
    OPS,
    PHASES,
    RECORD,
    RECORD_BYTES,
    UNITS,
    Begun,
    Group,
    Header,
)  # fmt: skip
from .reader import Drained, RingReader, read_header, valid_records
from .writer import RingWriter, ring_name

__all__ = [
    "BLOCKING", "CAPACITY", "FAILED", "GROUPS", "HEADER_BYTES", "KINDS", "OPS", "PHASES", "RECORD", "RECORD_BYTES",
    "UNITS",
    "Begun", "Drained", "Group", "Header", "RingReader", "RingWriter", "read_header", "ring_name", "valid_records",
]  # fmt: skip
