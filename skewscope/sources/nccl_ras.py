"""Saved reports of NCCL RAS: what `ncclras`, `ncclras -v`, `ncclras -f json` or `ncclras -m` print, one or many.

A count of launched calls is no proof: NCCL launches ahead, so ranks a call apart are usual in a running job. A rank is
taken to be behind where two reports some time apart tell the same uneven counts, or where a single one tells that it
lacks two calls or more. Reports of several files are put in order by their time (JSON), else by when they were written.
Processes that RAS cannot reach become `process-unresponsive` and `process-dead`, after 60 s without an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from .. import ras_report
from ..contracts import Reading
from . import _bytes, _ras_rows, _telemetry_file
from ._lines import ended

LARGEST_BYTES = 1 << 28


class NcclRas:
    """Reads reports of NCCL's RAS."""

    format: ClassVar[str] = _ras_rows.FORMAT

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins reports of RAS."""
        if b'"communicators"' in head and (b'"missing_ranks' in head or b'"collective_counts"' in head):
            return 0.97
        if b"Communicators..." in head and (b"Job summary" in head or b"in group" in head):
            return 0.95
        monitor = b"RAS Monitor Mode" in head or b"] PEER_" in head or b'"PEER_' in head
        return 0.9 if monitor else 0.0

    def read(self, path: Path) -> Reading:
        """Return `collectives`, `groups`, `ranks`, `events`; raises Unreadable for what holds no report."""
        content, damage = _bytes.whole(path, LARGEST_BYTES)
        if b"{" not in content:
            content, damage = ended(content.replace(b"\r\n", b"\n"), damage)
        told, happened = ras_report.reports(content.decode("utf-8", "replace"))
        saved = _ras_rows.Saved(str(path), told, happened, _telemetry_file.changed_ns(path))
        reading = Reading(str(path), self.format, job={"join": put_together, "ras": saved})
        _fill(reading, _ras_rows.batches([saved])[0])
        if damage:
            reading.status, reading.error = "partial", damage
        return reading


def put_together(readings: Sequence[Reading]) -> dict[str, str]:
    """Compare the reports of all files: a job stands still where they tell the same; refuses none."""
    saved = [reading.job.pop("ras") for reading in readings]
    if len(saved) > 1:
        for reading, made in zip(readings, _ras_rows.batches(saved), strict=True):
            _fill(reading, made)
    return {}


def _fill(reading: Reading, made: _ras_rows.Made) -> None:
    reading.batches, reading.warnings, reading.world_size = made.batches, made.warnings, made.world
    reading.events = made.reports
