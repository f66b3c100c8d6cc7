from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest

from skewscope.catalogue import load, room
from skewscope.contracts import Place
from skewscope.errors import NoData

tail = load("agents.collectors._tail")


class Node:
    def __init__(self, folder: Path, **options: str) -> None:
        self.folder = folder / "inspector" / "nccl-inspector-4711"
        self.folder.mkdir(parents=True)
        self.now_s = 1000.0
        self.place = Place(spool=folder, options=options, clock_s=lambda: self.now_s, now_s=lambda: 1.7e9 + self.now_s)
        self.collector = room("agents.collectors", "nccl-inspector").kind()(self.place)

    def look(self):
        self.now_s += 1
        found = defaultdict(dict)
        for name, labels, value, *_ in self.collector.collect():
            assert labels not in found[name.removeprefix("skewscope_")]
            found[name.removeprefix("skewscope_")][labels] = value
        return found

    def begin(self):
        """Take the first look, after which files are new."""
        with pytest.raises(NoData):
            self.look()


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


def line(sn=1, us=150.0, *, rank=3, ranks=8, size=4 << 20, busbw=100.0, coll="AllReduce", name="unknown", id="0xabc"):
    return json.dumps({
        "header": {"id": id, "comm_name": name, "rank": rank, "n_ranks": ranks, "nnodes": 1},
        "metadata": {"inspector_output_format_version": "v4.0", "hostname": "a", "pid": 77},
        "coll_perf": {"coll": coll, "coll_sn": sn, "coll_msg_size_bytes": size, "coll_exec_time_us": us,
                      "coll_timing_source": "kernel_gpu", "coll_algobw_gbs": 1.0, "coll_busbw_gbs": busbw},
    }) + "\n"  # fmt: skip


def put(path: Path, *lines: str, how: str = "a") -> None:
    with path.open(how) as file:
        file.write("".join(lines))


def test_without_logs_there_is_no_data(node):
    node.begin()
    node.folder.rmdir()
    with pytest.raises(NoData, match="no log"):
        node.look()


def test_calls_are_counted_under_the_job_of_the_folder(node):
    node.begin()
    put(node.folder / "host-77.log", line(1, 150.0), line(2, 250.0), line(1, 50.0, coll="ReduceScatter", size=100))
    found = node.look()
    rank = ("4711", "3", "")
    assert found["collectives_total"] == {(*rank, "all_reduce", "group0"): 2, (*rank, "reduce_scatter", "group0"): 1}
    assert found["collective_seconds_total"][*rank, "all_reduce", "group0"] == pytest.approx(0.0004)
    assert found["collective_min_seconds"][*rank, "all_reduce", "group0"] == pytest.approx(0.00015)
    assert found["collective_bytes_total"][*rank, "all_reduce", "group0"] == 8 << 20
    # What the plug-in says itself, and nothing for small messages.
    assert found["collective_bus_bandwidth_bytes_per_second"] == {("4711", "all_reduce", "group0"): 100e9}
    assert found["spool_events_total"] == {("inspector",): 3}
    assert found["spool_lost_events_total"] == {("inspector",): 0}


def test_the_job_and_the_gpu_can_be_known_otherwise(tmp_path):
    node = Node(tmp_path, **{"inspector.job": "llm"})
    node.place.board["gpus"] = [{"slot": 5, "uuid": "GPU-5"}]
    node.place.board["gpu-processes"] = {"GPU-5": [[77, 1 << 30, "compute"]]}
    node.begin()
    put(node.folder.parent / "host-77.jsonl", line())
    assert list(node.look()["collectives_total"]) == [("llm", "3", "5", "all_reduce", "group0")]


def test_a_rank_is_the_one_in_its_largest_communicator(node):
    node.begin()
    log = node.folder / "a.log"
    put(log, line(rank=1, ranks=2, id="0x1", name="mesh_tp"), line(rank=5, ranks=8, id="0x2"))
    node.look()
    put(log, line(sn=2, rank=1, ranks=2, id="0x1", name="mesh_tp"))
    found = node.look()
    assert {labels[1] for labels in found["collectives_total"]} == {"5"}
    assert {labels[-1] for labels in found["collectives_total"]} == {"tp", "group1"}


def test_what_was_written_before_the_agent_began_is_left_out(node):
    log = node.folder / "a.log"
    half, rest = line(2)[:60], line(2)[60:]
    put(log, line(1), half)
    node.look()
    put(log, rest, line(3))
    assert list(node.look()["collectives_total"].values()) == [1]
    assert node.look()["spool_lost_events_total"] == {("inspector",): 0}


def test_torn_lines_are_joined_and_garbage_is_counted(node):
    node.begin()
    log = node.folder / "a.log"
    put(log, line(1), line(2)[:70])
    assert list(node.look()["collectives_total"].values()) == [1]
    put(log, line(2)[70:], "garbage\n", "[1, 2]\n", '{"coll_perf": {"coll": "AllReduce"}}\n', "\n", '{"other": 1}\n')
    put(log, '{"coll_perf": {"coll": "AllReduce", "coll_exec_time_us": "x"}}\n', "[" * 60_000 + "\n")
    put(log, '{"header": {"rank": null}, "coll_perf": {"coll": 7, "coll_exec_time_us": 1e400, "coll_sn": []}}\n')
    found = node.look()
    assert list(found["collectives_total"].values()) == [2]
    assert found["spool_lost_events_total"] == {("inspector",): 6}


def test_rotation_and_truncation_lose_nothing(node):
    node.begin()
    log = node.folder / "a.log"
    put(log, line(1))
    node.look()
    put(log, line(2))
    os.rename(log, node.folder / "a.1")
    put(log, line(3))
    assert list(node.look()["collectives_total"].values()) == [3]
    put(log, line(4))
    node.look()
    put(log, line(5), how="w")
    assert list(node.look()["collectives_total"].values()) == [5]


def test_a_job_with_rings_is_left_to_them(node):
    node.begin()
    put(node.folder / "a.log", line())
    node.place.board["ringed"] = ["4711"]
    assert not node.look()["collectives_total"] and not node.place.board["inspected"]
    node.place.board["ringed"] = []
    found = node.look()
    assert node.place.board["inspected"] == ["4711"]
    assert found["collectives_total"] and found["collective_duration_seconds_count"]


def test_a_quiet_log_loses_its_series(node):
    node.begin()
    put(node.folder / "a.log", line())
    assert node.look()["collectives_total"]
    node.now_s += 400
    assert not node.look()["collectives_total"]


def test_links_and_pipes_are_not_followed(node, tmp_path):
    put(tmp_path / "elsewhere.log", line())
    (node.folder / "a.log").symlink_to(tmp_path / "elsewhere.log")
    os.mkfifo(node.folder / "b.log")
    node.begin()
    node.begin()


def test_memory_stays_bounded_on_a_line_without_end_and_on_a_backlog(tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * (3 << 20) + b"\nnext\n")
    follower = tail.Tail(str(path), from_end=False)
    found = [line for _ in range(5) for line in follower.lines()]
    assert found == [b"next"] and follower.skipped == 1
    with path.open("ab") as file:
        file.truncate(40 << 20)
        file.seek(0, os.SEEK_END)
        file.write(b"\nend\n")
    found = [line for _ in range(5) for line in follower.lines()]
    assert found[-1] == b"end" and follower.skipped >= 2
    follower.close()


@pytest.mark.parametrize(
    "wild",
    [
        {"coll_msg_size_bytes": 10**30}, {"coll_msg_size_bytes": -5}, {"coll_sn": 10**400}, {"coll": [[7]]},
        {"coll_busbw_gbs": float("inf")}, {"coll_busbw_gbs": float("nan")}, {"coll_busbw_gbs": -1.0},
    ],
)  # fmt: skip
def test_values_that_no_server_reads_are_left_out(node, wild):
    node.begin()
    record = json.loads(line())
    record["coll_perf"] |= wild
    record["header"] |= {"rank": 10**30} if "coll" in wild else {}
    put(node.folder / "a.log", json.dumps(record) + "\n")
    found = node.look()
    assert sum(found["collectives_total"].values()) == 1
    assert all(abs(value) < 1e19 for values in found.values() for value in values.values())


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to other users")
def test_a_job_is_of_the_user_whose_log_was_there_first(node):
    node.begin()
    put(node.folder / "b.log", line(1))
    node.look()
    put(node.folder / "a.log", line(1), line(2))
    os.chown(node.folder / "a.log", 1234, -1)
    for _ in range(3):
        found = node.look()
    assert list(found["collectives_total"].values()) == [1] and found["spool_lost_events_total"] == {("inspector",): 1}
    (node.folder / "b.log").unlink()
    node.look()
    assert list(node.look()["collectives_total"].values()) == [2], "the name is free"
    put(node.folder / "c.log", line(1))
    node.look()
    node.now_s += 400
    node.look()
    put(node.folder / "c.log", line(2), line(3))
    node.look()
    assert list(node.look()["collectives_total"].values()) == [3], "a quiet log keeps no name"


def test_many_lines_come_in_portions_and_none_is_lost(node, monkeypatch):
    module = load("agents.collectors.nccl_inspector")
    monkeypatch.setattr(module, "MOST_LINES", 10)
    monkeypatch.setattr(module, "LEAST_LINES", 4)
    node.begin()
    put(node.folder / "a.log", *(line(seq) for seq in range(12)), line(12)[:40])
    assert [list(node.look()["collectives_total"].values()) for _ in range(4)] == [[5], [10], [12], [12]]
    put(node.folder / "a.log", line(12)[40:])
    found = node.look()
    assert list(found["collectives_total"].values()) == [13] and found["spool_lost_events_total"] == {("inspector",): 0}


def test_a_line_that_is_too_long_is_left_out(tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 100_000 + b"\nnext\n")
    follower = tail.Tail(str(path), from_end=False)
    assert follower.lines() == [b"next"] and follower.skipped == 1
    follower.close()
