"""Profiles of ROCm in all their forms, made by the published schemas with the same run, and damaged ones."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources import gather
from skewscope.sources._cut_json import mended
from skewscope.sources._gather_read import read_one
from skewscope.sources.rocprof import Rocprof

BOOT_NS = 4_484_384_343_929_154  # counted from the start of the host
GENERIC = "ncclDevKernel_Generic_4(ncclDevKernelArgsStorage<4096ul>)"
STEPS = ((5, 0), (6, 100_000))


def run() -> dict[str, list[dict[str, Any]]]:
    """Return a run of two steps: a GEMM, a copy of 1 MiB, and an all-gather that RCCL runs as a generic kernel."""
    found: dict[str, list[dict[str, Any]]] = {"kernels": [], "copies": [], "calls": [], "ranges": []}
    ident = 0
    for number, at in STEPS:
        begin = BOOT_NS + at
        found["ranges"].append({"name": f"step {number}", "start": begin, "end": begin + 90_000})
        for name, start, length in (("gemm", 10_000, 40_000), ("copy", 52_000, 3000), (GENERIC, 60_000, 20_000)):
            ident += 1
            if name == GENERIC:
                call = {"name": "ncclAllGather", "kind": "RCCL_API", "start": begin + 55_000, "end": begin + 58_000}
                found["calls"].append(call | {"id": 100 + ident})
            launch = "hipMemcpyAsync" if name == "copy" else "hipExtModuleLaunchKernel"
            found["calls"].append({"name": launch, "kind": "HIP_RUNTIME_API", "id": ident,
                                   "start": begin + start - 4000, "end": begin + start - 3000})  # fmt: skip
            row = {"name": name, "start": begin + start, "end": begin + start + length, "id": ident}
            found["copies" if name == "copy" else "kernels"].append(row)
    return found


def as_json() -> bytes:
    told = run()
    kinds = ["NONE", "HIP_RUNTIME_API", "MARKER_CORE_API", "RCCL_API", "KERNEL_DISPATCH", "MEMORY_COPY"]
    operations = {kind: sorted({one["name"] for one in told["calls"] if one["kind"] == kind}) for kind in kinds}

    def times(one: dict[str, Any], kind: str, operation: int = 0) -> dict[str, Any]:
        return {
            "size": 64, "kind": kinds.index(kind), "operation": operation, "thread_id": 70,
            "correlation_id": {"internal": one.get("id", 900 + one["start"] % 97), "external": 0},
            "start_timestamp": one["start"], "end_timestamp": one["end"],
        }  # fmt: skip

    dispatches = [
        times(one, "KERNEL_DISPATCH") | {
            "dispatch_info": {
                "agent_id": {"handle": 9}, "queue_id": {"handle": 3}, "kernel_id": 7 if one["name"] == "gemm" else 8,
                "workgroup_size": {"x": 256, "y": 1, "z": 1}, "grid_size": {"x": 1024, "y": 2, "z": 1},
                "group_segment_size": 512,
            },
            "stream_id": {"handle": 2},
        }
        for one in told["kernels"]
    ]  # fmt: skip
    calls = {
        kind: [times(one, kind, operations[kind].index(one["name"])) for one in told["calls"] if one["kind"] == kind]
        for kind in ("HIP_RUNTIME_API", "RCCL_API")
    }
    marks = [times(one, "MARKER_CORE_API") for one in told["ranges"]]
    ends = {"bytes": 1 << 20, "src_agent_id": {"handle": 1}, "dst_agent_id": {"handle": 9}}
    copies = [times(one, "MEMORY_COPY") | ends for one in told["copies"]]
    tool = {
        "metadata": {"pid": 70, "node": {"hostname": "frontier1"}},
        "agents": [{"id": {"handle": 1}, "type": 1}, {"id": {"handle": 9}, "type": 2, "logical_node_type_id": 3}],
        "strings": {
            "buffer_records": [{"kind": kind, "operations": operations[kind]} for kind in kinds],
            "marker_api": [{"key": mark["correlation_id"]["internal"], "value": one["name"]}
                           for mark, one in zip(marks, told["ranges"], strict=True)],
        },
        "kernel_symbols": [{"kernel_id": 7, "formatted_kernel_name": "gemm"}, {"kernel_id": 8, "kernel_name": GENERIC}],
        "buffer_records": {
            "kernel_dispatch": dispatches, "memory_copy": copies, "hip_api": calls["HIP_RUNTIME_API"],
            "rccl_api": calls["RCCL_API"], "marker_api": marks,
        },
    }  # fmt: skip
    return json.dumps({"rocprofiler-sdk-tool": [tool]}).encode()


def as_csv(folder: Path, stem: str = "70") -> Path:
    """Write the tables of one process and return that of the kernels."""
    told = run()
    api = '"Domain","Function","Process_Id","Thread_Id","Correlation_Id","Start_Timestamp","End_Timestamp"\n'

    def calls(rows: list[dict[str, Any]], kind: str) -> str:
        return api + "".join(f'"{kind}","{one["name"]}",70,70,{one.get("id", 1)},{one["start"]},{one["end"]}\n'
                             for one in rows if one.get("kind", kind) == kind)  # fmt: skip

    kernels = ('"Kind","Agent_Id","Queue_Id","Stream_Id","Thread_Id","Dispatch_Id","Kernel_Id","Kernel_Name",'
               '"Correlation_Id","Start_Timestamp","End_Timestamp"\n')  # fmt: skip
    kernels += "".join(
        f'"KERNEL_DISPATCH","Agent 3",1,2,70,1,7,"{one["name"]}",{one["id"]},{one["start"]},{one["end"]}\n'
        for one in told["kernels"])  # fmt: skip
    copies = ('"Kind","Stream_Id","Direction","Source_Agent_Id","Destination_Agent_Id","Correlation_Id",'
              '"Start_Timestamp","End_Timestamp"\n')  # fmt: skip
    copies += "".join(
        f'"MEMORY_COPY",0,"MEMORY_COPY_HOST_TO_DEVICE","Agent 0","Agent 3",{one["id"]},{one["start"]},{one["end"]}\n'
        for one in told["copies"])  # fmt: skip
    for name, text in (
        ("kernel_trace", kernels), ("memory_copy_trace", copies),
        ("hip_api_trace", calls(told["calls"], "HIP_RUNTIME_API")),
        ("rccl_api_trace", calls(told["calls"], "RCCL_API")),
        ("marker_api_trace", calls(told["ranges"], "MARKER_CORE_RANGE_API")),
    ):  # fmt: skip
        (folder / f"{stem}_{name}.csv").write_text(text)
    return folder / f"{stem}_kernel_trace.csv"


def as_rocpd(path: Path) -> Path:
    """Write the tables of rocprofv3's database, with the suffix that they have."""
    told, suffix = run(), "_0000abcd"
    sql = sqlite3.connect(path)
    sql.executescript(f"""
        PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF;
        CREATE TABLE rocpd_string{suffix} (id INTEGER PRIMARY KEY, string TEXT);
        CREATE TABLE rocpd_info_node{suffix} (id INTEGER, hostname TEXT);
        CREATE TABLE rocpd_info_process{suffix} (id INTEGER, pid INTEGER, environment TEXT);
        CREATE TABLE rocpd_info_agent{suffix} (id INTEGER, type TEXT, type_index INTEGER);
        CREATE TABLE rocpd_info_kernel_symbol{suffix} (id INTEGER, kernel_name TEXT, display_name TEXT);
        CREATE TABLE rocpd_event{suffix} (id INTEGER PRIMARY KEY, category_id INTEGER, stack_id INTEGER);
        CREATE TABLE rocpd_region{suffix} (id INTEGER PRIMARY KEY, pid INTEGER, tid INTEGER, start INTEGER, end INTEGER,
            name_id INTEGER, event_id INTEGER, extdata TEXT);
        CREATE TABLE rocpd_kernel_dispatch{suffix} (pid INTEGER, agent_id INTEGER, kernel_id INTEGER, queue_id INTEGER,
            stream_id INTEGER, start INTEGER, end INTEGER, event_id INTEGER);
        CREATE TABLE rocpd_memory_copy{suffix} (pid INTEGER, start INTEGER, end INTEGER, name_id INTEGER, size INTEGER,
            dst_agent_id INTEGER, src_agent_id INTEGER, stream_id INTEGER, event_id INTEGER);
        INSERT INTO rocpd_info_node{suffix} VALUES (1, 'frontier1');
        INSERT INTO rocpd_info_process{suffix} VALUES (1, 70, '{{"RANK": "5", "WORLD_SIZE": "8"}}');
        INSERT INTO rocpd_info_agent{suffix} VALUES (1, 'CPU', 0), (2, 'GPU', 3);
        INSERT INTO rocpd_info_kernel_symbol{suffix} VALUES (7, 'gemm.kd', 'gemm'), (8, '{GENERIC}', NULL);
    """)

    def text(value: str) -> int:
        found = sql.execute(f"SELECT id FROM rocpd_string{suffix} WHERE string = ?", (value,)).fetchone()
        new = f"INSERT INTO rocpd_string{suffix} (string) VALUES (?)"
        return found[0] if found else sql.execute(new, (value,)).lastrowid

    def event(kind: str, ident: int) -> int:
        return sql.execute(f"INSERT INTO rocpd_event{suffix} (category_id, stack_id) VALUES (?, ?)",
                           (text(kind), ident)).lastrowid  # fmt: skip

    for one in [*told["calls"], *told["ranges"]]:
        marked = "kind" not in one
        kind, name = ("MARKER_CORE_RANGE_API", "roctxThreadRangeA") if marked else (one["kind"], one["name"])
        more = json.dumps({"message": one["name"]}) if marked else "{}"
        sql.execute(f"INSERT INTO rocpd_region{suffix} (pid, tid, start, end, name_id, event_id, extdata) "
                    "VALUES (1, 1, ?, ?, ?, ?, ?)",
                    (one["start"], one["end"], text(name), event(kind, one.get("id", 0)), more))  # fmt: skip
    for one in told["kernels"]:
        row = (7 if one["name"] == "gemm" else 8, one["start"], one["end"], event("KERNEL_DISPATCH", one["id"]))
        sql.execute(f"INSERT INTO rocpd_kernel_dispatch{suffix} VALUES (1, 2, ?, 1, 2, ?, ?, ?)", row)
    for one in told["copies"]:
        row = (one["start"], one["end"], text("MEMORY_COPY_HOST_TO_DEVICE"), event("MEMORY_COPY", one["id"]))
        sql.execute(f"INSERT INTO rocpd_memory_copy{suffix} VALUES (1, ?, ?, ?, 1048576, 2, 1, 0, ?)", row)
    sql.commit()
    sql.close()
    return path


def tables(reading: Any) -> dict[str, pd.DataFrame]:
    return {name: frame(name, columns) for name, columns in reading.batches}


@pytest.fixture(params=["json", "rocpd", "csv"])
def form(request, tmp_path) -> tuple[str, dict[str, pd.DataFrame]]:
    """Return the name of a form and the tables of the run read from it."""
    if request.param == "csv":
        as_csv(tmp_path)
        return "csv", dict(gather([tmp_path], workers=1).tables)
    path = tmp_path / "results"
    if request.param == "json":
        path.write_bytes(as_json())
    else:
        as_rocpd(path)
    return request.param, tables(read_one(path).reading)


def test_all_forms_tell_the_same_run(form):
    name, found = form
    steps = found["steps"]
    assert steps[["step", "start_ns", "end_ns"]].to_numpy().tolist() == [
        [number, BOOT_NS + at, BOOT_NS + at + 90_000] for number, at in STEPS
    ]
    ops = found["ops"]
    assert ops[["op", "name", "step"]].to_numpy().tolist() == [
        [op, label, number] for number, _ in STEPS for op, label in (("kernel", "gemm"), ("memcpy", "HtoD"))
    ]
    assert (ops["start_ns"] - ops["launch_ns"]).tolist() == [4000] * 4
    assert int((ops["end_ns"] - ops["start_ns"]).sum()) == 86_000
    assert ops[ops["op"] == "memcpy"]["message_bytes"].tolist() == [-1 if name == "csv" else 1 << 20] * 2
    calls = found["collectives"]
    assert calls[["op", "seq", "step"]].to_numpy().tolist() == [["all_gather", 0, 5], ["all_gather", 1, 6]], (
        "the call of RCCL names its generic kernel"
    )
    assert calls["ready_ns"].tolist() == [BOOT_NS + at + 60_000 for _, at in STEPS]


def test_identity_of_processes(tmp_path):
    (tmp_path / "r.json").write_bytes(as_json())
    assert Rocprof().read(tmp_path / "r.json").node == "frontier1"
    reading = Rocprof().read(as_rocpd(tmp_path / "r.db"))
    assert (reading.rank, reading.world_size, reading.node) == (5, 8, "frontier1")


def test_detail(tmp_path):
    path = tmp_path / "r.json"
    path.write_bytes(as_json())
    found = tables(Rocprof().read_detail(path))
    assert found["operators"]["kind"].value_counts().to_dict() == {"runtime": 8, "annotation": 2}
    work = found["device_work"]
    assert work["kind"].value_counts().to_dict() == {"kernel": 2, "memcpy": 2, "communication": 2}
    first = work[work["kind"] == "kernel"].iloc[0]
    assert (first["device"], first["grid"], first["block"], first["shared_memory_bytes"]) == (
        3, "[4, 2, 1]", "[256, 1, 1]", 512
    ), "the grid is told in threads"  # fmt: skip
    launched_by = found["operators"].set_index("call")["name"][work["call"]]
    assert set(launched_by) == {"step 5", "step 6", "ncclAllGather"}, "what encloses the launch"


V1 = ("Index,KernelName,gpu-id,queue-id,queue-index,pid,tid,grd,wgr,lds,scr,vgpr,sgpr,fbar,sig,obj,"
      "DispatchNs,BeginNs,EndNs,CompleteNs\n")  # fmt: skip
V2 = "Dispatch_ID,GPU_ID,Queue_ID,PID,TID,Grid_Size,Kernel_Name,Start_Timestamp,End_Timestamp,Correlation_ID\n"


def test_results_of_the_older_profilers(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(V1 + '0,"gemm(float*, int) [clone .kd]",1,0,0,9,9,64,64,0,0,8,24,0,0x0,0x7f,100,150,250,300\n')
    row = tables(read_one(path).reading)["ops"].iloc[0]
    assert row[["name", "start_ns", "end_ns", "launch_ns"]].tolist() == ["gemm(float*, int)", 150, 250, 100]
    path.write_text(V2 + '1,2,1,9,9,64,"gemm.kd",150,250,4\n2,2,1,9,9,64,"gemm.kd",260,290,5\n')
    ops = tables(read_one(path).reading)["ops"]
    assert ops[["name", "start_ns", "end_ns"]].to_numpy().tolist() == [["gemm", 150, 250], ["gemm", 260, 290]]


def test_files_of_rpd(tmp_path):
    path = tmp_path / "trace.rpd"
    sql = sqlite3.connect(path)
    sql.executescript("""
        CREATE TABLE rocpd_string (id INTEGER PRIMARY KEY, string TEXT);
        CREATE TABLE rocpd_op (id INTEGER, gpuId INTEGER, queueId INTEGER, start INTEGER, end INTEGER,
            description_id INTEGER, opType_id INTEGER);
        CREATE TABLE rocpd_api (id INTEGER, pid INTEGER, tid INTEGER, start INTEGER, end INTEGER, apiName_id INTEGER,
            args_id INTEGER);
        CREATE TABLE rocpd_api_ops (api_id INTEGER, op_id INTEGER);
        INSERT INTO rocpd_string VALUES (1, 'gemm'), (2, 'KernelExecution'), (3, 'hipLaunchKernel'), (4, 'UserMarker'),
            (5, 'iteration 3'), (6, '');
        INSERT INTO rocpd_op VALUES (1, 0, 1, 1000, 1500, 1, 2);
        INSERT INTO rocpd_api VALUES (10, 9, 9, 900, 950, 3, 6), (11, 9, 9, 800, 2000, 4, 5);
        INSERT INTO rocpd_api_ops VALUES (10, 1);
    """)
    sql.close()
    found = tables(read_one(path).reading)
    assert found["ops"][["name", "step", "launch_ns"]].to_numpy().tolist() == [["gemm", 3, 900]]


def test_processes_of_one_folder_stay_apart(tmp_path):
    as_csv(tmp_path, "rank0_70")
    as_csv(tmp_path, "rank1_71")
    found = gather([tmp_path], workers=1).tables
    assert found["ops"].groupby("rank").size().to_dict() == {0: 4, 1: 4}
    assert found["collectives"].groupby("rank").size().to_dict() == {0: 2, 1: 2}
    assert sorted(set(found["steps"]["rank"])) == [0, 1]


def test_it_takes_no_other_tables():
    sniff = Rocprof().sniff
    assert sniff(b'"Kernel_Name","Counter_Name","Counter_Value","Start_Timestamp","End_Timestamp"\n', "x.csv") == 0
    assert sniff(b"step,start_ns,end_ns\n1,2,3\n", "kernel_trace.csv") == 0
    assert sniff(b'{"traceEvents": []}', "results.json") == 0
    assert sniff(b'"Name","Calls","TotalDurationNs"\n', "kernel_stats.csv") == 0


def test_cut_files_keep_what_is_whole(tmp_path):
    path = tmp_path / "r.json"
    text = as_json()
    path.write_bytes(text[: text.index(b'"rccl_api": [') + 40])
    reading = Rocprof().read(path)
    assert reading.status == "partial"
    assert len(tables(reading)["ops"]) == 4
    kernels = as_csv(tmp_path)
    kernels.write_text(kernels.read_text()[:-25])
    reading = Rocprof().read(kernels)
    assert (reading.status, reading.events) == ("partial", 3)


def test_json_is_closed_behind_its_last_whole_object():
    text = b'{"a": {"b": [{"c": "}]"}, {"c": [1, 2]}, {"c": 3'
    assert json.loads(mended(text)) == {"a": {"b": [{"c": "}]"}, {"c": [1, 2]}]}}
    assert mended(b"]") == mended(b"[1, 2") == b""


@pytest.mark.parametrize(
    "text", [b'{"rocprofiler-sdk-tool": []}', b'{"rocprofiler-sdk-tool": [{}]}', V2.encode(), b"{", b"\x00\r\x00"]
)
def test_without_records_it_is_unreadable(tmp_path, text):
    path = tmp_path / "x"
    path.write_bytes(text)
    with pytest.raises(Unreadable):
        Rocprof().read(path)


class Texts(list[bytes]):
    """Files whose bytes are too long to be printed."""

    def __repr__(self) -> str:
        return "texts"


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Texts:
    folder = tmp_path_factory.mktemp("forms")
    return Texts([as_json(), as_csv(folder).read_bytes(), as_rocpd(folder / "r.db").read_bytes()])


@settings(max_examples=60)
@given(st.binary(max_size=300), st.integers(0, 60_000), st.integers(0, 2), st.booleans())
def test_arbitrary_bytes_never_crash(tmp_path_factory, texts, noise, at, which, keep):
    text = texts[which]
    at %= len(text)
    path = tmp_path_factory.mktemp("noise") / "x"
    path.write_bytes(text[:at] + noise + (text[at + len(noise) :] if keep else b""))
    try:
        tables(Rocprof().read_detail(path))
    except Unreadable:
        pass


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.text("abü,\"<>() ", max_size=4), st.integers(1, 10**15), st.integers(0, 10**6),
                       st.integers(1, 99)), min_size=1, max_size=5),
    st.permutations(["Kernel_Name", "Start_Timestamp", "End_Timestamp", "Stream_Id", "Agent_Id", "Kind"]),
)  # fmt: skip
def test_kernels_of_a_csv_in_any_order_hold_what_was_written(tmp_path, told, order):
    place = io.StringIO(newline="")
    out = csv.writer(place)
    out.writerow(order)
    for name, start, took, stream in told:
        cells = {"Kernel_Name": f"k{name}k", "Start_Timestamp": start, "End_Timestamp": start + took,
                 "Stream_Id": stream, "Agent_Id": "Agent 3", "Kind": "KERNEL_DISPATCH"}  # fmt: skip
        out.writerow([cells[head] for head in order])
    path = tmp_path / "70_kernel_trace.csv"
    path.write_text(place.getvalue())
    reading = Rocprof().read(path)
    rows = frame(*next(batch for batch in reading.batches if batch[0] == "ops"))
    found = rows[["name", "start_ns", "end_ns", "stream"]].itertuples(index=False, name=None)
    assert sorted(found) == sorted((f"k{name}k", start, start + took, stream) for name, start, took, stream in told)
    assert reading.status == "ok" and reading.events == len(told)
