"""Kineto traces: real ones with known facts, and made ones for every way in which files differ or are broken.

Long, because every writer of these files has its own ways.
"""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources._bytes import head, whole
from skewscope.sources.kineto import Kineto

DATA = Path(__file__).parents[2] / "../shared/data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="no shared data")
BASE_NS = 1_790_857_026_000_000_000
RELATIVE_US = 4376153456525.056
RING = "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)"


def tables(path: Path, **options: Any) -> tuple[Any, dict[str, pd.DataFrame]]:
    reading = Kineto(**options).read(path)
    return reading, {name: frame(name, columns) for name, columns in reading.batches}


def real(name: str) -> tuple[Any, dict[str, pd.DataFrame]]:
    return tables(DATA / name)


def event(cat: str, name: str, ts: float, dur: float, **args: Any) -> dict[str, Any]:
    tid = args.pop("tid", 7)
    return {"ph": "X", "cat": cat, "name": name, "pid": 0, "tid": tid, "ts": ts, "dur": dur, "args": args}


def gpu_events(count: int = 20) -> list[dict[str, Any]]:
    """Return two steps of `count` kernels each, with their launches, the last one an all-reduce."""
    events: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", "ts": 0, "pid": 1, "tid": 0, "args": {"name": "python"}}
    ]
    for step in (3, 4):
        begin = 1000.0 * count * (step - 3)
        events.append(event("user_annotation", f"ProfilerStep#{step}", begin, 999.0 * count, tid=1))
        for turn in range(count):
            ts, correlation = begin + 1000.0 * turn, step * count + turn
            launch = event("cuda_runtime", "cudaLaunchKernel", ts + 1, 5.0, correlation=correlation, tid=1)
            name = RING if turn == count - 1 else f"gemm_{turn}"
            args = {"correlation": correlation, "stream": 7}
            if turn == count - 1:
                args |= {
                    "Collective name": "allreduce", "In msg nelems": 10, "Out msg nelems": 10, "Group size": 2,
                    "dtype": "Float", "Process Group Name": "0", "Process Group Ranks": "[0, 1]", "Seq": step * 10,
                }  # fmt: skip
            events += [launch, event("kernel", name, ts + 10, 500.125, **args)]
            events.append({"ph": "s", "id": correlation, "pid": 1, "tid": 1, "ts": ts, "cat": "ac2g", "name": "ac2g"})
    return events


def trace(events: list[dict[str, Any]], **header: Any) -> dict[str, Any]:
    known = {"schemaVersion": 1, "deviceProperties": [{"id": 0}], "distributedInfo": {"rank": 1, "world_size": 2}}
    return {**known, **header, "traceEvents": events, "traceName": "x.json"}


def write(folder: Path, content: Any, name: str = "trace.json", **style: Any) -> Path:
    path = folder / name
    text = content if isinstance(content, str | bytes) else json.dumps(content, **style)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def same(one: dict[str, pd.DataFrame], other: dict[str, pd.DataFrame]) -> None:
    assert one.keys() == other.keys()
    for name, table in one.items():
        pd.testing.assert_frame_equal(_plain(table), _plain(other[name]))


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    return table.astype({name: object for name in table if table[name].dtype == "category"})


# --- recognising ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "least", "most"),
    [
        (b'{"schemaVersion": 1, "deviceProperties": [', 0.9, 1),
        (b'\n {"traceEvents":[', 0.9, 1),
        (b'[{"ph": "X", "ts": 1}', 0.3, 0.7),
        (b'{"version": "2.10", "entries": []}', 0, 0),
        (b"\x80\x02}q\x00", 0, 0),
    ],
)
def test_sniff(head, least, most):
    assert least <= Kineto().sniff(head, "x") <= most


# --- made traces ---------------------------------------------------------------------------------------------------


def test_device_trace(tmp_path):
    reading, found = tables(write(tmp_path, trace(gpu_events(), baseTimeNanoseconds=BASE_NS, host_name="n1")))
    assert (reading.rank, reading.world_size, reading.node, reading.status) == (1, 2, "n1", "ok")
    assert reading.events == 1 + 2 * (1 + 3 * 20)
    calls = found["collectives"]
    told = ["group", "op", "op_class", "seq", "step", "message_bytes", "dtype", "algo", "proto"]
    assert calls[told].values.tolist() == [
        ["0", "all_reduce", "seq", 30, 3, 40, "float32", "ring", "ll"],
        ["0", "all_reduce", "seq", 40, 4, 40, "float32", "ring", "ll"],
    ]  # fmt: skip
    assert (calls["ready_ns"] == calls["start_ns"]).all() and not calls["blocking"].any()
    assert (calls["end_ns"] - calls["start_ns"]).tolist() == [500125, 500125]
    ops = found["ops"]
    assert ops["op"].value_counts()["kernel"] == 38
    assert (ops["start_ns"] - ops["launch_ns"]).unique().tolist() == [9000]
    assert found["groups"][["group", "rank", "group_size"]].values.tolist() == [["0", 0, 2], ["0", 1, 2]]
    assert found["steps"]["step"].tolist() == [3, 4]


@pytest.mark.parametrize("style", [{}, {"separators": (",", ":")}, {"indent": 2}, {"sort_keys": True}])
def test_any_layout_reads_alike(tmp_path, style):
    plain = tables(write(tmp_path, trace(gpu_events())))[1]
    same(plain, tables(write(tmp_path, trace(gpu_events()), "other.json", **style))[1])


def test_key_order_may_change_inside_a_file(tmp_path):
    events = gpu_events()
    mixed = [dict(reversed(one.items())) if place % 3 else one for place, one in enumerate(events)]
    same(tables(write(tmp_path, trace(events)))[1], tables(write(tmp_path, trace(mixed), "mixed.json"))[1])


def test_header_may_follow_the_events(tmp_path):
    content = trace(gpu_events(), baseTimeNanoseconds=BASE_NS)
    events = content.pop("traceEvents")
    same(
        tables(write(tmp_path, {"traceEvents": events, **content}, "late.json"))[1],
        tables(write(tmp_path, {**content, "traceEvents": events}))[1],
    )


def test_bare_array_with_and_without_its_bracket(tmp_path):
    text = json.dumps(gpu_events())
    closed, found = tables(write(tmp_path, text, "rank5.json"))
    opened, also = tables(write(tmp_path, text[:-1], "rank-5.json"))
    assert (closed.rank, opened.rank, closed.status, opened.status) == (5, 5, "ok", "ok")
    same(found, also)


def test_blocks_cut_anywhere_give_the_same(tmp_path):
    path = write(tmp_path, trace(gpu_events(5000)))
    assert path.stat().st_size > 3 << 20
    whole, found = tables(path, block_bytes=1 << 26)
    for size in (1 << 16, 7_001):
        part, also = tables(path, block_bytes=size)
        assert part.events == whole.events and part.fingerprint == whole.fingerprint
        same(found, also)


def test_lists_of_objects_inside_arguments_are_no_borders(tmp_path):
    events = gpu_events(300)
    for one in events:
        one["args"] = {**one.get("args", {}), "deep": [{"name": "a"}, {"name": 'b, {"ts": 1}, {"'}, {"ts": 1}]}
    path = write(tmp_path, trace(events))
    whole, found = tables(path)
    part, also = tables(path, block_bytes=4096)
    assert part.error == "" and part.events == whole.events == len(events)
    same(found, also)


def test_one_nanosecond_is_kept(tmp_path):
    rng = random.Random(1)
    parts = sorted(rng.sample(range(10**12), 300))
    stamps = [4_376_153_000_000_000 + part for part in parts]  # ns, relative
    text = [f'{{"ph": "X", "cat": "kernel", "name": "k", "pid": 0, "tid": 7, "ts": {ns // 1000}.{ns % 1000:03d}, '
            f'"dur": 0.001}}' for ns in stamps]  # fmt: skip
    head = f'{{"deviceProperties": [{{"id": 0}}], "baseTimeNanoseconds": {BASE_NS}, "traceEvents": ['
    found = tables(write(tmp_path, head + ", ".join(text) + "]}"))[1]["ops"]
    assert found["start_ns"].tolist() == [BASE_NS + ns for ns in stamps]
    assert (found["end_ns"] - found["start_ns"]).unique().tolist() == [1]


def test_absolute_microseconds_keep_their_decimals(tmp_path):
    stamps = [1_683_564_901_540_885_001 + 1_111_111 * turn for turn in range(200)]
    text = [f'{{"ph": "X", "cat": "kernel", "name": "k", "pid": 0, "tid": 7, "ts": {ns // 1000}.{ns % 1000:03d}, '
            f'"dur": 2.5}}' for ns in stamps]  # fmt: skip
    found = tables(write(tmp_path, '{"deviceProperties": [1], "traceEvents": [' + ",".join(text) + "]}"))[1]["ops"]
    assert found["start_ns"].tolist() == stamps
    assert (found["end_ns"] - found["start_ns"]).unique().tolist() == [2500]


def test_different_bases_meet_on_one_clock(tmp_path):
    earlier = BASE_NS - 3_600_000_000_000
    moved = [{**one, "ts": one["ts"] + 3_600_000_000} for one in gpu_events()]
    one = tables(write(tmp_path, trace(gpu_events(), baseTimeNanoseconds=BASE_NS)))[1]
    two = tables(write(tmp_path, trace(moved, baseTimeNanoseconds=earlier), "b.json"))[1]
    assert one["collectives"]["end_ns"].tolist() == two["collectives"]["end_ns"].tolist()


def test_strings_for_thread_ids_and_negative_ones(tmp_path):
    events = [event("kernel", "k", 1, 2, tid="stream 7"), event("kernel", "k", 5, 2, tid=-3)]
    ops = tables(write(tmp_path, trace(events)))[1]["ops"]
    assert len(ops) == 2 and ops["stream"].nunique() == 2 and -3 in ops["stream"].tolist()


def test_negative_durations_are_clamped_and_told(tmp_path):
    reading, found = tables(write(tmp_path, trace([event("kernel", "k", 10, -2)])))
    assert (found["ops"]["end_ns"] == found["ops"]["start_ns"]).all()
    assert any("negative duration" in said for said in reading.warnings)


def test_cut_list_of_ranks_is_completed(tmp_path):
    listed = "[" + ", ".join(str(rank) for rank in range(0, 60, 2)) + ", ...]"
    call = {"Collective name": "allreduce", "Group size": 40, "Process Group Name": "7", "dtype": "Half",
            "Process Group Ranks": listed, "In msg nelems": 4, "Out msg nelems": 8}  # fmt: skip
    told = event("cpu_op", "record_param_comms", 1, 1, **call, **{"Global rank start": 0, "Global rank stride": 2})
    found = tables(write(tmp_path, trace([told, event("kernel", RING, 5, 9, **call)])))[1]
    assert found["groups"]["rank"].tolist() == list(range(0, 80, 2))
    assert found["collectives"]["message_bytes"].tolist() == [16]
    config = {"pg_name": "7", "pg_desc": "dp", "pg_size": 40, "ranks": list(range(1, 41))}
    info = {"rank": 1, "world_size": 80, "pg_config": [config]}
    content = trace([event("kernel", RING, 5, 9, **call)], distributedInfo=info)
    assert tables(write(tmp_path, content))[1]["groups"]["rank"].tolist() == list(range(1, 41))


def test_arguments_of_the_host_call_reach_its_kernel(tmp_path):
    call = {"Collective name": "_allgather_base", "Group size": 2, "Process Group Name": "4", "dtype": "Byte",
            "In msg nelems": 3, "Out msg nelems": 6, "External id": 99}  # fmt: skip
    kernel = event("kernel", "ncclDevKernel_Generic_1(x)", 50, 9, **{"External id": 99})
    wait = event("cpu_op", "record_param_comms", 1, 1, **{**call, "Collective name": "wait"})
    rows = tables(write(tmp_path, trace([event("cpu_op", "record_param_comms", 1, 1, **call), wait, kernel])))[1]
    assert rows["collectives"][["op", "group", "message_bytes"]].values.tolist() == [["all_gather", "4", 6]]


def test_send_and_receive_kernels_share_a_channel(tmp_path):
    call = {"In msg nelems": 3, "Out msg nelems": 3, "Group size": 2, "dtype": "Int", "Process Group Name": "9"}
    rows = {}
    for rank, word in ((0, "send"), (1, "recv")):
        ends = {"Collective name": word, "Src Rank": 0, "Dst Rank": 1}
        events = [event("kernel", "ncclDevKernel_SendRecv(x)", ts, 1, **call, **ends) for ts in (5, 9)]
        content = trace(events, distributedInfo={"rank": rank, "world_size": 2})
        rows[rank] = tables(write(tmp_path, content, f"{rank}.json"))[1]["collectives"]
    for one in (0, 1):
        assert rows[one][["group", "op_class", "seq", "peer"]].values.tolist() == [
            ["p2p:0-1", "p2p", turn, 1 - one] for turn in (0, 1)
        ]


@pytest.mark.parametrize(
    ("name", "op"),
    [
        ("ncclKernel_ReduceScatter_RING_LL_Sum_float(ncclWorkElem)", "reduce_scatter"),
        ("ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)", "send_recv"),
        ("rcclGenericKernel", "other"),
        ("void vllm::cross_device_reduce_1stage<float, 8>(x)", "all_reduce"),
        ("void deep_ep::internode::dispatch<true>(int4*)", "dispatch"),
        ("void deep_ep::intranode::combine<8>(int4*)", "combine"),
        ("void deep_ep::internode::notify_dispatch<8>(int)", "other"),
        ("mscclKernel_Sum_float_LL", "other"),
    ],
)
def test_communication_kernels(tmp_path, name, op):
    found = tables(write(tmp_path, trace([event("kernel", name, 1, 1)])))[1]
    assert found["collectives"]["op"].tolist() == [op]
    assert "ops" not in found


def test_host_spans_and_phases(tmp_path):
    names = (
        "enumerate(DataLoader)#X.__next__",
        "## forward ##",
        "backward",
        "Optimizer.step#SGD.step",
        "save_checkpoint",
    )
    events = [event("user_annotation", "ProfilerStep#1", 0, 100, tid=1), event("kernel", "k", 30, 5)]
    events += [event("user_annotation", name, 10 * place, 9, tid=1) for place, name in enumerate(names)]
    events.append(event("user_annotation", "data_loading", 1, 7, tid=1))  # inside the first
    events += [event("user_annotation", "forward", 60 + 10 * turn, 5, tid=1) for turn in (0, 1)]
    events.append(event("python_function", "gc", 55, 2, tid=1))
    found = tables(write(tmp_path, trace(events)))[1]
    steps = found["steps"][["phase", "microbatch"]].values.tolist()
    assert steps[0] == ["step", -1]
    assert sorted(map(tuple, steps[1:])) == [
        ("backward", -1), ("checkpoint", -1), ("data", -1), ("forward", 0), ("forward", 1), ("forward", 2), ("gc", -1),
        ("optimizer", -1),
    ]  # fmt: skip
    assert sorted(found["ops"]["op"]) == ["checkpoint", "data", "gc", "kernel"]


def test_names_beyond_the_costliest_are_dropped(tmp_path):
    events = [event("kernel", f"k{turn}", 10 * turn, 1 + turn % 7) for turn in range(300)]
    ops = tables(write(tmp_path, trace(events)))[1]["ops"]
    assert ops["name"].nunique() == 201 and (ops["name"] == "").sum() == 100


# --- broken files --------------------------------------------------------------------------------------------------


def test_cut_gzip_gives_what_is_whole(tmp_path):
    packed = gzip.compress(json.dumps(trace(gpu_events(2000))).encode())
    reading, found = tables(write(tmp_path, packed[: len(packed) * 2 // 3], "t.json.gz"))
    assert reading.status == "partial" and "copy the file again" in reading.error and "cut" in reading.error
    assert reading.rank == 1 and len(found["ops"]) > 1000


def test_damaged_gzip_gives_what_is_whole(tmp_path):
    packed = bytearray(gzip.compress(json.dumps(trace(gpu_events(2000))).encode()))
    packed[len(packed) // 2 : len(packed) // 2 + 8] = b"\xff" * 8
    try:
        reading, _ = tables(write(tmp_path, bytes(packed), "t.json.gz"))
    except Unreadable:
        return
    assert reading.status == "partial"


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_cut_json_gives_what_is_whole(tmp_path, share):
    events = gpu_events(50)
    text = json.dumps(trace(events))
    text = text[: int(len(text) * share)]
    reading, _ = tables(write(tmp_path, text))
    assert reading.status == "partial" and "copy the file again" in reading.error
    assert text.count('"ph"') - 1 <= reading.events <= text.count('"ph"')


@pytest.mark.parametrize(
    "bad",
    [
        '"name": "C:\\path\\users\\x"', '"name": "tab\there"', '"name": "line\nbreak"', '"name": "a "quoted" name"',
        '"name": "unicode \\u12"',
    ],
)  # fmt: skip
@pytest.mark.parametrize("style", [{}, {"sort_keys": True}])
def test_bad_names_are_repaired(tmp_path, bad, style):
    events = gpu_events()
    text = json.dumps(trace(events), **style).replace('"name": "gemm_3"', bad)
    reading, found = tables(write(tmp_path, text))
    assert (reading.status, reading.events) == ("ok", len(events))
    assert len(found["ops"]) == 38
    assert any("repaired" in said for said in reading.warnings)


def test_bytes_that_are_no_utf8(tmp_path):
    text = json.dumps(trace(gpu_events())).encode().replace(b"gemm_3", b"gemm_\xff\xfe")
    reading, found = tables(write(tmp_path, text))
    assert reading.status == "ok" and len(found["ops"]) == 38


def test_an_event_beyond_repair_is_left_out_and_counted(tmp_path):
    text = json.dumps(trace(gpu_events())).replace('"name": "gemm_3", "pid": 0', '"name": "gemm_3", "pid": {0', 1)
    reading, found = tables(write(tmp_path, text))
    assert reading.status == "partial" and reading.error.startswith("1 events are not valid JSON")
    assert len(found["ops"]) == 37


def test_not_a_number(tmp_path):
    text = json.dumps(trace(gpu_events())).replace('"stream": 7', '"est. achieved occupancy %": nan, "stream": 7')
    reading, found = tables(write(tmp_path, text))
    assert reading.status == "ok" and len(found["ops"]) == 38


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("", "empty"), ("  \n", "empty"), ("{}", "not a trace"), ('{"traceEvents": []}', "empty"), ("[1, 2]", "not a"),
        (json.dumps(trace(gpu_events()[:1])), "metadata only"), ('{"schemaVersion": 1, "devi', "before the first"),
        ("just text", "not a trace"), ('{"traceEvents": [{"ph": "X", "ca', "no whole event"),
    ],
)  # fmt: skip
def test_useless_files_say_why(tmp_path, content, word):
    with pytest.raises(Unreadable) as told:
        Kineto().read(write(tmp_path, content))
    assert word in told.value.reason and told.value.mend


def test_missing_files_and_folders(tmp_path):
    for path in (tmp_path / "nothing.json", tmp_path):
        with pytest.raises(Unreadable):
            Kineto().read(path)


# --- real traces ---------------------------------------------------------------------------------------------------


@needs_data
def test_dlrm_collectives_end_together_and_name_the_late_ranks():
    rows = {}
    for path in sorted((DATA / "param-dlrm-8rank-kineto").glob("*.pt.trace.json.gz")):
        reading, found = tables(path)
        rows[reading.rank] = found["collectives"]
        assert reading.world_size == 8 and (found["steps"]["step"] == 10).all()
    assert sorted(rows) == list(range(8))
    start, end = (np.array([rows[rank][name] for rank in range(8)]) for name in ("start_ns", "end_ns"))
    assert start.argmax(axis=0).tolist() == [7, 7, 7, 7, 7, 5, 5, 4]
    assert np.ptp(end, axis=0).max() <= 7000
    assert (np.ptp(start, axis=0) // 1000).tolist() == [7624, 1101, 168, 125, 223, 534, 584, 885]
    assert rows[0]["op"].tolist().count("send_recv") == 5


@needs_data
@pytest.mark.parametrize(("folder", "times_last"), [("4rank-straggler", 15), ("4rank-clean", 0)])
def test_collective_arguments_on_kernels(folder, times_last):
    starts = []
    for rank in range(4):
        reading, found = real(f"derived-ncclargs-multirank/{folder}/rank_{rank}.json.gz")
        assert reading.rank == rank and reading.events == 40573
        calls = found["collectives"]
        assert len(calls) == 21 and set(found["groups"]["rank"]) == {0, 1, 2, 3}
        reduce = calls[calls["op"] == "all_reduce"]
        assert len(reduce) == 15 and (reduce["group_size"] == 4).all() and (reduce["message_bytes"] > 0).all()
        starts.append(reduce["start_ns"].to_numpy())
    last = np.array(starts).argmax(axis=0)
    assert (last == 1).sum() == 15 if times_last else (last == 1).sum() < 15


@needs_data
@pytest.mark.parametrize("folder", ["clean-4rank", "compute-8rank", "input-4rank", "rotating-4rank"])
def test_gloo_calls_join_their_work(folder):
    truth = sorted((DATA / "local-gloo-kineto" / folder).glob("rank*.gz"))
    for rank, path in enumerate(truth):
        reading, found = tables(path)
        calls = found["collectives"]
        assert reading.rank == rank and reading.node == "vm"
        assert (calls["end_ns"] > calls["ready_ns"]).all() and (calls["start_ns"] >= calls["ready_ns"]).all()
        assert set(calls["op_class"]) == {"all_reduce[267786]", "all_reduce[131584]"}
        assert (calls["group"] == "").all()  # the rank is in several groups
        assert (
            calls.groupby("op_class", observed=True)["seq"].apply(list).tolist() == [list(range(len(calls) // 2))] * 2
        )
        assert "data" in found["ops"]["op"].tolist() and (found["ops"]["op"] == "cpu").any()


@needs_data
def test_a_job_of_hosts():
    reading, found = real("real-jobs/compute-slow/rank5.pt.trace.json.gz")
    assert (reading.rank, reading.world_size, reading.node, reading.events) == (5, 8, "node2", 12903)
    calls = found["collectives"]
    assert len(calls) == 54 and set(calls["group"]) == {"0"} and calls["message_bytes"].max() == 388000
    assert found["steps"].query("phase == 'step'")["step"].tolist() == list(range(20, 29))
    device_time = found["ops"][found["ops"]["name"].astype(str).str.contains("DeviceTime")]
    assert len(device_time) == 36 and (device_time["stream"] == 0).all()
    assert not found["ops"]["name"].astype(str).str.startswith("c10d").any()


@needs_data
def test_sequence_lengths_are_seen():
    longest = []
    for rank in range(8):
        steps = real(f"real-jobs/seqlen-rotating/rank{rank}.pt.trace.json.gz")[1]["steps"]
        longest.append(steps[steps["phase"] == "step"].set_index("step")["work_tokens"])
    table = pd.concat(longest, axis=1).to_numpy()
    assert (np.sort(table, axis=1)[:, -1] > 1.5 * np.median(table, axis=1)).all()


@needs_data
def test_pipeline_sends_and_receives_meet():
    rows = pd.concat(
        real(f"real-jobs/pipeline-imbalance/rank{rank}.pt.trace.json.gz")[1]["collectives"].astype({"group": str})
        for rank in range(4)
    )
    assert sorted(rows["group"].unique()) == ["p2p:0-1", "p2p:1-0", "p2p:1-2", "p2p:2-1", "p2p:2-3", "p2p:3-2"]
    assert rows["blocking"].all() and (rows["end_ns"] > rows["ready_ns"]).all()
    pairs = rows.groupby(["group", "op_class", "seq"], observed=True)
    assert (pairs["rank"].nunique() == 2).all() and (pairs["op"].nunique() == 2).all()
    ends = rows[rows["op"] == "recv"].set_index(["group", "seq"])["end_ns"]
    starts = rows[rows["op"] == "send"].set_index(["group", "seq"])["ready_ns"]
    assert (ends > starts.reindex(ends.index)).all()


@needs_data
def test_worker_names_and_loader_spans():
    folder = DATA / "real-jobs/dataloader-stall"
    for path in folder.glob("*.pt.trace.json.gz"):
        reading, found = tables(path)
        assert path.name.startswith(reading.node)
        assert (found["ops"]["op"] == "data").sum() == 10
        if reading.rank == 2:
            data = found["ops"].query("op == 'data'")
            assert (data["end_ns"] - data["start_ns"]).max() > 100_000_000


@needs_data
def test_cut_real_file():
    cut = [tables(path) for path in sorted((DATA / "real-jobs/bad-input").glob("*rank2*trace*"))]
    assert [reading.status for reading, _ in cut] == ["partial"]
    assert cut[0][0].rank == 2 and cut[0][0].events > 100


@needs_data
@pytest.mark.parametrize(
    ("name", "rank", "world", "events", "calls", "kernels"),
    [
        ("nccl_parser_config__nccl_data.json.gz", 0, 2, 40573, 21, 2679),
        ("df_index_resolver__df_index_resolver.json.gz", 1, 2, 216092, 2020, 17350),
        ("negative_queue_length_values_check__rank0.json.gz", 0, 16, 108936, 80, 6000),
        ("cpu_only__rank-34.Jul_15_10_52_41.1074.pt.trace.json.gz", 34, 300, 30, 10, 0),
        ("amd_trace__mi250_minitoy_train_ROCm6_2_kineto.json.gz", -1, -1, 220, 0, 14),
        ("triton_example__triton_example.json.gz", -1, -1, 71, 0, 1),
        ("mtia_inference_trace__mtia_inference_rank_0.json.gz", 0, -1, 16158, 0, 436),
        ("trace_diff__control__control.json.gz", 3, 8, 109123, 60, 8508),
    ],
)
def test_hta_traces(name, rank, world, events, calls, kernels):
    reading, found = real(f"hta-kineto-tests/{name}")
    assert (reading.rank, reading.world_size, reading.events, reading.status) == (rank, world, events, "ok")
    assert len(found.get("collectives", ())) == calls
    assert (found["ops"]["op"] == "kernel").sum() == kernels


@needs_data
@pytest.mark.parametrize(("name", "rank"), [
    ("distributed_info_unavailable__distributed_info_not_found", -1), ("rank_unavailable__rank_not_found", -1),
    ("rank_non_gpu__rank_non_gpu", 0),
])  # fmt: skip
def test_traces_without_rank_or_device_go_on(name, rank):
    reading, found = real(f"hta-kineto-tests/{name}.json.gz")
    assert reading.rank == rank and (found["ops"]["op"] == "cpu").sum() == 891
    assert any("no rank" in said for said in reading.warnings) == (rank < 0)


@needs_data
def test_expert_parallel_communication_is_seen():
    reading, found = real("deepseek-profile-data/train.json.gz")
    assert reading.world_size == 64 and len(found["collectives"]) == 36
    assert found["collectives"]["op"].value_counts().to_dict() == {"other": 20, "dispatch": 8, "combine": 8}


@needs_data
def test_blackwell_trace():
    _, found = real("tracelens-kineto/b200__eager_trace.json.gz")
    assert found["collectives"]["op"].value_counts().to_dict() == {"all_reduce": 73, "all_gather": 1}
    assert found["groups"]["group"].nunique() == 15


@needs_data
@pytest.mark.parametrize("name", ["gpupuzzlers-kineto/more_small_kernels.json.gz",
                                  "tracelens-kineto/inference__vllm_decode_full__graph_execution.json.gz"])  # fmt: skip
def test_traces_without_steps_say_so(name):
    reading, _ = real(name)
    assert any("no step marks" in said for said in reading.warnings)


@needs_data
def test_sums_agree_with_plain_json():
    path = DATA / "tracelens-kineto/h100__Qwen_Qwen1.5-0.5B-Chat__1016005.json.gz"
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    ops = tables(path)[1]["ops"]
    for cat, op in (("kernel", "kernel"), ("gpu_memset", "memset"), ("gpu_memcpy", "memcpy")):
        rows, own = [one for one in events if one.get("cat") == cat], ops[ops["op"] == op]
        assert len(own) == len(rows)
        assert (own["end_ns"] - own["start_ns"]).sum() == sum(round(one["dur"] * 1000) for one in rows)


# --- the bytes below -----------------------------------------------------------------------------------------------


def test_gzip_of_several_members_and_a_tail(tmp_path):
    path = write(tmp_path, gzip.compress(b"one ") + gzip.compress(b"two ") + b"\0\0", "x.gz")
    assert whole(path) == (b"one two ", "") and head(path, 2) == b"on"


def test_plain_bytes_and_the_limit(tmp_path):
    path = write(tmp_path, "plain")
    assert whole(path) == (b"plain", "")
    with pytest.raises(Unreadable):
        whole(path, limit=3)
