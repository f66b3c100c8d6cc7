"""AMD's profilers of ROCm: rocprofv3 (JSON, CSV, and the SQLite of rocpd), rocprof and rocprofv2 (CSV), and RPD files.

Times count from the start of the host, not from 1970. CSV files of one process (kernel_trace, hip_api_trace,
memory_copy_trace, marker_api_trace with one beginning of the name) are put together when they are read together.
PyTorch's own traces on ROCm are Kineto traces.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ..contracts import Reading
from ..errors import Unreadable
from . import _device_tables, _rocprof_csv, _rocprof_database, _rocprof_json
from ._bytes import COPY_AGAIN, head, whole
from ._rocprof_run import Run
from ._sqlite_file import MAGIC, opened

JSON = b'"rocprofiler-sdk-tool"'
ROCPD = (b"rocpd_kernel_dispatch", b"rocpd_info_", b"rocpd_api", b"rocpd_metadata", b"rocpd_string")
HOST_CLOCK = "times count from the start of the host, not from 1970"


class Rocprof:
    """Reads what rocprof, rocprofv2, rocprofv3 and RPD write."""

    format: ClassVar[str] = "rocprof"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins a profile of ROCm; any other SQLite database is a faint maybe.

        >>> Rocprof().sniff(b'{"rocprofiler-sdk-tool": [', ""), Rocprof().sniff(b"step,loss", "kernel_trace.csv")
        (0.97, 0.0)
        """
        if head.startswith(MAGIC):
            return 0.95 if any(sign in head for sign in ROCPD) else 0.2
        if head.lstrip().startswith(b"{"):
            return 0.97 if JSON in head[:4096] else 0.0
        return 0.93 if _rocprof_csv.form(head.split(b"\n", 1)[0].decode("utf-8", "replace")) else 0.0

    def read(self, path: Path) -> Reading:
        """Return `steps`, `ops` and `collectives`; raises Unreadable where nothing was recorded."""
        return _read(path, detail=False)

    def read_detail(self, path: Path) -> Reading:
        """Return what `read` does, and `operators` and `device_work`."""
        return _read(path, detail=True)


def _read(path: Path, *, detail: bool) -> Reading:
    run = _run(path, detail=detail)
    run.processes = [process for process in run.processes if process.rows]
    if not run.processes:
        raise Unreadable(
            "no kernel, copy, call or range in the profile" + (f" ({run.damage})" if run.damage else ""),
            COPY_AGAIN if run.damage else "profile with --kernel-trace --memory-copy-trace --hip-trace",
        )
    found = [_device_tables.tables(process, 0, Rocprof.format, detail=detail) for process in run.processes]
    ranks = sorted({process.rank for process in run.processes})
    reading = Reading(
        str(path), Rocprof.format, rank=ranks[0] if len(ranks) == 1 else -1, node=run.node, world_size=run.world_size,
        events=run.events, warnings=[HOST_CLOCK, *run.warnings, *_device_tables.said(found)],
        batches=[batch for one in found for batch in one.batches],
    )  # fmt: skip
    if run.node:
        reading.job["hosts"] = {rank: run.node for rank in ranks if rank >= 0}
    if run.part:
        reading.job |= {"join": _rocprof_csv.join, "part": run.part}
    if run.damage:
        reading.status, reading.error = "partial", f"{run.damage}; {run.events} events were read; {COPY_AGAIN}"
    return reading


def _run(path: Path, *, detail: bool) -> Run:
    if head(path, len(MAGIC)) == MAGIC:
        with opened(path) as database:
            return _rocprof_database.run(database)
    content, damage = whole(path)
    if content.lstrip()[:1] == b"{":
        return _rocprof_json.run(content, damage)
    return _rocprof_csv.run(content, damage, path, detail=detail)
