"""Rings that the hook wrote beside a job, and the archive segments that the agent kept of them.

A ring holds the newest records of one rank, segments the older ones; what stands in several files counts once. Records
say when a rank called a collective and when the call was over, how long its phases lasted and which step it was in.
Times are the machine's monotonic clock: they become the world's by the pair of clock readings in the header, one pair
for all ranks of a machine, so that their order is kept as it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ..contracts import Reading
from . import _ring_join, _ring_records, _ring_steps, _ring_tables
from ._bytes import GZIP_MAGIC


class RingSpool:
    """Reads `*.ring` and `*.ring.gz`."""

    format: ClassVar[str] = "ring-spool"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1; a file that is only called a ring gets 0.3, so that its refusal is told."""
        if _ring_records.is_ring(head):
            return 0.99
        return 0.3 if name.endswith((".ring", ".ring.gz")) and not head.startswith(GZIP_MAGIC) else 0.0

    def read(self, path: Path) -> Reading:
        """Return calls, steps, activity, expert loads and marks of one rank; raises Unreadable for what is no ring."""
        part = _ring_records.read(path)
        header = part.header
        reading = Reading(str(path), self.format, header.rank, header.node, header.world_size, len(part.records))
        if part.damage:
            reading.status, reading.error = "partial", "; ".join(part.damage)
        if header.internal_errors:
            reading.warnings.append(f"the hook counted {header.internal_errors} errors: calls may be missing")
        offset_ns = header.realtime_ns - header.monotonic_ns
        span = _ring_steps.counted([part.records])
        reading.batches = _ring_tables.batches(header, part.records, offset_ns, span)
        reading.job = {"parallelism": _ring_tables.parallelism(header), "part": part, "made": (offset_ns, span),
                       "join": _ring_join.join}  # fmt: skip
        reading.fingerprint = f"{path.name} {_ring_records.writer(header)}"
        return reading
