"""Execution traces: the real samples of Chakra, a made .et file by its schema, and linked nodes with times."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from runpy import run_path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources import gather
from skewscope.sources.chakra_et import ChakraEt

PROTOBUF = run_path(str(Path(__file__).with_name("_protobuf.py")))
field, varint = PROTOBUF["field"], PROTOBUF["varint"]

DATA = Path(__file__).parents[2] / "../shared/data/chakra-et"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="no shared data")


def unpacked(archive: str, member: str, folder: Path) -> Path:
    with tarfile.open(DATA / archive) as tar:
        tar.extract(member, folder, filter="data")
    return folder / member


def tables(path: Path) -> tuple[Any, dict[str, pd.DataFrame]]:
    reading = ChakraEt().read(path)
    return reading, {name: frame(name, columns) for name, columns in reading.batches}


@needs_data
def test_trace_of_pytorchs_observer(tmp_path):
    path = unpacked("1.0.2-chakra.0.0.4.tgz", "1.0.2-chakra.0.0.4.json", tmp_path)
    assert ChakraEt().sniff(path.read_bytes()[:65536], path.name) == 0.96
    reading, found = tables(path)
    assert (reading.status, reading.rank, reading.world_size, reading.events) == ("ok", 0, 2, 263)
    calls = found["collectives"]
    assert calls["op"].tolist() == ["all_gather"] * 10, "the ten waits are no collectives"
    assert calls["seq"].tolist() == list(range(12, 22))
    assert set(calls["group"]) == {"0"}, "the group's own number is translated by its creation"
    assert set(calls["message_bytes"]) == {4}
    assert set(calls["ready_ns"]) == {-1}
    assert found["groups"]["rank"].tolist() == [0, 1]
    assert "ops" not in found
    assert "without times" in reading.warnings[0]


@needs_data
def test_nodes_of_chakra_have_durations(tmp_path):
    path = unpacked("json_trace.tar.gz", "jsonData/chakra.0.json", tmp_path)
    nodes = json.loads(path.read_text())["workload_graph"]
    real = [node for node in nodes if node["NodeType"] == 7 and not node["is_cpu_op"]]
    reading, found = tables(path)
    assert (reading.events, reading.rank) == (3664, 0)
    assert found["collectives"]["duration_ns"].tolist() == [1000 * node["runtime"] for node in real]
    assert found["collectives"]["op"].value_counts().to_dict() == {"all_reduce": 5, "broadcast": 2}
    assert set(found["collectives"]["algo"]) == {"ring"}


def node(ident: int, name: str, kind: int, start_us: int, length_us: int, **told: int | str | bool) -> bytes:
    """Return a Node; booleans are bool_val (27), integers int64_val (9), texts string_val (29)."""
    out = field(1, ident) + field(2, name) + field(3, kind) + field(6, start_us) + field(7, length_us)
    for key, value in told.items():
        number = 27 if isinstance(value, bool) else 9 if isinstance(value, int) else 29
        out += field(10, field(1, key) + field(number, int(value) if isinstance(value, bool) else value))
    return out


def protobuf() -> bytes:
    messages = [
        field(1, "0.0.4"),
        node(1, "gemm", 4, 1000, 500, is_cpu_op=False),
        node(2, "ncclDevKernel_AllReduce_Sum_f32_RING_LL", 7, 1500, 200, is_cpu_op=False, comm_type=0, comm_size=4096,
             pg_name="dp"),
        node(3, "ncclDevKernel_SendRecv", 5, 1800, 50, comm_src=2, comm_dst=3, comm_size=64),
        node(4, "a2a", 7, 1900, 20, comm_type=6, comm_size=128, pg_name="ep"),
    ]  # fmt: skip
    return b"".join(varint(len(one)) + one for one in messages)


def test_protocol_buffers(tmp_path):
    path = tmp_path / "job.2.et"
    path.write_bytes(protobuf())
    assert ChakraEt().sniff(protobuf(), path.name) == 0.9
    reading, found = tables(path)
    assert (reading.status, reading.rank, reading.events) == ("ok", 2, 4)
    calls = found["collectives"]
    assert calls["op"].tolist() == ["all_reduce", "send", "all_to_all"]
    assert calls["group"].tolist() == ["dp", "p2p:2-3", "ep"]
    assert calls["peer"].tolist() == [-1, 3, -1]
    assert calls["message_bytes"].tolist() == [4096, 64, 128]
    assert (calls["end_ns"] - calls["start_ns"]).tolist() == [200_000, 50_000, 20_000]
    assert found["ops"][["name", "op", "start_ns", "end_ns"]].to_numpy().tolist() == [
        ["gemm", "kernel", 1_000_000, 1_500_000]
    ]


def linked(**more: Any) -> dict[str, Any]:
    return {"id": 1, "name": "aten::mm", "ctrl_deps": 0, "inputs": {"values": [], "shapes": [], "types": []}, **more}


def test_linked_traces_have_times(tmp_path):
    nodes = [
        linked(ts=100, inclusive_dur=50, cat="cpu_op"),
        linked(name="gemm", ts=200, inclusive_dur=30.5, cat="kernel", stream=7),
        linked(name="ncclDevKernel_AllGather_RING_LL", ts=240, inclusive_dur=10, cat="kernel", stream=9),
    ]
    path = tmp_path / "rank1.json"
    path.write_text(json.dumps({"schema": "1.1.0-chakra.0.0.4", "nodes": nodes}))
    _, found = tables(path)
    assert found["ops"][["name", "stream", "start_ns", "end_ns"]].to_numpy().tolist() == [["gemm", 7, 200_000, 230_500]]
    assert found["collectives"][["op", "stream", "end_ns"]].to_numpy().tolist() == [["all_gather", 9, 250_000]]


def test_ranks_of_a_job_are_joined_by_their_order(tmp_path):
    for rank in range(3):
        (tmp_path / f"job.{rank}.et").write_bytes(protobuf())
    recording = gather([tmp_path], workers=1)
    assert sorted(recording.tables["ops"]["rank"]) == [0, 1, 2]


@pytest.mark.parametrize("text", [b'{"schema": "1.0.2-chakra.0.0.4", "nodes": []}', b"{", b"", b"\x03\x0a\x01x"])
def test_without_nodes_it_is_unreadable(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_bytes(text)
    with pytest.raises(Unreadable):
        ChakraEt().read(path)


def test_compute_without_times_says_what_it_cannot_tell(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"schema": "1.0.2-chakra.0.0.4", "nodes": [linked()]}))
    with pytest.raises(Unreadable, match="tells neither how long steps took nor who waited for whom"):
        ChakraEt().read(path)


def test_cut_files_keep_what_is_whole(tmp_path):
    path = tmp_path / "x.et"
    path.write_bytes(protobuf()[:-5])
    reading = ChakraEt().read(path)
    assert (reading.status, reading.events) == ("partial", 3)
    text = json.dumps({"schema": "1.1.0-chakra.0.0.4", "nodes": [linked(cat="kernel", ts=1, dur=2)] * 5})
    path.write_text(text[:-30])
    reading = ChakraEt().read(path)
    assert (reading.status, reading.events) == ("partial", 4)


def test_it_takes_no_other_json_and_no_other_bytes():
    sniff = ChakraEt().sniff
    assert sniff(b'{"schemaVersion": 1, "traceEvents": [', "x") == 0
    assert sniff(b'{"nodes": [], "schema": "mine"}', "x") == 0
    assert sniff(b"SQLite format 3\0" + bytes(100), "x") == 0
    assert sniff(b"\x89PNG\r\n\x1a\n" + bytes(100), "x") == 0


@settings(max_examples=60)
@given(st.binary(max_size=300), st.integers(0, 400), st.booleans())
def test_arbitrary_bytes_after_a_valid_head_never_crash(tmp_path_factory, noise, at, is_json):
    text = json.dumps({"schema": "1.1.0-chakra.0.0.4", "nodes": [linked(cat="kernel", ts=1, dur=2)] * 3}).encode()
    path = tmp_path_factory.mktemp("noise") / "x.et"
    path.write_bytes((text if is_json else protobuf())[:at] + noise)
    try:
        tables(path)
    except Unreadable:
        pass
