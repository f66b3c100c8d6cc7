"""Nsight Systems' SQLite exports (`nsys export --type sqlite`): kernels, copies, launches, ranges of NVTX.

Which tables there are depends on what was traced and on the version of the exporter; what is missing is left out.
One file may hold several processes: each is a rank. Times count from the start of the session, whose UTC time is in
TARGET_INFO_SESSION_START_TIME since exporters of 2021.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..contracts import Columns, Reading
from ..errors import Unreadable
from . import _device_tables, _nsys_activity, _nsys_identity, _nsys_nccl
from ._bytes import COPY_AGAIN
from ._device_trace import Process
from ._nsys_identity import Identity
from ._sqlite_file import MAGIC, Database, opened

SIGNS = (
    b"CUPTI_ACTIVITY_KIND_", b"TARGET_INFO_", b"ENUM_NSYS_", b"NVTX_EVENTS", b"ANALYSIS_DETAILS", b"META_DATA_CAPTURE",
)  # fmt: skip
TABLES = (
    "StringIds", "ENUM_NSYS_EVENT_TYPE", "META_DATA_EXPORT", "EXPORT_META_DATA", "CUPTI_ACTIVITY_KIND_RUNTIME",
    "CUPTI_ACTIVITY_KIND_KERNEL", "NVTX_EVENTS",
)  # fmt: skip
TOLD_TABLES = 6


class NsysSqlite:
    """Reads exports of Nsight Systems."""

    format: ClassVar[str] = "nsys-sqlite"

    def sniff(self, head: bytes, name: str) -> float:
        r"""Return 0..1: how surely `head` begins such a database; any other SQLite database is a faint maybe.

        >>> NsysSqlite().sniff(b"SQLite format 3\0.. TARGET_INFO_GPU", ""), NsysSqlite().sniff(b"PK", "x.sqlite")
        (0.95, 0.0)
        """
        if not head.startswith(MAGIC):
            return 0.0
        return 0.95 if any(sign in head for sign in SIGNS) else 0.3

    def read(self, path: Path) -> Reading:
        """Return `steps`, `ops`, `collectives`, `groups` and `ranks`; raises Unreadable where there is no activity."""
        return _read(path, detail=False)

    def read_detail(self, path: Path) -> Reading:
        """Return what `read` does, and `operators`, `device_work` and `allocations`."""
        return _read(path, detail=True)


def _read(path: Path, *, detail: bool) -> Reading:
    with opened(path) as database:
        if not any(table in database.columns for table in TABLES):
            raise Unreadable(_strange(database), "give a file of `nsys export --type sqlite`")
        processes, seen = _nsys_activity.processes(database, detail=detail)
        if not processes:
            raise Unreadable(_empty(database), COPY_AGAIN if database.damage else "trace with --trace=cuda,nvtx")
        calls = _nsys_nccl.recorded(database)
        who = _nsys_identity.identity(database, processes, calls)
        for key, process in processes.items():
            process.rank = who.ranks[key]
            process.told = _nsys_nccl.told(calls, process)
        found = [_device_tables.tables(process, who.base_ns, NsysSqlite.format, detail=detail)
                 for process in processes.values()]  # fmt: skip
        batches = [batch for one in found for batch in one.batches]
        if detail:
            batches += _nsys_activity.allocations(database, who.ranks, who.base_ns)
        damage = database.damage
    batches += _whose(who, processes, calls)
    ranks = sorted(set(who.ranks.values()))
    reading = Reading(
        str(path), NsysSqlite.format, rank=ranks[0] if len(ranks) == 1 else -1, node=who.node,
        world_size=who.world_size, events=seen, warnings=[*who.warnings, *_device_tables.said(found)], batches=batches,
    )  # fmt: skip
    if who.node:
        reading.job["hosts"] = {rank: who.node for rank in ranks if rank >= 0}
    if damage:
        reading.status, reading.error = "partial", f"{damage}; {seen} events before that were read; {COPY_AGAIN}"
    return reading


def _strange(database: Database) -> str:
    told = ", ".join(sorted(database.columns)[:TOLD_TABLES]) or "no tables"
    return f"an SQLite database, but no export of Nsight Systems: it has {told}"


def _empty(database: Database) -> str:
    reason = "no CUDA activity and no NVTX range in the export"
    return f"{reason} ({database.damage})" if database.damage else reason


def _whose(who: Identity, processes: dict[int, Process], calls: _nsys_nccl.Calls) -> list[tuple[str, Columns]]:
    """Return `ranks` with their GPU, and `groups` as far as communicators told their members."""
    made: list[tuple[str, Columns]] = []
    known = {rank: who.gpus.get(key, (-1, "")) for key, rank in who.ranks.items() if rank >= 0}
    if known:
        made.append(("ranks", {
            "job": "job", "rank": np.array(list(known), dtype=np.int64), "node": who.node,
            "gpu": np.array([gpu for gpu, _ in known.values()], dtype=np.int64),
            "gpu_uuid": [uuid for _, uuid in known.values()],
        }))  # fmt: skip
    members = [(comm, who.ranks[key], size) for (key, comm), (_, size) in calls.members.items() if key in processes]
    if members:
        columns: dict[str, Any] = {
            "job": "job", "group": [one[0] for one in members], "rank": np.array([one[1] for one in members]),
            "group_size": np.array([one[2] for one in members]), "source": NsysSqlite.format,
        }  # fmt: skip
        made.append(("groups", columns))
    return made
