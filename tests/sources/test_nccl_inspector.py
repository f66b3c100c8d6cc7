"""NCCL Inspector logs, written here by its documented format (README of the plugin): no real log is at hand."""

import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources.nccl_inspector import NcclInspector

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

START_US = 1_752_867_229_235_059


def record(number, *, rank=2, n_ranks=8, comm="0xe62dedaa97644a", coll="AllReduce", spent_us=400, **more):
    return {
        "header": {"id": comm, "rank": rank, "n_ranks": n_ranks, "nnodes": 1},
        "metadata": {"inspector_output_format_version": "v4.0", "hostname": "n1", "pid": 7, "dump_timestamp_us": 1},
        "coll_perf": {
            "coll": coll,
            "coll_sn": number,
            "coll_msg_size_bytes": 2_097_152,
            "coll_exec_time_us": spent_us,
            "coll_timing_source": "kernel_gpu",
            "coll_algobw_gbs": 1.5,
            "coll_busbw_gbs": 2.5,
        }
        | more,
    }


def transfer(number, kind, peer):
    whole = record(number)
    del whole["coll_perf"]
    return whole | {
        "p2p_perf": {
            "p2p": kind, "p2p_sn": number, "p2p_peer": peer, "p2p_msg_size_bytes": 64, "p2p_exec_time_us": 12.5,
            "p2p_timing_source": "kernel_gpu",
        }
    }  # fmt: skip


def written(tmp_path, records, name="n1-pid7.log", extra=""):
    path = tmp_path / name
    path.write_text("\n".join(json.dumps(item) for item in records) + "\n" + extra)
    return path


def test_lean_records_have_durations_only(tmp_path):
    records = [record(5), record(6, spent_us=410), record(5, coll="ReduceScatter", comm="0xab", rank=0, n_ranks=2)]
    path = written(tmp_path, records)
    assert NcclInspector().sniff(path.read_bytes()[:400], path.name) > 0.9
    reading = NcclInspector().read(path)
    calls, groups = (frame(*batch) for batch in reading.batches)
    assert (reading.status, reading.rank, reading.node, reading.world_size) == ("ok", 2, "n1", 8)
    assert calls["op"].tolist() == calls["op_class"].tolist() == ["all_reduce", "all_reduce", "reduce_scatter"]
    assert calls["seq"].tolist() == [5, 6, 5]
    assert calls["duration_ns"].tolist() == [400_000, 410_000, 400_000]
    assert set(calls["ready_ns"]) == {-1}
    assert set(calls["rank"]) == {2}, "the rank of the process is the one in its largest communicator"
    assert calls["group_size"].tolist() == [8, 8, 2]
    assert groups["group"].tolist() == ["0xe62dedaa97644a", "0xab"]


def test_verbose_records_tell_arrival_and_end(tmp_path):
    channels = [
        {"channel_id": number, "kernel_start_ts": START_US + start, "kernel_stop_ts": START_US + stop}
        for number, start, stop in ((0, 122, 40_752), (1, 120, 40_700))
    ]
    trace = {"coll_start_ts": START_US, "coll_stop_ts": START_US + 5, "kernel_events": channels}
    path = written(tmp_path, [record(1, event_trace_ts=trace), record(2, event_trace_ts={"coll_start_ts": START_US})])
    calls = frame(*NcclInspector().read(path).batches[0])
    assert calls["ready_ns"].tolist() == [(START_US + 120) * 1000, START_US * 1000]
    assert calls["end_ns"].tolist() == [(START_US + 40_752) * 1000, -1]


def test_transfers_are_channels(tmp_path):
    records = [record(1), transfer(1, "Send", 3), transfer(2, "Recv", 1), transfer(3, "Send", 3)]
    calls = frame(*NcclInspector().read(written(tmp_path, records)).batches[0])
    assert calls["group"].tolist()[1:] == ["p2p:2-3", "p2p:1-2", "p2p:2-3"]
    assert calls["seq"].tolist()[1:] == [1, 1, 2]
    assert calls["peer"].tolist() == [-1, 3, 1, 3]
    assert not calls.duplicated(["group", "op_class", "seq"]).any()


def test_older_output_without_a_header(tmp_path):
    old = record(4)
    flat = {"id": "abc", "rank": 3, "n_ranks": 4, "hostname": "w0", "coll_perf": old["coll_perf"]}
    reading = NcclInspector().read(written(tmp_path, [flat]))
    assert (reading.rank, reading.node, reading.world_size) == (3, "w0", 4)


def test_damage_is_counted_and_told(tmp_path):
    path = written(tmp_path, [record(1), record(2)], extra='{"header": {"id"\nnot json\n')
    reading = NcclInspector().read(path)
    assert (reading.status, reading.events) == ("partial", 2)
    assert "2 lines" in reading.error
    packed = tmp_path / "a.log.gz"
    packed.write_bytes(gzip.compress(written(tmp_path, [record(n) for n in range(500)]).read_bytes())[:-50])
    assert NcclInspector().read(packed).status == "partial"
    newer = record(3)
    newer["metadata"]["inspector_output_format_version"] = "v5.0"
    mixed = NcclInspector().read(written(tmp_path, [record(1), newer]))
    assert (mixed.status, mixed.events) == ("partial", 2)


@pytest.mark.parametrize("text", ["", "{}\n", "[]\n", '{"header": {"id": "0x1"}}\n', "\x00\n"])
def test_without_a_call_it_is_unreadable(tmp_path, text):
    path = tmp_path / "a.log"
    path.write_text(text)
    with pytest.raises(Unreadable):
        NcclInspector().read(path)


OPS = {"AllReduce": "all_reduce", "ReduceScatter": "reduce_scatter", "AllGather": "all_gather"}


@drawn
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(list(OPS)), st.integers(0, 10**6), st.integers(1, 10**9),
                       st.integers(0, 2**40), st.none() | st.integers(0, 10**6)), min_size=1, max_size=6),
    st.tuples(*[st.integers(0, 63)] * 3), st.booleans(),
)  # fmt: skip
def test_every_call_comes_back_with_its_communicator(tmp_path, calls, ranks, backwards):
    records, want = [], []
    for comm, coll, number, spent, size, began in calls:
        trace = {} if began is None else {"event_trace_ts": {"coll_start_ts": START_US + began}}
        records.append(record(number, rank=ranks[comm], n_ranks=8 << comm, comm=f"0x{comm}", coll=coll,
                              spent_us=spent / 8, coll_msg_size_bytes=size, **trace))  # fmt: skip
        ready_ns = -1 if began is None else (START_US + began) * 1000
        want.append((f"0x{comm}", OPS[coll], number, 8 << comm, size, spent * 125, ready_ns))
    if backwards:
        records = [dict(reversed(one.items())) for one in records]
    reading = NcclInspector().read(written(tmp_path, records))
    rows = frame(*reading.batches[0])
    columns = ["group", "op", "seq", "group_size", "message_bytes", "duration_ns", "ready_ns"]
    assert list(rows[columns].itertuples(index=False, name=None)) == want
    largest = max(comm for comm, *_ in calls)
    assert (reading.rank, reading.world_size) == (ranks[largest], 8 << largest)
    assert set(rows["rank"]) == {ranks[largest]} and set(rows["op_class"]) == {OPS[coll] for _, coll, *_ in calls}
