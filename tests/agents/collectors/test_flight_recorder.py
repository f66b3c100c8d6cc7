from __future__ import annotations

import json
import os
import pickle
import shutil
import time
from collections import defaultdict
from pathlib import Path

import pytest

from skewscope.catalogue import load, room
from skewscope.contracts import Place
from skewscope.errors import NoData, Unreadable

dump = load("agents.collectors._flight_dump")


class Node:
    def __init__(self, folder: Path, **options: str) -> None:
        self.folder = folder / "flight"
        self.folder.mkdir()
        self.now_s = 1000.0
        self.place = Place(spool=folder, options=options, clock_s=lambda: self.now_s)
        self.collector = room("agents.collectors", "flight-recorder").kind()(self.place)

    def look(self):
        self.now_s += 15
        found = defaultdict(dict)
        for name, labels, value in self.collector.collect():
            assert labels not in found[name.removeprefix("skewscope_")]
            found[name.removeprefix("skewscope_")][labels] = value
        return found

    def waits(self, since_s: float, job: str = "llm") -> None:
        self.place.board["in-flight"] = [{"job_id": job, "rank": 0, "group": "dp", "seq": 5, "start_s": since_s}]


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


def written(last: int, finished: int, *, op="gloo:all_reduce", size=1024, group=("0", "default_pg")):
    return {
        "entries": [
            {"collective_seq_id": seq, "process_group": group, "profiling_name": op, "input_sizes": [[size]],
             "state": "completed" if seq <= finished else "started", "retired": seq <= finished, "is_p2p": False}
            for seq in range(1, last + 1)
        ],
        "pg_config": {"0": {"name": "0", "desc": "default_pg", "ranks": "[0, 1, 2, 3]"}},
    }  # fmt: skip


def put(node, name: str, content, how=json.dumps) -> Path:
    path = node.folder / name
    made = how(content)
    path.write_bytes(made if isinstance(made, bytes) else made.encode())
    return path


def test_without_dumps_there_is_no_data(node):
    with pytest.raises(NoData):
        node.look()
    node.folder.rmdir()
    with pytest.raises(NoData):
        node.look()


def test_the_rank_that_did_not_begin_the_newest_call_is_behind(node):
    for rank in range(3):
        put(node, f"llm_rank{rank}.json", written(52 if rank == 1 else 53, 52))
    found = node.look()
    behind = {labels[1]: value for labels, value in found["flight_behind_calls"].items()}
    assert behind == {"0": 0, "1": 1, "2": 0}
    assert found["flight_last_sequence"]["llm", "1", "world"] == 52
    assert found["flight_completed_sequence"]["llm", "0", "world"] == 52
    assert found["flight_absent_ranks"] == {("llm", "world"): 1}
    assert found["flight_mismatched_calls"] == {("llm", "world"): 0}
    assert found["collective_last_sequence"]["llm", "1", "", "world"] == 52
    assert found["flight_dump_timestamp_seconds"]["llm",] == pytest.approx(time.time(), abs=60)
    assert found["flight_unreadable_dumps"] == {(): 0}


def test_ranks_with_a_ring_keep_their_own_sequence(node):
    node.place.board["ranks"] = [{"job_id": "llm", "rank": 0, "pid": 1, "gpu": "", "start_ns": 0}]
    put(node, "nccl_trace_rank_0", written(5, 5), pickle.dumps)
    put(node, "nccl_trace_rank_1", written(5, 5), pickle.dumps)
    found = node.look()
    assert list(found["collective_last_sequence"]) == [("llm", "1", "", "world")], "the job is the only one here"
    assert len(found["flight_last_sequence"]) == 2


def test_different_operations_or_sizes_at_one_number_are_counted(node):
    put(node, "llm_rank0.json", written(9, 5))
    put(node, "llm_rank1.json", written(9, 5, op="gloo:broadcast"))
    assert node.look()["flight_mismatched_calls"]["llm", "world"] == 9
    put(node, "llm_rank1.json", written(8, 5, size=7))
    assert node.look()["flight_mismatched_calls"]["llm", "world"] == 8


def test_real_dumps_name_the_missing_rank(node, shared):
    for kind in ("nccl-shaped", "gloo-raw-json", "gloo-raw"):
        shutil.rmtree(node.folder)
        node.folder.mkdir()
        for path in sorted((shared / "local-flight-recorder/missing" / kind).iterdir()):
            rank = path.stem.rsplit("_", 1)[1]
            shutil.copyfile(path, node.folder / f"llm_rank{rank}{path.suffix}")
        found = node.look()
        missing = {labels[1] for labels, calls in found["flight_behind_calls"].items() if calls}
        assert missing == {"1"}, kind


def test_damaged_and_hostile_files_are_counted_and_hide_nothing(node):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(node.folder / "was-here"),)

    put(node, "llm_rank0.json", written(5, 5))
    put(node, "llm_rank1.json", {"entries": 5})
    put(node, "llm_rank2.json", '{"entries": [', str)
    put(node, "llm_rank3", {"entries": [Hostile()]}, pickle.dumps)
    (node.folder / "llm_rank4.json").symlink_to("llm_rank0.json")
    os.mkfifo(node.folder / "llm_rank5.json")
    put(node, "notes.txt", "", str)
    found = node.look()
    assert found["flight_unreadable_dumps"] == {(): 5}
    assert len(found["flight_last_sequence"]) == 1
    assert not (node.folder / "was-here").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93.",  # STACK_GLOBAL
        b"\x80\x04cos\nmkdir\n.",
        b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.",  # BYTEARRAY8 of a terabyte
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\x00\x00\x00.",  # BINUNICODE8 of a terabyte
        b"\x80\x04}r\xff\xff\xff\x7f.",  # memo position two thousand million
        b"\x80\x04" + b"]" * 50_000 + b"a" * 49_999 + b".",
        b"\x80\x04]q\x00" + b"(h\x00h\x00l" * 60 + b".",
        b"\x80",
        b"[" * 100_000,
    ],
)
def test_hostile_bytes_are_refused_and_cost_little(tmp_path, content):
    path = tmp_path / "dump"
    path.write_bytes(content)
    with pytest.raises(Unreadable):
        dump.read(str(path))


def test_lists_that_unfold_without_end_stay_folded(tmp_path):
    nested = [1]
    for _ in range(60):
        nested = [nested, nested]
    path = tmp_path / "dump"
    entry = written(1, 1)["entries"][0] | {"input_sizes": nested, "profiling_name": nested, "process_group": nested}
    path.write_bytes(pickle.dumps({"entries": [entry], "pg_config": {"": {"ranks": nested}}}))
    assert dump.read(str(path))[""].last_seq == 1


def test_dumps_of_another_time_are_left_out(node):
    hour_s = 3600.0
    old = put(node, "llm_rank0.json", written(5, 5))
    put(node, "llm_rank1.json", written(90, 90))
    os.utime(old, (time.time() - hour_s / 2,) * 2)
    assert set(node.look()["flight_behind_calls"]) == {("llm", "1", "world")}, "it is of an earlier hang"
    os.utime(old, (time.time() - 2 * hour_s,) * 2)
    (node.folder / "llm_rank1.json").unlink()
    with pytest.raises(NoData):
        node.look()


def test_a_dump_is_read_again_when_it_changes(node):
    put(node, "llm_rank0.json", '{"entries": [', str)
    assert node.look()["flight_unreadable_dumps"] == {(): 1}
    put(node, "llm_rank0.json", written(5, 5))
    found = node.look()
    assert found["flight_unreadable_dumps"] == {(): 0} and found["flight_last_sequence"]


def test_a_dump_is_asked_for_once_per_hang(node, tmp_path):
    request = tmp_path / ".dump-request"
    node.waits(node.now_s - 100)
    with pytest.raises(NoData):
        node.look()
    assert not request.exists()
    assert [node.look()["flight_requests_total"] for _ in range(3)][2] == {("llm",): 1}
    asked = request.stat().st_mtime_ns
    node.place.board["in-flight"] = []
    node.look()
    assert request.stat().st_mtime_ns == asked
    node.waits(node.now_s - 500)
    assert node.look()["flight_requests_total"] == {("llm",): 2}
    assert request.stat().st_mtime_ns > asked


def test_the_limit_is_an_option(tmp_path):
    node = Node(tmp_path, **{"hang.seconds": "30"})
    node.waits(node.now_s - 20)
    assert node.look()["flight_requests_total"]


def test_pipes_that_are_read_are_written_to_and_nothing_else(node, tmp_path):
    for name in ("a", "b"):
        os.mkfifo(tmp_path / f"{name}.pipe")
    (tmp_path / "c.pipe").write_text("")
    reader = os.open(tmp_path / "a.pipe", os.O_RDONLY | os.O_NONBLOCK)
    node.waits(node.now_s - 500)
    node.look()
    assert os.read(reader, 10) == b"1\n"
    os.close(reader)
    assert (tmp_path / "c.pipe").read_text() == ""


def test_a_request_does_not_follow_a_link(node, tmp_path):
    (tmp_path / "victim").write_text("")
    before = (tmp_path / "victim").stat().st_mtime_ns
    (tmp_path / ".dump-request").symlink_to("victim")
    node.waits(node.now_s - 500)
    node.look()
    assert (tmp_path / "victim").stat().st_mtime_ns == before


def test_two_groups_of_one_role_are_two_series(node):
    entries = written(3, 3, group=("4", "mesh_dp"))["entries"] + written(5, 5, group=("7", "dp"))["entries"]
    put(node, "llm_rank0.json", {"entries": entries})
    assert set(node.look()["flight_last_sequence"]) == {("llm", "0", "dp"), ("llm", "0", "dp:7")}
