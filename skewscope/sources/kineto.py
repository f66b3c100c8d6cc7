"""Reads PyTorch profiler traces (Kineto / Chrome trace JSON), in blocks, with memory that does not grow with the file.

Formats: absolute microseconds (old) and microseconds since `baseTimeNanoseconds` (kineto output_json.cpp, 2024 on).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..contracts import Coded, Columns, Reading
from ..errors import Unreadable
from ._bytes import COPY_AGAIN
from ._kineto_call_rows import CallRows
from ._kineto_calls import CallTable, add_kernels
from ._kineto_columns import Array, compact
from ._kineto_detail import detail_tables
from ._kineto_gloo import add_host_calls
from ._kineto_identity import Group, Identity, fingerprint, identity, known_groups
from ._kineto_ops import CPU, LONG_NS, OPS, coded, op_table
from ._kineto_ranges import ranged
from ._kineto_rows import Rows
from ._kineto_scan import Ask, Scan, scan
from ._kineto_steps import Marks, marks, step_table

BLOCK_BYTES = 1 << 20
RANGE_BYTES = 1 << 26
SURE = (b'"traceEvents"', b'"deviceProperties"', b'"baseTimeNanoseconds"', b'"distributedInfo"')
LISTED_MEMBERS = 64  # of a larger group each file tells its own rank only


@dataclass(frozen=True)
class Kineto:
    """Source of Kineto traces; `block_bytes` of text are held at a time, a process is given `range_bytes` at once."""

    format: ClassVar[str] = "kineto"
    block_bytes: int = BLOCK_BYTES
    range_bytes: int = RANGE_BYTES

    def sniff(self, head: bytes, name: str) -> float:
        """Return how surely the first (decompressed) bytes are of a Chrome trace.

        >>> Kineto().sniff(b'{"schemaVersion": 1, "traceEvents": [', "x.json"), Kineto().sniff(b'{"a": 1}', "x.json")
        (0.95, 0.0)
        """
        text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
        if text.startswith(b"{"):
            if any(word in text for word in SURE):
                return 0.95
            return 0.3 if b'"schemaVersion"' in text or ".pt.trace.json" in name else 0.0
        likely = text.startswith(b"[") and b'"ph"' in text and b'"ts"' in text
        return 0.6 if likely else 0.0

    def read(self, path: Path) -> Reading:
        """Read one trace file. Raises Unreadable where it holds no timed event.

        A damaged file gives status "partial", with all whole events before and around the damage.
        """
        return self._read(path)

    def read_detail(self, path: Path) -> Reading:
        """Read one trace file as `read` does, with `operators`, `device_work` and `allocations`."""
        return self._read(path, detail=True)

    def read_ranges(self, path: Path, workers: int, detail: bool = False) -> Reading:
        """Read one large file as `read` or `read_detail` do, in ranges of its bytes, by several processes."""
        return self._read(path, workers, detail=detail)

    def _read(self, path: Path, workers: int = 1, *, detail: bool = False) -> Reading:
        ask = Ask(path, self.block_bytes, detail=detail)
        found = self._scan(ask, workers)
        kept = found.detail
        if not (found.rows.host or len(found.rows.device) or len(found.rows.calls)):
            # A device was present, but none of its work was recorded.
            found = self._scan(replace(ask, host=True, detail=False), workers)
        return _reading(path, found, kept)

    def _scan(self, ask: Ask, workers: int) -> Scan:
        found = ranged(ask, self.range_bytes, workers) if workers > 1 else None
        return found or scan(ask)


def _reading(path: Path, found: Scan, detail: CallRows | None) -> Reading:
    rows, who = found.rows, identity(found.header, path.name)
    if not rows.timed:
        _refuse(found)
    mark = marks(rows)
    groups = known_groups(who, rows.groups)
    calls = CallTable()
    warnings = add_kernels(calls, rows, mark, who.rank)
    if rows.host and not len(rows.device):
        own = [group.name for group in who.groups.values()]
        add_host_calls(calls, rows, mark, who.rank, own[0] if len(own) == 1 else "")
    reading = Reading(
        path=str(path), format=Kineto.format, rank=who.rank, node=who.node, world_size=who.world_size,
        events=found.decoder.events, warnings=warnings + _warnings(found, mark, who),
        fingerprint=fingerprint(who, who.base_ns + rows.first_ns, found.decoder.events),
    )  # fmt: skip
    reading.status, reading.error = _state(found)
    if who.parallelism:
        reading.job["parallelism"] = who.parallelism
    if who.gpu_model:
        reading.job["gpu_model"] = who.gpu_model
    if who.node and who.rank >= 0:
        reading.job["hosts"] = {who.rank: who.node}
    every: list[tuple[str, Columns]] = [
        ("steps", _steps(rows, mark, who)), ("ops", _ops(rows, mark, who)), ("collectives", _calls(calls, who)),
        ("groups", _groups(groups, who)),
    ]  # fmt: skip
    if detail is not None:
        every += [(name, _moved(columns, who)) for name, columns in detail_tables(detail, rows, mark)]
    reading.batches = [
        (table, {"job": "job", "source": Kineto.format, **columns}) for table, columns in every if columns
    ]
    return reading


def _refuse(found: Scan) -> None:
    if found.decoder.events and not found.cut and not found.damage:
        raise Unreadable("the trace holds metadata only, no timed event", "profile at least one whole step")
    if found.damage or found.cut:
        raise Unreadable(f"no whole event before the end: {found.damage or 'the JSON is cut'}", COPY_AGAIN)
    raise Unreadable("the list of events is empty or holds none of a trace", "profile at least one whole step")


def _state(found: Scan) -> tuple[str, str]:
    """Return status and error of what was read."""
    kept = f"{found.decoder.events} events before that were read"
    if found.damage:
        return "partial", f"{found.damage}; {kept}; {COPY_AGAIN}"
    if found.cut:
        return "partial", f"the JSON ends inside the list of events; {kept}; {COPY_AGAIN}"
    if found.decoder.lost:
        return "partial", f"{found.decoder.lost} events are not valid JSON and were left out; export the trace again"
    return "ok", ""


def _warnings(found: Scan, mark: Marks, who: Identity) -> list[str]:
    said = []
    if not len(mark.host.number) and not len(mark.device.number):
        said.append("no step marks (ProfilerStep#N): call the profiler's step() once per step")
    if who.rank < 0:
        said.append("no rank in the trace or the file name: name the file rankN.json")
    if found.rows.clamped:
        said.append(f"{found.rows.clamped} events with a negative duration were taken as 0 long")
    if found.decoder.mended:
        said.append(f"{found.decoder.mended} events held text that JSON forbids; they were repaired")
    return said


def _absolute(moment: Array, base_ns: int, *, known: Array | None = None) -> Array:
    """Return ns since the epoch, in place; rows that are not `known` become -1."""
    moment += np.int64(base_ns)
    if known is not None:
        moment[~known] = -1
    return moment


def _steps(rows: Rows, mark: Marks, who: Identity) -> dict[str, Any]:
    found: dict[str, Any] = step_table(rows, mark)
    if not len(found["step"]):
        return {}
    for name in ("start_ns", "end_ns"):
        found[name] = _absolute(found[name], who.base_ns)
    return {**found, "phase": found["phase"].tolist(), "rank": who.rank}


def _ops(rows: Rows, mark: Marks, who: Identity) -> dict[str, Any]:
    found = op_table(rows, mark)
    length = found["end"] - found["start"]
    if not len(length):
        return {}
    keep = (found["op"] == CPU) & (length > LONG_NS)
    return {
        "rank": who.rank, "step": found["step"], "op": compact(found["op"], OPS), "stream": found["stream"],
        "name": coded(found["names"], found["name"], length, keep), "message_bytes": found["bytes"],
        "start_ns": _absolute(found["start"], who.base_ns), "end_ns": _absolute(found["end"], who.base_ns),
        "launch_ns": _absolute(found["launch"], who.base_ns, known=found["launch"] >= 0),
        "launch_end_ns": _absolute(found["launch_end"], who.base_ns, known=found["launch_end"] >= 0),
    }  # fmt: skip


def _moved(columns: dict[str, Any], who: Identity) -> dict[str, Any]:
    """Return columns of a detailed table for this rank; times become ns since the epoch."""
    for name in ("t_ns", "start_ns", "end_ns", "launch_ns", "launch_end_ns"):
        if name in columns:
            launch = name.startswith("launch")
            columns[name] = _absolute(columns[name], who.base_ns, known=columns[name] >= 0 if launch else None)
    return {"rank": who.rank, **columns} if columns else {}


def _calls(table: CallTable, who: Identity) -> dict[str, Any]:
    found = table.batch()
    if not len(found["start"]):
        return {}
    base = who.base_ns
    times = {f"{name}_ns": _absolute(found.pop(name), base, known=_completed(found["state"]))
             for name in ("start", "end")}  # fmt: skip
    return {"rank": who.rank, "ready_ns": _absolute(found.pop("ready"), base), **times,
            "message_bytes": found.pop("bytes"), **found}  # fmt: skip


def _completed(state: Coded) -> Array:
    return np.isin(state.codes, [code for code, word in enumerate(state.values) if word == "completed"])


def _groups(groups: dict[str, Group], who: Identity) -> dict[str, Any]:
    """Return all members of small groups, and of large ones this rank."""
    rows = [
        (group, rank)
        for group in groups.values()
        for rank in (group.ranks if group.size <= LISTED_MEMBERS else (who.rank,) if who.rank >= 0 else ())
    ]
    if not rows:
        return {}
    return {
        "group": [group.name for group, _ in rows], "rank": [rank for _, rank in rows],
        "description": [group.description for group, _ in rows], "group_size": [group.size for group, _ in rows],
    }  # fmt: skip
