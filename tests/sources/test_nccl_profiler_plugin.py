"""Plugin output: the two real files, cut ones, and recorder lines without CUPTI."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources.nccl_profiler_plugin import NcclProfilerPlugin

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

DATA = Path(__file__).parents[2] / "../shared/data/nccl-profiler-plugin-traces"
RECORDER = DATA / "trace-2762285-allreduce-single-node-4gpu.jsonl.gz"
EXAMPLE = DATA / "example-plugin-p2p-dump-as-written.txt.gz"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="no shared data")


@needs_data
def test_recorder_of_four_gpus_in_one_process():
    reading = NcclProfilerPlugin().read(RECORDER)
    calls = frame(*reading.batches[0])
    assert (reading.status, reading.rank, reading.world_size) == ("ok", -1, 4)
    assert sorted(calls["rank"]) == [0, 1, 2, 3]
    assert set(calls["op"]) == {"all_reduce"}
    assert set(calls["message_bytes"]) == {33554432 * 4}
    assert set(zip(calls["algo"], calls["proto"], strict=True)) == {("RING", "SIMPLE")}
    assert calls.sort_values("ready_ns")["rank"].tolist() == [3, 2, 1, 0], "kernels were launched one after another"
    assert calls["end_ns"].max() - calls["end_ns"].min() < 25_000, "they end together"
    assert NcclProfilerPlugin().sniff(gzip.open(RECORDER).read(400), RECORDER.name) > 0.9


@needs_data
def test_text_of_the_example_plugin_is_no_json_and_is_read():
    reading = NcclProfilerPlugin().read(EXAMPLE)
    calls, groups = (frame(*batch) for batch in reading.batches)
    assert reading.status == "ok"
    assert calls["op"].tolist() == ["send", "recv"] * 4
    assert calls["group"].tolist()[:2] == ["p2p:0-1", "p2p:3-0"]
    assert calls.groupby("group", observed=True)["rank"].nunique().tolist() == [2] * 4
    assert set(calls["message_bytes"]) == {1 << 30}
    assert set(calls["end_ns"]) == {-1}, "the plugin did not see the kernels end"
    assert sorted(groups["rank"]) == [0, 1, 2, 3]
    assert NcclProfilerPlugin().sniff(gzip.open(EXAMPLE).read(2000), EXAMPLE.name) > 0.9


@needs_data
@pytest.mark.parametrize("path", [RECORDER, EXAMPLE], ids=["recorder", "example"])
def test_cut_files_keep_what_is_whole(path, tmp_path):
    text = gzip.open(path).read()
    cut = tmp_path / "cut.txt"
    cut.write_bytes(text[: len(text) * 9 // 10 + 11])
    reading = NcclProfilerPlugin().read(cut)
    assert reading.status == "partial"
    assert reading.events >= 4


def line(kind, at, until, **more):
    told = {"recordType": "event", "type": f"ncclProfile{kind}", "gpuUuid": "g", "commId": 1, "rank": 0}
    return json.dumps(told | {"start": {"ts": at}, "stop": {"ts": until}, "details": {}} | more)


def test_without_cupti_the_last_child_ends_the_call(tmp_path):
    details = {"func": "AllGather", "seq": 3, "count": 10, "dtype": "ncclBfloat16", "algo": "RING", "proto": "LL"}
    lines = [
        line("Coll", 100.0, 110.0, eventAddr="0x1", details=details),
        line("KernelCh", 120.0, 300.0, parentObj="0x1"),
        line("ProxyOp", 115.0, 420.5, parentObj="0x1"),
        line("Coll", 500.0, 505.0, eventAddr="0x1", details=details | {"seq": 4}),  # the address is used again
        line("KernelCh", 510.0, 600.0, parentObj="0x1"),
    ]
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(lines) + "\n{broken")
    reading = NcclProfilerPlugin().read(path)
    calls = frame(*reading.batches[0])
    assert (reading.status, reading.rank) == ("partial", 0)
    assert calls["seq"].tolist() == [3, 4]
    assert calls["ready_ns"].tolist() == [100_000, 500_000]
    assert calls["start_ns"].tolist() == [115_000, 510_000]
    assert calls["end_ns"].tolist() == [420_500, 600_000]
    assert calls["message_bytes"].tolist() == [20, 20]


@pytest.mark.parametrize("text", ["", "[\n", "{}\n", '{"type": "ncclProfileGroup"}\n'])
def test_without_a_call_it_is_unreadable(tmp_path, text):
    path = tmp_path / "trace.txt"
    path.write_text(text)
    with pytest.raises(Unreadable):
        NcclProfilerPlugin().read(path)


spans = st.tuples(st.integers(1, 999), st.integers(0, 999))


@drawn
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 10**6), spans, st.lists(spans, max_size=3)), min_size=1,
                max_size=5), st.booleans())  # fmt: skip
def test_a_call_spans_its_children_whoever_comes_first_in_the_file(tmp_path, told, backwards):
    lines, want = [], []
    for at, (rank, count, (enqueued, length), children) in enumerate(told):
        begin, name = 10_000.0 * (at + 1), f"0x{at % 2}"  # addresses are used again
        details = {"func": "AllReduce", "seq": at, "count": count, "dtype": "ncclFloat32"}
        lines.append(line("Coll", begin, begin + length, eventAddr=name, details=details, rank=rank))
        starts = [begin + enqueued + start for start, _ in children]
        ends = [start + took for start, (_, took) in zip(starts, children, strict=True)]
        lines += [line("KernelCh", start, end, parentObj=name) for start, end in zip(starts, ends, strict=True)]
        times = [begin, min(starts, default=-0.001), max(ends, default=-0.001)]
        want.append((rank, at, count * 4, *(round(time * 1000) for time in times)))
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(reversed(lines) if backwards else lines) + "\n")
    reading = NcclProfilerPlugin().read(path)
    rows = frame(*reading.batches[0])[["rank", "seq", "message_bytes", "ready_ns", "start_ns", "end_ns"]]
    assert sorted(rows.itertuples(index=False, name=None)) == sorted(want)
    ranks = {rank for rank, *_ in told}
    assert reading.rank == (ranks.pop() if len(ranks) == 1 else -1) and reading.status == "ok"
