"""What an export of Nsight Systems holds comes back, whichever of its tables and columns the exporter wrote."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources.nsys_sqlite import NsysSqlite

BEGAN_NS = 1_790_857_026_000_000_000
SHIFT = 1 << 24  # a global id is process and thread
COPIES = {1: "HtoD", 2: "DtoH", 8: "DtoD", 10: "PtoP", 99: ""}
REDUCE = "ncclDevKernel_AllReduce_Sum_f32_RING_LL(x)"
COLLECTIVES = {REDUCE: ("all_reduce", "ring", "ll"), "ncclKernel_Broadcast": ("broadcast", "", "")}
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)

process = st.tuples(st.integers(0, 1), st.sampled_from([0, 1, 5, 10]))  # its device, and how much it does there


@dataclass
class Export:
    """Rows of the tables to be written, and for each process what is to come back; times as recorded."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    strings: dict[str, int] = field(default_factory=dict)
    steps: dict[int, list[tuple[Any, ...]]] = field(default_factory=dict)  # by process: step, phase, start, end
    work: dict[int, list[tuple[Any, ...]]] = field(default_factory=dict)  # op, name, stream, start, end, bytes, launch

    def add(self, table: str, **row: Any) -> None:
        self.rows.setdefault(table, []).append(row)

    def text(self, text: str) -> int:
        return self.strings.setdefault(text, len(self.strings) + 1)

    def ranges(self, chance: Random, pid: int, begin: int) -> None:
        """Add steps that follow each other on one thread, each perhaps with a forward pass in it."""
        own = self.steps.setdefault(pid, [])
        for number in chance.sample([0, 3, 4, 10**14], chance.choice([0, 2, 3])):
            end = begin + chance.choice([1, 100, 10**9])
            told = [(number, "step", begin, end), (number, "forward", begin, begin + (end - begin) // 2)]
            for step, phase, start, until in told[: chance.choice([1, 2])]:
                name = f"step {step}" if phase == "step" else "forward"
                inline = chance.random() < 0.5
                self.add("NVTX_EVENTS", start=start, end=until, eventType=59, globalTid=pid * SHIFT + 1,
                         text=name if inline else None, textId=None if inline else self.text(name))  # fmt: skip
                own.append((step, phase, start, until))
            begin = end + chance.choice([0, 5])

    def device(self, chance: Random, pid: int, device: int, begin: int, rows: int, text: str) -> None:
        """Add work of one process; what has no call beside it, or ends before it begins, may be in any export."""
        own, one = self.work.setdefault(pid, []), chance.choice
        for row in range(rows):
            start, stream, moved = begin + one([0, 1, 50, 50, 10**9, chance.randrange(2**60)]), one([7, 2**31 - 1]), -1
            end = start + one([0, 0, 1, 500, -1])
            at = {"start": start, "end": end, "deviceId": device, "streamId": stream, "correlationId": row + 1,
                  "globalPid": pid * SHIFT}  # fmt: skip
            kind = one(["KERNEL", "KERNEL", "KERNEL", "MEMCPY", "MEMSET", "GRAPH_TRACE"])
            if kind == "KERNEL":
                name = one([*COLLECTIVES, f"gemm {text}", text, None])
                code = 999 if name is None else self.text(name)
                if name in COLLECTIVES:
                    at["streamId"] = stream = row  # of equal times the order of streams counts
                self.add(kind, **at, demangledName=code, shortName=self.text("short"))
                name = "kernel 999" if name is None else name
            elif kind == "MEMCPY":
                copy, moved = one([*COPIES]), one([0, 4096, 2**62])
                self.add(kind, **at, bytes=moved, copyKind=copy, srcKind=1, dstKind=2)
                name = COPIES[copy]
            elif kind == "MEMSET":
                moved, name = 64, ""
                self.add(kind, **at, bytes=moved, memKind=2)
            else:
                self.add(kind, **at, graphId=row)
                name, end = f"CUDA graph {row}", max(end, start)
            launch, over = -1, -1
            if chance.random() < 0.7:
                launch, over = max(start - one([0, 1, 60]), 0), start
                self.add("RUNTIME", start=launch, end=over, globalTid=pid * SHIFT + one([1, 2]), correlationId=row + 1,
                         nameId=self.text("cudaLaunchKernel_v7000"))  # fmt: skip
            if end >= start:
                op = "kernel" if kind == "GRAPH_TRACE" else kind.lower()
                own.append((op, name, stream, start, end, moved, launch, over))

    def write(self, path: Path, chance: Random, zero: str) -> None:
        with closing(sqlite3.connect(path)) as sql:
            sql.executescript("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF;")
            sql.execute("CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT)")
            sql.executemany(
                "INSERT INTO StringIds VALUES (?, ?)", [(code, text) for text, code in self.strings.items()]
            )
            if zero == "told":
                sql.execute("CREATE TABLE TARGET_INFO_SESSION_START_TIME (utcEpochNs INTEGER)")
                sql.execute("INSERT INTO TARGET_INFO_SESSION_START_TIME VALUES (?)", (BEGAN_NS,))
            for table, rows in self.rows.items():
                place = table if table == "NVTX_EVENTS" else f"CUPTI_ACTIVITY_KIND_{table}"
                names = chance.sample(list(rows[0]), len(rows[0]))
                sql.execute(f"CREATE TABLE {place} ({', '.join(f'[{name}]' for name in names)})")
                values = [tuple(row[name] for name in names) for row in chance.sample(rows, len(rows))]
                sql.executemany(f"INSERT INTO {place} VALUES ({', '.join('?' * len(names))})", values)  # noqa: S608
            sql.commit()


def step_of(told: list[tuple[Any, ...]], moment: int) -> int:
    return next((step for step, phase, start, end in told if phase == "step" and start <= moment < end), -1)


def rows_of(export: Export, pid: int, rank: int, base: int) -> tuple[list[Any], list[Any]]:
    """Return the rows of `ops` and `collectives` of one process."""
    ops, calls, told = [], [], export.steps.get(pid, [])
    turns: Counter[str] = Counter()
    for op, name, stream, start, end, moved, launch, over in sorted(
        export.work[pid], key=lambda one: (*one[3:5], one[2])
    ):
        step = step_of(told, launch if launch >= 0 else start)
        if op == "kernel" and name in COLLECTIVES:
            kind, algo, proto = COLLECTIVES[name]
            calls.append((rank, kind, turns[kind], step, stream, start + base, end + base, algo, proto))
            turns[kind] += 1
        else:
            at = (launch + base, over + base) if launch >= 0 else (-1, -1)
            ops.append((rank, op, name, stream, start + base, end + base, moved, *at, step))
    return ops, calls


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(process, min_size=2, max_size=3) | st.lists(process, min_size=1, max_size=1),
    st.randoms(use_true_random=True), st.sampled_from(["told", "absolute", "unknown"]), texts,
)  # fmt: skip
def test_what_was_exported_comes_back(
    tmp_path: Path, processes: list[Any], chance: Random, zero: str, text: str
) -> None:
    """Processes are ranks by device, then by id; the numbers of their calls may be the same."""
    export, begin = Export(), BEGAN_NS if zero == "absolute" else 0
    pids = chance.sample([50, 60, 2**23], len(processes))
    for pid, (device, rows) in zip(pids, processes, strict=True):
        export.ranges(chance, pid, begin + chance.choice([0, 40]))
        export.device(chance, pid, device, begin + 100, rows, text)
    path = tmp_path / "export.sqlite"
    path.unlink(missing_ok=True)
    export.write(path, chance, zero)
    worked = sorted((device, pid) for pid, (device, _) in zip(pids, processes, strict=True) if export.work[pid])
    worked = worked or [(-1, pid) for pid in sorted(pid for pid in pids if export.steps[pid])]
    if not worked:
        with pytest.raises(Unreadable):
            NsysSqlite().read(path)
        return
    base = BEGAN_NS if zero == "told" else 0
    reading = NsysSqlite().read(path)
    columns = {
        "steps": ["rank", "step", "phase", "start_ns", "end_ns"],
        "ops": ["rank", "op", "name", "stream", "start_ns", "end_ns", "message_bytes", "launch_ns", "launch_end_ns",
                "step"],
        "collectives": ["rank", "op", "seq", "step", "stream", "start_ns", "end_ns", "algo", "proto"],
    }  # fmt: skip
    want: dict[str, list[Any]] = {name: [] for name in columns}
    found: dict[str, list[Any]] = {name: [] for name in columns}
    for turn, (_, pid) in enumerate(worked):
        rank = turn if len(worked) > 1 else -1
        want["steps"] += [
            (rank, step, phase, start + base, end + base) for step, phase, start, end in export.steps[pid]
        ]
        for name, rows in zip(("ops", "collectives"), rows_of(export, pid, rank, base), strict=True):
            want[name] += rows
    for name, one in reading.batches:
        if name in found:
            found[name] += frame(name, one)[columns[name]].itertuples(index=False, name=None)
    for name in columns:
        assert sorted(found[name]) == sorted(want[name]), name
    assert (reading.status, reading.world_size) == ("ok", len(worked) if len(worked) > 1 else -1)
    assert any("does not tell when" in line for line in reading.warnings) == (zero == "unknown")
