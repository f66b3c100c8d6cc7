"""NCCL's debug log (NCCL_DEBUG=INFO or WARN, any NCCL_DEBUG_SUBSYS), of one process or many in one file.

Kept are communicators and their ranks, each call (`opCount` lines of COLL: order, sizes, no end), the transports
between ranks, warnings, and what PyTorch's watchdog wrote between them. Ranks are those of the largest communicator.
A call that some member never made is open where a line says that the job stood still (watchdog, timeout, abort, failed
transfer): a log alone cannot tell a rank that hangs from one that is a few calls behind.
NCCL_DEBUG_TIMESTAMP_LEVELS=ALL and a NCCL_DEBUG_TIMESTAMP_FORMAT with `%6f` give calls a time; times of whole seconds
are too coarse for calls and kept for events alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from ..contracts import Reading
from ..errors import Unreadable
from . import _nccl_log_lines, _nccl_log_places, _nccl_log_rows, _telemetry_file
from ._lines import Lines
from ._nccl_log import CALL_NUMBERS, Log
from ._nccl_log_lines import Listener

LOOK_LINES = 200
PLAIN_SHARE = 0.3  # of the first lines: fewer, and it may be another tool's log with a few of NCCL in it


class NcclDebugLog:
    """Reads what NCCL and PyTorch's watchdog print."""

    format: ClassVar[str] = _nccl_log_places.FORMAT

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely lines of NCCL's log are among the first ones."""
        if b" NCCL " not in head and b"ProcessGroupNCCL" not in head:
            return 0.0
        lines = [line for line in head.split(b"\n")[:LOOK_LINES] if line.strip()]
        ours = sum(_nccl_log_lines.HEAD.search(line) is not None for line in lines)
        if ours:
            return 0.92 if ours >= PLAIN_SHARE * len(lines) else 0.6
        if any(_nccl_log_lines.RAN.search(line) for line in lines):
            return 0.6
        return 0.3 if any(sign in head for sign in _nccl_log_lines.SIGN) else 0.0

    def read(self, path: Path) -> Reading:
        """Return `collectives`, `groups`, `ranks`, `links`, `events`; raises Unreadable where no line is NCCL's."""
        listener, lines = Listener(), Lines(path, ended=True)
        for _, line in lines:
            listener.take(line)
        log = listener.finish()
        log.written_ns = _telemetry_file.changed_ns(path)
        if not log.lines:
            raise Unreadable("no line is one of NCCL's debug log", "run the job with NCCL_DEBUG=INFO")
        reading = Reading(str(path), self.format, job={"join": put_together, "nccl_log": log})
        _fill(reading, log, _nccl_log_rows.batches([log])[0])
        if not reading.batches:
            raise Unreadable("nothing but NCCL's version and settings", "set NCCL_DEBUG_SUBSYS=INIT,COLL,NET")
        if lines.damage:
            reading.status, reading.error = "partial", lines.damage
        return reading


def put_together(readings: Sequence[Reading]) -> dict[str, str]:
    """Give every file the ranks and states that only all of them tell; refuses none."""
    logs = [reading.job.pop("nccl_log") for reading in readings]
    if len(logs) > 1:
        for reading, log, batches in zip(readings, logs, _nccl_log_rows.batches(logs), strict=True):
            _fill(reading, log, batches)
        world = max(reading.world_size for reading in readings)
        for reading in readings:  # a process that made small communicators alone is of the same job
            reading.world_size = world
    return {}


def _fill(reading: Reading, log: Log, batches: Sequence[tuple[str, object]]) -> None:
    reading.batches = list(batches)  # type: ignore[arg-type]
    reading.world_size = max((comm.size for comm in log.comms), default=-1)
    nodes = {comm.process[0] for comm in log.comms}
    reading.node = nodes.pop() if len(nodes) == 1 else ""
    reading.events = len(log.calls) // CALL_NUMBERS + len(log.events) + len(log.watches)
    reading.warnings = _warnings(log)


def _warnings(log: Log) -> list[str]:
    found = []
    lost = sum(comm.rank < 0 and comm.tag < 0 for comm in log.comms)
    if lost:
        found.append(f"{lost} communicators are used whose beginning is not in the log: their ranks are not known; "
                     "set NCCL_DEBUG_SUBSYS=INIT,COLL")  # fmt: skip
    if log.coarse:
        found.append("times of whole seconds are too coarse for calls: set "
                     "NCCL_DEBUG_TIMESTAMP_FORMAT='[%F %T.%6f] '")  # fmt: skip
    if not log.zoned:
        found.append("times without a time zone are read as UTC")
    return found
