"""NCCL Inspector logs: one JSON object per finished collective, written by NCCL's own profiler plugin.

NCCL counts calls per communicator and function, so the operation belongs to the key that joins ranks. A record has a
start only in verbose mode; without one it holds a duration, and the late rank is the one with the shortest. `rank` in a
record counts within its communicator: the rank of a process is the one in its largest.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np

from ..contracts import Columns, Reading
from ..errors import Unreadable
from ._bytes import whole
from ._flight_rows import coded
from ._nccl_names import operation
from ._plugin_call import nanoseconds
from ._whole import Whole

SIGNS = (b'"coll_perf"', b'"p2p_perf"', b'"inspector_output_format_version"')


class _Kernel(msgspec.Struct, gc=False):
    kernel_start_ts: float = 0
    kernel_stop_ts: float = 0


class _Trace(msgspec.Struct, gc=False):
    coll_start_ts: float = 0
    p2p_start_ts: float = 0
    kernel_events: list[_Kernel] = []


class _Collective(msgspec.Struct, gc=False):
    coll: str
    coll_sn: Whole
    coll_exec_time_us: float
    coll_msg_size_bytes: Whole = -1
    coll_algo: str = ""
    coll_proto: str = ""
    event_trace_ts: _Trace | None = None


class _Transfer(msgspec.Struct, gc=False):
    p2p: str
    p2p_sn: Whole
    p2p_exec_time_us: float
    p2p_peer: Whole = -1
    p2p_msg_size_bytes: Whole = -1
    event_trace_ts: _Trace | None = None


class _Header(msgspec.Struct, gc=False):
    id: str | int = ""
    comm_name: str = ""
    rank: Whole = -1
    n_ranks: Whole = -1


class _Metadata(msgspec.Struct, gc=False):
    inspector_output_format_version: str = ""
    hostname: str = ""


class _Record(msgspec.Struct, gc=False):
    header: _Header | None = None
    metadata: _Metadata | None = None
    coll_perf: _Collective | None = None
    p2p_perf: _Transfer | None = None
    id: str | int = ""  # older output has no header: its fields stand here
    rank: Whole = -1
    n_ranks: Whole = -1
    hostname: str = ""


class _Row(msgspec.Struct, gc=False):
    """One call, with what both kinds of records have in common."""

    head: _Header
    op: str
    number: int
    spent_us: float
    message_bytes: int
    algo: str
    proto: str
    peer: int
    trace: _Trace | None


class NcclInspector:
    """Reads the JSON lines of NCCL Inspector, output v4 and later, plain or gzip, whole or cut."""

    format: ClassVar[str] = "nccl-inspector"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1: how surely `head` begins an Inspector log."""
        return 0.97 if head.lstrip().startswith(b"{") and any(sign in head for sign in SIGNS) else 0.0

    def read(self, path: Path) -> Reading:
        """Return `collectives` and `groups` of one process; raises Unreadable where no line holds a call."""
        content, damage = whole(path)
        records, bad = _records(content)
        rows = [row for record in records if (row := _row(record)) is not None]
        if not rows:
            raise Unreadable("no call in the log", "was the plugin loaded, and did calls exceed its smallest size?")
        biggest = max((row.head for row in rows), key=lambda head: head.n_ranks)
        rank = biggest.rank
        reading = Reading(str(path), self.format, rank=rank, node=_host(records), events=len(rows))
        reading.world_size = biggest.n_ranks
        versions = {r.metadata.inspector_output_format_version for r in records if r.metadata} - {""}
        problems = [damage] if damage else []
        problems += [f"{bad} lines do not parse"] if bad else []
        problems += [f"{len(versions)} output versions are mixed"] if len(versions) > 1 else []
        if problems:
            reading.status, reading.error = "partial", "; ".join(problems)
        calls = _collectives(rows, rank, str(biggest.id))
        reading.batches = [("collectives", calls), ("groups", _groups(rows, rank))]
        marks = np.array([row.number for row in rows], dtype=np.int64).tobytes() + calls["duration_ns"].tobytes()
        reading.fingerprint = blake2b(marks + b"%d" % rank, digest_size=16).hexdigest()
        return reading


def _records(content: bytes) -> tuple[list[_Record], int]:
    """Return the records, and how many lines hold something else."""
    decoder = msgspec.json.Decoder(_Record)
    try:
        return decoder.decode_lines(content), 0
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    found: list[_Record] = []
    lines = [line for line in content.splitlines() if line.strip()]
    for line in lines:
        try:
            found.append(decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    return found, len(lines) - len(found)


def _row(record: _Record) -> _Row | None:
    head = record.header or _Header(record.id, "", record.rank, record.n_ranks)
    call, transfer = record.coll_perf, record.p2p_perf
    if call is not None:
        return _Row(head, operation(call.coll), call.coll_sn, call.coll_exec_time_us, call.coll_msg_size_bytes,
                    call.coll_algo, call.coll_proto, -1, call.event_trace_ts)  # fmt: skip
    if transfer is not None:
        return _Row(head, operation(transfer.p2p), transfer.p2p_sn, transfer.p2p_exec_time_us,
                    transfer.p2p_msg_size_bytes, "", "", transfer.p2p_peer, transfer.event_trace_ts)  # fmt: skip
    return None


def _host(records: list[_Record]) -> str:
    for record in records:
        name = record.metadata.hostname if record.metadata else record.hostname
        if name:
            return name
    return ""


def _collectives(rows: list[_Row], rank: int, world: str) -> dict[str, Any]:
    seen: dict[str, int] = {}
    keys = [_key(row, rank, world, seen) for row in rows]
    known = nanoseconds(np.array([_times(row.trace) for row in rows], dtype=float))
    peers = [row.peer if str(row.head.id) == world else -1 for row in rows]
    return {
        "job": "job", "rank": rank, "group": coded([key[0] for key in keys]),
        "op_class": coded([key[1] for key in keys]), "seq": np.array([key[2] for key in keys], dtype=np.int64),
        "group_size": np.array([row.head.n_ranks if row.peer < 0 else 2 for row in rows], dtype=np.int64),
        "op": coded([row.op for row in rows]), "algo": coded([_told(row.algo) for row in rows]),
        "proto": coded([_told(row.proto) for row in rows]), "peer": np.array(peers, dtype=np.int64),
        "message_bytes": np.array([row.message_bytes for row in rows], dtype=np.int64),
        "ready_ns": known[:, 0], "start_ns": known[:, 0], "end_ns": known[:, 1],
        "duration_ns": nanoseconds(np.array([row.spent_us for row in rows], dtype=float)), "blocking": False,
        "state": "completed", "source": NcclInspector.format,
    }  # fmt: skip


def _key(row: _Row, rank: int, world: str, seen: dict[str, int]) -> tuple[str, str, int]:
    """Return group, op_class and seq. Transfers are counted per channel: their number counts over all peers."""
    group = str(row.head.id)
    if row.peer < 0:
        return group, row.op, row.number
    ends = (row.head.rank, row.peer) if row.op == "send" else (row.peer, row.head.rank)
    channel = f"p2p:{ends[0]}-{ends[1]}" if group == world else f"p2p:{group}:{ends[0]}-{ends[1]}"
    seen[channel] = seen.get(channel, 0) + 1
    return channel, "p2p", seen[channel]


def _times(trace: _Trace | None) -> tuple[float, float]:
    """Return (arrival, end) in microseconds, 0 where unknown: the host enqueues early, so the kernel's start counts."""
    if trace is None:
        return 0.0, 0.0
    starts = [kernel.kernel_start_ts for kernel in trace.kernel_events if kernel.kernel_start_ts > 0]
    stops = [kernel.kernel_stop_ts for kernel in trace.kernel_events if kernel.kernel_stop_ts > 0]
    return min(starts, default=trace.coll_start_ts or trace.p2p_start_ts), max(stops, default=0.0)


def _groups(rows: list[_Row], rank: int) -> Columns:
    heads = {str(row.head.id): row.head for row in rows}
    return {
        "job": "job", "group": coded(list(heads)), "rank": np.full(len(heads), rank),
        "description": coded([_told(head.comm_name) for head in heads.values()]),
        "group_size": np.array([head.n_ranks for head in heads.values()], dtype=np.int64),
        "source": NcclInspector.format,
    }  # fmt: skip


def _told(text: str) -> str:
    return "" if text.lower() == "unknown" else text
