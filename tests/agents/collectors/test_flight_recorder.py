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
from skewscope.errors import NoData

dump = load("agents.collectors._flight_dump")
ME = os.getuid()
needs_root = pytest.mark.skipif(ME != 0, reason="only root can give files to other users")


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

    def ringed(self, *ranks: int, job: str = "llm", uid: int = ME) -> None:
        self.place.board["ranks"] = [{"job_id": job, "rank": rank, "pid": 1, "uid": uid, "gpu": ""} for rank in ranks]

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
    assert found["flight_dump_timestamp_seconds"]["llm",] == pytest.approx(time.time(), abs=60)
    assert found["flight_unreadable_dumps"] == {(): 0}


def test_a_dump_that_names_no_job_is_of_the_only_one_of_its_user(node):
    node.ringed(0)
    put(node, "nccl_trace_rank_0", written(5, 5), pickle.dumps)
    put(node, "nccl_trace_rank_1", written(5, 5), pickle.dumps)
    assert set(node.look()["flight_last_sequence"]) == {("llm", "0", "world"), ("llm", "1", "world")}
    node.place.board["ranks"] = []
    assert set(node.look()["flight_dump_timestamp_seconds"]) == {("llm",)}, "also when the job has ended"


def test_a_job_whose_name_is_no_file_name_is_found(node):
    node.ringed(0, job="llm/70b")
    put(node, "llm_70b_rank0.json", written(5, 5))
    assert set(node.look()["flight_last_sequence"]) == {("llm/70b", "0", "world")}


@needs_root
def test_dumps_of_others_are_not_believed_while_a_job_has_rings_and_an_hour_longer(node):
    node.ringed(0, 1, uid=1234)
    for rank in range(3):
        os.chown(put(node, f"llm_rank{rank}.json", written(9 if rank == 2 else 5, 5)), 1234 + (rank == 2), 0)
    os.chown(put(node, "rank_3.json", written(9, 5)), 1235, 0)  # names no job: it is not of this one
    found = node.look()
    assert {labels[1] for labels in found["flight_last_sequence"] if labels[0] == "llm"} == {"0", "1"}
    assert set(found["flight_behind_calls"].values()) == {0} and found["flight_unreadable_dumps"] == {(): 1}
    node.place.board["ranks"] = []
    for rank in range(2):
        (node.folder / f"llm_rank{rank}.json").unlink()
    assert node.look()["flight_unreadable_dumps"] == {(): 1}
    node.now_s += 3600
    os.utime(node.folder / "llm_rank2.json")
    assert ("llm", "2", "world") in node.look()["flight_last_sequence"], "the name is forgotten"


@needs_root
def test_a_job_without_rings_is_of_whose_dump_came_first(node):
    first, second = (put(node, f"llm_rank{rank}.json", written(5 + rank, 5)) for rank in (0, 1))
    os.chown(first, 1234, 0)
    while second.stat().st_ctime_ns <= first.stat().st_ctime_ns:
        os.chown(second, 1235, 0)  # a file system's clock ticks seldom
    os.utime(second, (time.time() - 60,) * 2)
    for _ in range(2):
        assert {labels[1] for labels in node.look()["flight_last_sequence"]} == {"0"}
    node.ringed(0, uid=1235)
    assert {labels[1] for labels in node.look()["flight_last_sequence"]} == {"1"}, "a ring says more"


def test_many_dumps_of_others_do_not_hide_those_of_a_job_with_rings(node):
    node.ringed(0)
    put(node, "llm_rank0.json", written(5, 5))
    os.utime(node.folder / "llm_rank0.json", (time.time() - 60,) * 2)
    for rank in range(70):
        put(node, f"flood_rank{rank}.json", {"entries": []})
    assert node.look()["flight_last_sequence"] == {("llm", "0", "world"): 5}


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


def test_a_dump_from_the_future_is_left_out_and_hides_nothing(node):
    put(node, "llm_rank0.json", written(5, 5))
    os.utime(put(node, "llm_rank1.json", written(9, 9)), (time.time() + 3600,) * 2)
    assert set(node.look()["flight_behind_calls"]) == {("llm", "0", "world")}


def test_a_dump_that_goes_away_while_it_is_looked_at_hides_nothing(node, monkeypatch):
    put(node, "llm_rank0.json", written(5, 5))
    put(node, "llm_rank1.json", written(5, 5))
    read = dump.read

    def gone(path, uid):
        (node.folder / "llm_rank1.json").unlink(missing_ok=True)
        return read(path, uid)

    monkeypatch.setattr(dump, "read", gone)
    found = node.look()
    assert len(found["flight_last_sequence"]) == 1 and found["flight_unreadable_dumps"] == {(): 1}
    assert node.look()["flight_unreadable_dumps"] == {(): 0}


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


def test_groups_whose_names_begin_alike_are_different_series(node):
    entries = [
        entry for number in range(4) for entry in written(2, 2, group=(f"{'c0ffee' * 5}{number}", "dp"))["entries"]
    ]  # fmt: skip
    put(node, "llm_rank0.json", {"entries": entries})
    assert len(node.look()["flight_last_sequence"]) == 4, "the look itself refuses one series twice"
