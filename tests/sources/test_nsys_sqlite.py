"""Exports of Nsight Systems: the real one against SQL of our own, and made ones for ranges, NCCL and damage."""

from __future__ import annotations

import gzip
import json
import sqlite3
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources._gather_read import read_one
from skewscope.sources.nsys_sqlite import NsysSqlite

DATA = Path(__file__).parents[2] / "../shared/data/pipit-nsys-sqlite/perlmutter-cloverleaf-cuda.sqlite.gz"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="no shared data")
BEGAN_NS = 1_790_857_026_000_000_000
PID, SHIFT = 4711, 1 << 24
REDUCE = "ncclDevKernel_AllReduce_Sum_f32_RING_LL(x)"


def tables(reading: Any) -> dict[str, pd.DataFrame]:
    found: dict[str, list[pd.DataFrame]] = {}
    for name, columns in reading.batches:
        found.setdefault(name, []).append(frame(name, columns))
    return {name: pd.concat(frames, ignore_index=True) for name, frames in found.items()}


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> sqlite3.Connection:
    path = tmp_path_factory.mktemp("nsys") / "real.sqlite"
    path.write_bytes(gzip.decompress(DATA.read_bytes()))
    return sqlite3.connect(path)


@needs_data
def test_real_export_agrees_with_sql_of_our_own(real):
    reading = NsysSqlite().read(DATA)
    assert (reading.status, reading.rank, reading.world_size, reading.node) == ("ok", 0, 1, "nid008553")
    ops = tables(reading)["ops"]
    ops["length"] = ops["end_ns"] - ops["start_ns"]
    assert ops["op"].value_counts().to_dict() == {"kernel": 1312, "memcpy": 279}
    assert reading.events == 1312 + 279 + 1312 + 3048, "kernels, copies, synchronisations and calls"
    truth = real.execute("SELECT SUM(end - start), MIN(start), MAX(end) FROM CUPTI_ACTIVITY_KIND_KERNEL").fetchone()
    began = real.execute("SELECT utcEpochNs FROM TARGET_INFO_SESSION_START_TIME").fetchone()[0]
    kernels = ops[ops["op"] == "kernel"]
    assert int(kernels["length"].sum()) == truth[0] == 294_404_540
    assert (kernels["start_ns"].min() - began, kernels["end_ns"].max() - began) == truth[1:]
    by_name = dict(real.execute(
        "SELECT value, SUM(end - start) FROM CUPTI_ACTIVITY_KIND_KERNEL JOIN StringIds ON id = demangledName GROUP BY 1"
    ).fetchall())  # fmt: skip
    assert kernels.groupby("name", observed=True)["length"].sum().to_dict() == by_name
    copied = real.execute("SELECT copyKind, SUM(bytes) FROM CUPTI_ACTIVITY_KIND_MEMCPY GROUP BY 1").fetchall()
    moved = ops[ops["op"] == "memcpy"].groupby("name", observed=True)["message_bytes"].sum().to_dict()
    assert moved == {"HtoD": copied[0][1], "DtoH": copied[1][1]}
    late = real.execute(
        "SELECT SUM(k.start - r.start) FROM CUPTI_ACTIVITY_KIND_KERNEL k JOIN CUPTI_ACTIVITY_KIND_RUNTIME r "
        "USING (correlationId)"
    ).fetchone()[0]
    assert int((kernels["start_ns"] - kernels["launch_ns"]).sum()) == late


@needs_data
def test_detail_of_the_real_export(real):
    found = tables(NsysSqlite().read_detail(DATA))
    assert found["operators"]["kind"].value_counts().to_dict() == {"runtime": 1736, "wait": 1312}
    assert found["device_work"]["kind"].value_counts().to_dict() == {"kernel": 1312, "wait": 1312, "memcpy": 279}
    copies = found["device_work"][found["device_work"]["kind"] == "memcpy"]
    assert set(copies["name"]) == {"HtoD (Pageable -> Device)", "DtoH (Device -> Pageable)"}
    work = found["device_work"][found["device_work"]["kind"] == "kernel"]
    calls = found["operators"].set_index("call")["name"]
    assert set(calls[work["call"]]) == {"cudaLaunchKernel"}
    widest = real.execute("SELECT MAX(registersPerThread), MAX(gridX) FROM CUPTI_ACTIVITY_KIND_KERNEL").fetchone()
    assert work["registers"].max() == widest[0]
    assert max(json.loads(one)[0] for one in work["grid"].unique()) == widest[1]


class Made:
    """An export being made: one or more processes with steps, kernels, copies and collectives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sql = sqlite3.connect(path)
        self.sql.executescript("""
            PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; PRAGMA locking_mode = EXCLUSIVE;
            CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT);
            CREATE TABLE META_DATA_EXPORT (name TEXT, value TEXT);
            CREATE TABLE META_DATA_CAPTURE (name TEXT, value TEXT);
            CREATE TABLE TARGET_INFO_SYSTEM_ENV (name TEXT, value TEXT);
            CREATE TABLE TARGET_INFO_SESSION_START_TIME (utcEpochNs INTEGER);
            CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER, end INTEGER, deviceId INTEGER, streamId INTEGER,
                correlationId INTEGER, globalPid INTEGER, demangledName INTEGER, shortName INTEGER);
            CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INTEGER, end INTEGER, globalTid INTEGER,
                correlationId INTEGER, nameId INTEGER);
            CREATE TABLE NVTX_EVENTS (start INTEGER, end INTEGER, eventType INTEGER, globalTid INTEGER, text TEXT,
                textId INTEGER, jsonText TEXT, binaryData BLOB);
            CREATE TABLE NVTX_PAYLOAD_SCHEMA_ENTRIES (schemaId INTEGER, idx INTEGER, type INTEGER, name TEXT,
                offset INTEGER);
        """)
        self.sql.execute("INSERT INTO TARGET_INFO_SESSION_START_TIME VALUES (?)", (BEGAN_NS,))
        self.sql.execute("INSERT INTO TARGET_INFO_SYSTEM_ENV VALUES ('Hostname', 'node3')")
        entries = [(1, 0, 18, "NCCL communicator ID", 0), (1, 1, 5, "No. of ranks", 8), (1, 2, 5, "Rank", 12),
                   (2, 0, 18, "NCCL communicator ID", None), (2, 1, 22, "Message size [bytes]", None)]  # fmt: skip
        self.sql.executemany("INSERT INTO NVTX_PAYLOAD_SCHEMA_ENTRIES VALUES (?, ?, ?, ?, ?)", entries)
        self.correlation = 0

    def text(self, value: str) -> int:
        row = self.sql.execute("SELECT id FROM StringIds WHERE value = ?", (value,)).fetchone()
        return row[0] if row else self.sql.execute("INSERT INTO StringIds (value) VALUES (?)", (value,)).lastrowid

    def kernel(self, name: str, start: int, length: int, *, pid: int = PID, device: int = 0, stream: int = 7) -> None:
        """Add a kernel that was launched 1 us before it began."""
        self.correlation += 1
        code, call = self.text(name), self.text("cudaLaunchKernel_v7000")
        row = (start, start + length, device, stream, self.correlation, pid * SHIFT, code, code)
        self.sql.execute("INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        self.sql.execute("INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (?, ?, ?, ?, ?)",
                         (start - 1000, start - 500, pid * SHIFT + 1, self.correlation, call))  # fmt: skip

    def range(
        self, name: str, start: int, end: int, *, pid: int = PID, registered: bool = False, told: str | None = None,
        raw: bytes | None = None,
    ) -> None:  # fmt: skip
        text = (None, self.text(name)) if registered else (name, None)
        self.sql.execute("INSERT INTO NVTX_EVENTS VALUES (?, ?, 59, ?, ?, ?, ?, ?)",
                         (start, end, pid * SHIFT + 1, *text, told, raw))  # fmt: skip

    def step(self, number: int, start: int, *, pid: int = PID, device: int = 0, late: int = 0) -> None:
        """Add a step of 100 us: 50 us of compute, then a reduction of 20 us that `late` us come before."""
        self.range(f"step {number}", start, start + 100_000, pid=pid)
        self.range("forward", start + 1000, start + 30_000, pid=pid, registered=True)
        self.kernel("gemm", start + 10_000, 50_000, pid=pid, device=device)
        begin = start + 60_000 + late
        raw = struct.pack("<4Q", 1, 2, 16, 32) + struct.pack("<2Q", 0xABC, 4096)
        self.range("ncclAllReduce", begin - 2000, begin - 100, pid=pid, registered=True, raw=raw)
        self.kernel(REDUCE, begin, 20_000, pid=pid, device=device, stream=9)

    def communicator(self, rank: int, size: int, *, pid: int = PID) -> None:
        told = json.dumps({"NCCL communicator ID": 0xABC, "No. of ranks": size, "Rank": rank, "CUDA device": 0})
        self.range("ncclCommInitRank", 10, 20, pid=pid, told=told)

    def done(self) -> Path:
        self.sql.commit()
        self.sql.close()
        return self.path


@pytest.fixture
def made(tmp_path) -> Made:
    return Made(tmp_path / "export.sqlite")


def test_ranges_are_steps_and_phases_and_payloads_name_the_collectives(made):
    made.communicator(5, 8)
    for number in (3, 4):
        made.step(number, 100_000 * number)
    reading = NsysSqlite().read(made.done())
    found = tables(reading)
    assert (reading.status, reading.rank, reading.world_size, reading.node) == ("ok", 5, 8, "node3")
    assert reading.warnings == []
    steps = found["steps"]
    assert steps[["step", "phase"]].to_numpy().tolist() == [[3, "step"], [4, "step"], [3, "forward"], [4, "forward"]]
    assert steps["start_ns"].iloc[0] == BEGAN_NS + 300_000
    calls = found["collectives"]
    assert calls[["op", "group", "group_size", "message_bytes", "seq", "step", "stream"]].to_numpy().tolist() == [
        ["all_reduce", "nccl:abc", 8, 4096, 0, 3, 9], ["all_reduce", "nccl:abc", 8, 4096, 1, 4, 9]
    ]  # fmt: skip
    assert set(zip(calls["algo"], calls["proto"], strict=True)) == {("ring", "ll")}
    assert found["ops"][["name", "step"]].to_numpy().tolist() == [["gemm", 3], ["gemm", 4]]
    assert found["groups"][["group", "rank", "group_size"]].to_numpy().tolist() == [["nccl:abc", 5, 8]]


def test_processes_of_one_export_are_ranks_by_their_communicator(made):
    for rank, pid in ((1, 50), (0, 60)):
        made.communicator(rank, 2, pid=pid)
        made.step(0, 100_000, pid=pid, device=rank, late=500 * rank)
    reading = NsysSqlite().read(made.done())
    calls = tables(reading)["collectives"].sort_values("rank")
    assert (reading.rank, reading.world_size) == (-1, 2)
    assert calls["rank"].tolist() == [0, 1]
    assert int(np.diff(calls["ready_ns"])[0]) == 500
    assert reading.job["hosts"] == {0: "node3", 1: "node3"}


def test_processes_that_tell_no_rank_are_numbered_by_device_and_it_is_said(made):
    for device, pid in ((1, 50), (0, 60)):
        made.kernel("gemm", 1_000_000 + pid, 10, pid=pid, device=device)
    reading = NsysSqlite().read(made.done())
    ops = tables(reading)["ops"].sort_values("rank")
    assert (ops["start_ns"] - BEGAN_NS).tolist() == [1_000_060, 1_000_050]
    assert any("numbered by their device" in line for line in reading.warnings)


def test_steps_without_numbers_are_counted(made):
    for turn in range(3):
        made.range("train_step", 1_000_000 * turn, 1_000_000 * turn + 900_000)
        made.kernel("gemm", 1_000_000 * turn + 5000, 10)
    reading = NsysSqlite().read(made.done())
    assert tables(reading)["steps"]["step"].tolist() == [0, 1, 2]
    assert any("counted from 0" in line for line in reading.warnings)


@pytest.mark.parametrize(("variable", "rank"), [("RANK", 6), ("SLURM_PROCID", 6), ("HOME", -1)])
def test_rank_of_the_environment(made, variable, rank):
    made.kernel("gemm", 5000, 10)
    value = f'{variable}="6"'
    made.sql.execute("INSERT INTO META_DATA_CAPTURE VALUES ('PROCESS_0:ENVIRONMENT_VARIABLE', ?)", (value,))
    assert NsysSqlite().read(made.done()).rank == rank


def test_times_that_already_count_from_1970_stay(made):
    made.kernel("gemm", BEGAN_NS + 5000, 10)
    assert tables(NsysSqlite().read(made.done()))["ops"]["start_ns"].tolist() == [BEGAN_NS + 5000]


def test_operators_of_emit_nvtx_enclose_their_kernels_in_detail(made):
    made.range("aten::linear, seq = 4, op_id = 11, sizes = [[8, 4], [4, 4]]", 1000, 90_000)
    made.range("aten::mm, seq = 5, op_id = 12, sizes = [[8, 4], [4, 4]]", 2000, 80_000)
    made.kernel("gemm", 70_000, 10)
    found = tables(NsysSqlite().read_detail(made.done()))
    calls = found["operators"]
    assert calls[["name", "kind", "parent", "shapes", "sequence"]].to_numpy().tolist() == [
        ["aten::linear", "operator", -1, "[[8, 4], [4, 4]]", 4], ["aten::mm", "operator", 0, "[[8, 4], [4, 4]]", 5],
        ["cudaLaunchKernel", "runtime", 1, "", -1],
    ]  # fmt: skip
    assert found["device_work"]["call"].tolist() == [1]


def job(folder: Path, slow: dict[int, float]) -> Path:
    """Write a job of four ranks, 30 steps of 9 ms with a reduction that begins with the last one; `slow` is by rank."""
    folder.mkdir()
    random = np.random.default_rng(7)
    ranks = [Made(folder / f"report{rank}.sqlite") for rank in range(4)]
    start = 0
    for step in range(30):
        work = np.array([8e6 * slow.get(rank, 1.0) for rank in range(4)]) * random.normal(1, 0.005, 4)
        ready = start + work.astype(int)
        end = int(ready.max()) + 1_000_000
        for made, arrived in zip(ranks, ready.tolist(), strict=True):
            made.range(f"step {step}", start, end)
            made.kernel("gemm", start + 2000, arrived - start - 4000)
            made.kernel(REDUCE, arrived, end - arrived, stream=9)
        start = end + 10_000
    for rank, made in enumerate(ranks):
        made.communicator(rank, 4)
        made.done()
    return folder


def test_a_slow_rank_is_named_and_a_healthy_job_is_not_accused(tmp_path, analyzed, named):
    assert set(named(analyzed(job(tmp_path / "slow", {2: 1.3})))) == {2}
    report = analyzed(job(tmp_path / "well", {}))
    assert named(report) == {}
    assert report["job"]["steps"] == 30
    assert report["summary"]["step_time_s"]["mean"] == pytest.approx(9.1e-3, rel=0.02)


def test_views_of_a_hostile_file_are_not_asked(made):
    made.sql.executescript("""
        DROP TABLE CUPTI_ACTIVITY_KIND_KERNEL;
        CREATE VIEW CUPTI_ACTIVITY_KIND_KERNEL AS
            WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS start, x AS end FROM n;
    """)
    made.range("step 1", 0, 10)
    assert "ops" not in tables(NsysSqlite().read(made.done()))


def test_another_database_is_refused_with_what_it_holds(tmp_path):
    path = tmp_path / "x.sqlite"
    sql = sqlite3.connect(path)
    sql.execute("CREATE TABLE bookmarks (url TEXT)")
    sql.commit()
    sql.close()
    draft = read_one(path)
    assert draft.reading.status == "unreadable"
    assert "it has bookmarks" in draft.reading.error


def test_an_export_without_activity_says_what_to_trace(made):
    with pytest.raises(Unreadable, match="--trace=cuda,nvtx"):
        NsysSqlite().read(made.done())


@needs_data
@pytest.mark.parametrize("share", [0.2, 0.6, 0.97])
def test_cut_exports_keep_what_is_whole_or_say_why_not(tmp_path, share):
    text = gzip.decompress(DATA.read_bytes())
    path = tmp_path / "cut.sqlite"
    path.write_bytes(text[: int(len(text) * share)])
    try:
        reading = NsysSqlite().read(path)
    except Unreadable as error:
        assert share < 0.9, error
        assert "is cut" in str(error) or "cannot be read" in str(error)
    else:
        assert reading.status == "partial"
        assert "the SQLite database is cut" in reading.error


class Text(bytes):
    """A file whose bytes are too long to be printed."""

    def __repr__(self) -> str:
        return "an export"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Text:
    made = Made(tmp_path_factory.mktemp("whole") / "a.sqlite")
    made.communicator(0, 2)
    made.step(1, 100_000)
    return Text(made.done().read_bytes())


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(100, 60_000), st.binary(min_size=1, max_size=64)), min_size=1, max_size=20))
def test_arbitrary_bytes_in_an_export_never_crash(tmp_path_factory, whole, noise):
    text = bytearray(whole)
    for at, some in noise:
        text[at % len(text) : at % len(text) + len(some)] = some
    path = tmp_path_factory.mktemp("noise") / "b.sqlite"
    path.write_bytes(text)
    try:
        tables(NsysSqlite().read_detail(path))
    except Unreadable:
        pass
