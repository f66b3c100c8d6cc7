"""The detailed reading of Kineto traces, against an independent reading of the files and a peer's published totals."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from skewscope.frames import frame
from skewscope.sources._kineto_nesting import nesting
from skewscope.sources.kineto import Kineto

DATA = Path(__file__).parents[2] / "../shared/data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="no shared data")
HTA, LENS = "hta-kineto-tests", "tracelens-kineto"
QWEN = "Qwen_Qwen1.5-0.5B-Chat__1016005"
H100, MI300 = (f"{LENS}/{device}__{QWEN}.json.gz" for device in ("h100", "mi300"))
DLRM = "param-dlrm-8rank-kineto/worker3_step_12.1694128201557.pt.trace.json.gz"
ALEXNET = f"{HTA}/critical_path__alexnet__benchmark_result_2869224_1695835535_trace.json.gz"
NCCL, MTIA = (
    f"{HTA}/nccl_parser_config__nccl_data.json.gz",
    f"{HTA}/mtia_inference_trace__mtia_inference_rank_0.json.gz",
)
AMD = f"{HTA}/amd_trace__mi250_minitoy_train_ROCm6_2_kineto.json.gz"
GRAPH = f"{LENS}/inference__vllm_decode_full__graph_execution.json.gz"
MANY = (AMD, ALEXNET, NCCL, MTIA, H100, MI300, GRAPH, DLRM, "local-gloo-kineto/clean-4rank/rank0.pt.trace.json.gz")
CALLS = {"cpu_op": "operator", "user_annotation": "annotation", "cuda_runtime": "runtime", "cuda_driver": "runtime",
         "mtia_runtime": "runtime", "python_function": "python"}  # fmt: skip
WORK = ("kernel", "gpu_memcpy", "gpu_memset", "cuda_sync", "mtia_ccp_events")
BASE_NS = 1_790_857_026_000_000_000


@cache
def read(name: str) -> dict[str, pd.DataFrame]:
    return _frames(Kineto().read_detail(DATA / name))


@cache
def events(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(gzip.decompress((DATA / name).read_bytes()))["traceEvents"]
    return found


def _frames(reading: Any) -> dict[str, pd.DataFrame]:
    return {table: frame(table, columns) for table, columns in reading.batches}


def written(folder: Path, rows: list[dict[str, Any]], **header: Any) -> dict[str, pd.DataFrame]:
    known = {"schemaVersion": 1, "deviceProperties": [{"id": 0}], "baseTimeNanoseconds": BASE_NS}
    path = folder / "rank0.json"
    path.write_text(json.dumps({**known, **header, "traceEvents": rows}))
    return _frames(Kineto().read_detail(path))


def row(cat: str, name: str, ts: float, dur: float, tid: Any = 1, pid: Any = 100, **args: Any) -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "name": name, "pid": pid, "tid": tid, "ts": ts, "dur": dur, "args": args}


# --- real traces beside an independent reading ---------------------------------------------------------------------


@needs_data
@pytest.mark.parametrize("name", MANY)
def test_every_event_of_a_kind_is_one_row(name):
    found = Counter(event.get("cat") for event in events(name) if event["ph"] == "X")
    tables = read(name)
    kinds = Counter()
    for category, kind in CALLS.items():
        kinds[kind] += found[category]
    kinds["module"] = sum(event["name"].startswith("nn.Module: ") for event in events(name))
    kinds["python"] -= kinds["module"]
    assert {kind: int((tables["operators"]["kind"] == kind).sum()) for kind in kinds} == dict(kinds)
    assert len(tables.get("device_work", ())) == sum(found[category] for category in WORK)
    memory = sum(event["name"] == "[memory]" for event in events(name))
    assert len(tables.get("allocations", ())) == memory


@needs_data
@pytest.mark.parametrize("name", MANY)
def test_what_a_light_reading_gives_is_the_same(name):
    light, deep = _frames(Kineto().read(DATA / name)), read(name)
    assert set(deep) - set(light) <= {"operators", "device_work", "allocations"}
    for table, rows in light.items():
        pd.testing.assert_frame_equal(rows, deep[table])


@needs_data
@pytest.mark.parametrize("name", [AMD, ALEXNET, NCCL, MTIA, H100, GRAPH, DLRM])
def test_parents_are_those_of_a_slow_search(name):
    calls = read(name)["operators"].sort_values("call")
    start, end, thread, parent = (calls[column].to_numpy() for column in ("start_ns", "end_ns", "thread", "parent"))
    assert calls["call"].tolist() == list(range(len(calls)))
    assert ((np.diff(thread) > 0) | ((np.diff(thread) == 0) & (np.diff(start) >= 0))).all()
    reach, rounded_ns = end.copy(), 1000
    open_calls: dict[int, list[int]] = defaultdict(list)
    for call in range(len(calls)):
        held = open_calls[thread[call]] = [one for one in open_calls[thread[call]] if reach[one] > start[call]]
        holders = [one for one in held if reach[one] + rounded_ns >= end[call]]
        assert parent[call] == (holders[-1] if holders else -1), calls.iloc[call]
        reach[call] = min(end[call], reach[holders[-1]]) if holders else end[call]
        held.append(call)


@needs_data
@pytest.mark.parametrize(("name", "device"), [(H100, "h100"), (MI300, "mi300")])
def test_kernels_and_their_operators_add_up_to_what_tracelens_publishes(name, device):
    tables = read(name)
    work = tables["device_work"][tables["device_work"]["kind"].isin(["kernel", "communication"])]
    names = tables["operators"]["name"].astype(str).to_numpy()
    ours: dict[tuple[str, str, int], list[int]] = defaultdict(lambda: [0, 0])
    for call, kernel, stream, start, end in work[["call", "name", "stream", "start_ns", "end_ns"]].itertuples(
        index=False
    ):
        found = ours[names[call] if call >= 0 else "", kernel, stream]
        found[0] += end - start
        found[1] += 1
    with (DATA / f"{LENS}/{device}__{QWEN}_perf_report_csvs__kernel_summary.csv").open(newline="") as file:
        theirs = [one for one in csv.DictReader(file)]
    for one in theirs:
        key = one["Parent cpu_op"], one["Kernel name"], int(one["Kernel stream"])
        total, count = ours.pop(key)
        assert count == int(one["Kernel duration (µs)_count"])
        assert total / 1000 == pytest.approx(float(one["Kernel duration (µs)_sum"]), rel=1e-6)
    assert not ours


@needs_data
def test_launches_are_joined_by_correlation():
    starts = {event["args"]["correlation"]: event for event in events(DLRM)
              if event.get("cat") in ("cuda_runtime", "cuda_driver")}  # fmt: skip
    work = read(DLRM)["device_work"]
    for correlation, launch, launch_end in work[["correlation", "launch_ns", "launch_end_ns"]].itertuples(index=False):
        event = starts.get(correlation)
        span = (event["ts"] * 1000, (event["ts"] + event["dur"]) * 1000) if event else (-1, -1)
        assert (launch, launch_end) == span
    assert (work["launch_ns"] >= 0).mean() > 0.8
    ops = read(DLRM)["ops"]
    device = ops[ops["op"].isin(["kernel", "memcpy", "memset"])]
    spans = zip(work["launch_ns"], work["launch_end_ns"], strict=True)
    assert set(zip(device["launch_ns"], device["launch_end_ns"], strict=True)) <= set(spans)


@needs_data
def test_one_launch_of_a_graph_has_many_kernels():
    tables = read(GRAPH)
    work, calls = tables["device_work"], tables["operators"].set_index("call")
    by_graph = work[work["graph"] == 0]  # ROCm writes no number of the graph
    assert len(by_graph) == 421 and by_graph["correlation"].nunique() == 1
    launch = calls[calls["correlation"] == by_graph["correlation"].iloc[0]]
    assert launch["name"].tolist() == ["hipGraphLaunch"]
    assert (by_graph["call"] == launch["parent"].iloc[0]).all()


@needs_data
def test_collectives_know_their_input_and_rocm_copies_their_size():
    work = read(NCCL)["device_work"]
    moved = work[work["kind"] == "communication"]
    size = {"Float": 4, "Byte": 1, "Int": 4, "Long": 8}
    told = {args["correlation"]: args["In msg nelems"] * size[args["dtype"]] for event in events(NCCL)
            if event.get("cat") == "kernel" and "In msg nelems" in (args := event["args"])}  # fmt: skip
    assert moved["message_bytes"].tolist() == [told[one] for one in moved["correlation"]] and len(told) == 21
    copies = read(AMD)["device_work"].query("kind == 'memcpy'")
    assert copies["message_bytes"].tolist() == [2560, 2560]
    assert copies["name"].tolist() == ["HtoD (Host -> Device)"] * 2
    assert (read(AMD)["device_work"].query("kind == 'kernel'")["block"] != "").all()


@needs_data
def test_allocations_are_the_profilers_and_belong_to_operators():
    tables = read(H100)
    found = tables["allocations"]
    told = sorted((event["ts"], event["args"]) for event in events(H100) if event["name"] == "[memory]")
    assert found["size_bytes"].tolist() == [args["Bytes"] for _, args in told]
    assert found["allocated_bytes"].tolist() == [args["Total Allocated"] for _, args in told]
    assert found["device"].value_counts().to_dict() == {"gpu0": 2250, "cpu": 200}
    calls = tables["operators"].set_index("call").loc[found["call"]]
    assert (calls["kind"].to_numpy()[found["size_bytes"] > 0] == "operator").mean() > 0.95  # Python gives back, too
    assert ((calls["start_ns"].to_numpy() <= found["t_ns"]) & (found["t_ns"] <= calls["end_ns"].to_numpy())).all()


@needs_data
def test_waits_of_the_device_are_work_of_kind_wait():
    work = read(ALEXNET)["device_work"]
    waits = work[work["kind"] == "wait"]
    kinds = Counter(event["args"]["cuda_sync_kind"] for event in events(ALEXNET) if event.get("cat") == "cuda_sync")
    assert Counter(waits["name"]) == kinds and len(waits) == 41
    assert (read(MTIA)["device_work"]["kind"] == "wait").sum() == 48


@needs_data
def test_blocks_of_any_size_give_the_same_detail():
    whole = read(NCCL)
    for table, rows in _frames(Kineto(block_bytes=1 << 14).read_detail(DATA / NCCL)).items():
        pd.testing.assert_frame_equal(_plain(rows), _plain(whole[table]))


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    return table.astype({name: object for name in table if table[name].dtype == "category"})


# --- made ones -----------------------------------------------------------------------------------------------------


def test_texts_and_numbers_of_a_call(tmp_path):
    shapes = {"Input Dims": [[64, 128], []], "Input type": ["float", "Scalar"], "Concrete Inputs": ["", "1"]}
    tables = written(tmp_path, [
        row("user_annotation", "ProfilerStep#3", 0, 100), row("python_function", "nn.Module: Linear_0", 5, 50),
        row("cpu_op", "aten::mm", 10, 20, **shapes, **{"Sequence number": 12}),
        row("cuda_runtime", "cudaLaunchKernel", 15, 5.5, correlation=9),
        row("kernel", "gemm", 40, 30, tid=7, pid=0, correlation=9, grid=[1, 2, 3], block=[4, 5, 6],
            **{"registers per thread": 32, "shared memory": 48, "est. achieved occupancy %": 37.5, "graph id": 5}),
    ])  # fmt: skip
    calls, work = tables["operators"], tables["device_work"].iloc[0]
    assert calls["kind"].tolist() == ["annotation", "module", "operator", "runtime"]
    assert calls["parent"].tolist() == [-1, 0, 1, 2] and calls["step"].tolist() == [3] * 4
    assert calls.iloc[2][["shapes", "dtypes", "values", "sequence"]].tolist() == [
        "[[64,128],[]]".replace(",", ", "), '["float", "Scalar"]', '["", "1"]', 12
    ]  # fmt: skip
    assert work[["call", "launch_ns", "launch_end_ns"]].tolist() == [2, BASE_NS + 15_000, BASE_NS + 20_500]
    assert work[["grid", "block"]].tolist() == ["[1, 2, 3]", "[4, 5, 6]"]
    assert work[["registers", "shared_memory_bytes", "occupancy_percent", "graph"]].tolist() == [32, 48, 37.5, 5]


def test_without_runtime_calls_the_external_id_names_the_operator(tmp_path):
    tables = written(tmp_path, [
        row("cpu_op", "aten::mm", 10, 20, **{"External id": 4}), row("cpu_op", "late", 90, 20, **{"External id": 6}),
        row("kernel", "gemm", 40, 30, tid=7, pid=0, correlation=9, **{"External id": 4}),
        row("kernel", "before its operator", 41, 30, tid=7, pid=0, correlation=10, **{"External id": 6}),
        row("kernel", "id is the correlation", 42, 30, tid=7, pid=0, correlation=4, **{"External id": 4}),
    ])  # fmt: skip
    work = tables["device_work"]
    assert work["call"].tolist() == [0, -1, -1] and work["launch_ns"].tolist() == [-1, -1, -1]


def test_a_launch_outside_operators_is_its_own_call(tmp_path):
    tables = written(tmp_path, [
        row("cuda_runtime", "cudaLaunchKernel", 15, 5, correlation=9),
        row("kernel", "gemm", 40, 30, tid=7, pid=0, correlation=9),
    ])  # fmt: skip
    assert tables["device_work"]["call"].tolist() == [0]
    assert tables["operators"]["parent"].tolist() == [-1]


def test_a_cut_file_gives_the_detail_before_the_cut(tmp_path):
    rows = [row("cpu_op", f"aten::op{number}", number * 10, 5) for number in range(50)]
    rows += [row("kernel", "gemm", 40, 30, tid=7, pid=0, correlation=9)]
    path = tmp_path / "rank0.json"
    text = json.dumps({"schemaVersion": 1, "deviceProperties": [{}], "traceEvents": [rows[-1], *rows[:-1]]})
    path.write_text(text[: len(text) * 2 // 3])
    reading = Kineto().read_detail(path)
    assert reading.status == "partial"
    assert 20 < len(_frames(reading)["operators"]) < 50


# --- nesting -------------------------------------------------------------------------------------------------------


def parents(spans: list[tuple[int, int]], lanes: list[int] | None = None) -> list[int]:
    start, end = (np.array(part, dtype=np.int64) for part in zip(*spans, strict=True))
    lane = np.array(lanes or [0] * len(spans))
    order, parent = nesting(lane, start, end, np.arange(len(spans)))
    found = np.full(len(spans), -1)
    found[order] = np.where(parent >= 0, order[parent], -1)
    return [int(one) for one in found]


def test_spans_that_touch_are_neighbours_and_equal_ones_follow_the_tie():
    assert parents([(0, 10), (10, 20), (0, 10), (10, 10), (20, 20)]) == [-1, -1, 0, 1, -1]


def test_rounding_keeps_a_call_inside_and_a_longer_one_is_no_part():
    assert parents([(0, 10_000), (9_000, 11_000), (10_000, 20_000)]) == [-1, 0, -1]
    assert parents([(0, 100_000), (5_000, 15_000), (10_000, 50_000), (12_000, 14_000)]) == [-1, 0, 0, 2]


def test_lanes_do_not_mix_at_any_size_of_time():
    spans = [(0, 10), (1, 9), (2, 8)]
    assert parents(spans, [0, 1, 0]) == [-1, -1, 0]
    far = 2**61
    assert parents([(-far, far), (0, 5), (1, 2)], [0, 0, 3]) == [-1, 0, -1]


def test_many_random_trees_are_found_again():
    draw = np.random.default_rng(5)
    for _ in range(20):
        cuts = np.sort(draw.choice(100_000, 60, replace=False) * 10)
        spans, expected, open_spans = [], [], []
        for moment in cuts.tolist():  # a random walk of openings and closings
            if open_spans and draw.random() < 0.45:
                place = open_spans.pop()
                spans[place] = (spans[place][0], moment)
            else:
                expected.append(open_spans[-1] if open_spans else -1)
                open_spans.append(len(spans))
                spans.append((moment, 2_000_000))
        for turn, place in enumerate(reversed(open_spans)):
            spans[place] = (spans[place][0], 2_000_000 + turn)
        assert parents(spans) == expected
