"""Rings that come, go, lie, or belong to somebody else."""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path

import pytest

from skewscope.errors import NoData

_spec = importlib.util.spec_from_file_location("ring_node", Path(__file__).parents[1] / "ring_node.py")
ring_node = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(ring_node)
Node, call, COLLECTIVE, ALL_REDUCE, MS = (
    getattr(ring_node, name) for name in ("Node", "call", "COLLECTIVE", "ALL_REDUCE", "MS")
)


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path)
    yield made
    for writer in made.writers:
        writer.close()


def test_what_ended_before_the_agent_began_is_no_spike(node):
    writer = node.ring()
    group = writer.group(9, [0, 1], 0, "dp")
    for seq in range(1, 21):
        call(writer, group, seq, node.ns(-5000 + seq), 1)
    writer.beat()
    agent = node.start()
    node.now_s += 0.2
    call(writer, group, 21, node.ns(), 1)
    found = node.look(agent)
    assert found["collectives_total"] == {("llm", "0", "", "all_reduce", "dp"): 1}


def test_an_old_ring_that_was_never_touched_again_gives_nothing(node):
    writer = node.ring()
    call(writer, writer.group(9, [0, 1], 0, "dp"), 1, node.ns(-5000), 1)
    writer.close()
    node.now_s = time.monotonic() + 1
    agent = node.start()
    for _ in range(4):
        found = node.look(agent)
        assert not found["collectives_total"] and not found["rank_heartbeat_age_seconds"]


def test_a_pid_of_another_users_process_is_of_another_namespace_and_says_nothing(node):
    """A container numbers its processes anew: the ring's own life signs count, not those of a stranger."""
    node.ring(0)
    node.process(os.getpid(), os.getuid() + 1)
    found = [node.look() for _ in range(3)][-1]
    assert len(found["rank_heartbeat_age_seconds"]) == 1
    assert not found["spool_lost_events_total"].get(("rejected",))


def test_what_is_no_ring_does_not_hide_the_others(node, tmp_path):
    writer = node.ring()
    call(writer, writer.group(9, [0, 1], 0, "dp"), 1, node.ns(1))
    (node.spool / "garbage.ring").write_bytes(b"x" * 10_000)
    (node.spool / "empty.ring").touch()
    (node.spool / "folder.ring").mkdir()
    (node.spool / "link.ring").symlink_to(writer.path)
    os.mkfifo(node.spool / "pipe.ring")
    for _ in range(4):
        found = node.look()
    assert found["collectives_total"]
    assert found["spool_lost_events_total"][("rejected",)] == 5


def test_a_ring_from_before_the_last_boot_is_rejected(node):
    node.ring()
    boot_id = node.proc / "sys/kernel/random/boot_id"
    boot_id.parent.mkdir(parents=True)
    boot_id.write_text("00000000-1111-2222-3333-444444444444\n")
    for _ in range(2):
        with pytest.raises(NoData):
            node.look()
    found = node.look()
    assert found["spool_lost_events_total"][("rejected",)] == 1 and not node.place.board["ranks"]


def test_a_ring_of_this_boot_is_read(node):
    node.ring()
    boot_id = node.proc / "sys/kernel/random/boot_id"
    boot_id.parent.mkdir(parents=True)
    boot_id.write_text(Path("/proc/sys/kernel/random/boot_id").read_text())
    assert node.look()["rank_heartbeat_age_seconds"]


def test_a_ring_is_retried_while_it_is_being_made(node):
    made = node.ring()
    with made.path.open("r+b") as file:
        magic = file.read(8)
        os.pwrite(file.fileno(), bytes(8), 0)
        with pytest.raises(NoData):
            node.look()
        os.pwrite(file.fileno(), magic, 0)
    found = node.look()
    assert found["rank_heartbeat_age_seconds"] and found["spool_lost_events_total"][("rejected",)] == 0


def test_a_closed_ring_keeps_its_series_for_two_looks(node):
    writer = node.ring()
    group = writer.group(9, [0, 1], 0, "dp")
    node.look()
    call(writer, group, 1, node.ns(1))
    writer.close()
    assert node.look()["collectives_total"]
    assert node.place.board["ranks"] == []
    assert node.look()["collectives_total"]
    assert not node.look()["collectives_total"]
    assert not node.look()["collective_duration_seconds_count"]
    assert node.look()["spool_events_total"][("collective",)] == 1


@pytest.mark.parametrize("how", ["process", "file"])
def test_a_rank_whose_process_or_ring_is_gone_leaves(node, how):
    writer = node.ring()
    node.look()
    if how == "process":
        (node.proc / str(os.getpid()) / "status").unlink()
        (node.proc / str(os.getpid())).rmdir()
    else:
        writer.path.unlink()
    for _ in range(2):
        assert node.look()["rank_heartbeat_age_seconds"]
    assert not node.look()["rank_heartbeat_age_seconds"]


def test_a_silent_rank_vanishes_and_comes_back_with_its_counters(node):
    writer = node.ring()
    group = writer.group(9, [0, 1], 0, "dp")
    call(writer, group, 1, node.ns(1))
    assert node.look()["collectives_total"]
    node.now_s += 60
    assert node.look()["collectives_total"] and node.look()["collectives_total"]
    assert not node.look()["collectives_total"]
    assert node.place.board["ranks"], "its process is still there"
    node.now_s = time.monotonic()
    writer.beat()
    call(writer, group, 2, node.ns(1))
    assert list(node.look()["collectives_total"].values()) == [2]


def test_a_restarted_rank_begins_at_zero_and_is_judged_anew(node):
    """The group has the same id, its numbers begin at 1 again."""
    first = [node.ring(rank) for rank in (0, 1)]
    for writer in first:
        group = writer.group(9, [0, 1], writer is first[1], "dp")
        for seq in range(1, 51):
            call(writer, group, seq, node.ns(seq), 0.5)
    node.look()
    for writer in first:
        writer.close()
        os.replace(writer.path, node.spool / f"before{writer is first[1]}.ring")
    second = [node.ring(rank) for rank in (0, 1)]
    for rank, writer in enumerate(second):
        call(writer, writer.group(9, [0, 1], rank, "dp"), 1, node.ns(100 + rank), 0.5)
    for _ in range(4):
        found = node.look()
    assert found["collectives_total"]["llm", "0", "", "all_reduce", "dp"] == 1
    assert found["collective_local_lateness_seconds_total"]["llm", "1", "", "dp"] == pytest.approx(0.001)


def test_two_jobs_of_one_name_do_not_share_series(node):
    old = node.ring()
    os.replace(old.path, node.spool / "other.ring")
    new = node.ring()
    for writer in (old, new):
        call(writer, writer.group(9, [0, 1], 0, "dp"), 1, node.ns(1))
    found = node.look()
    assert list(found["collectives_total"].values()) == [1]
    assert found["spool_lost_events_total"][("duplicate",)] == 1


def test_overwritten_and_damaged_records_are_counted(node):
    writer = node.ring(capacity=64)
    group = writer.group(9, [0, 1], 0, "dp")
    call(writer, group, 1, node.ns(1))
    node.look()
    for seq in range(2, 202):
        call(writer, group, seq, node.ns(seq), 0.1)
    found = node.look()
    assert found["spool_lost_events_total"][("overwritten",)] == 200 - 64 + 1 - 1
    assert sum(found["collectives_total"].values()) == 65
    with writer.path.open("r+b") as file:
        file.seek(4096 + 201 % 64 * 64 + 20)
        call(writer, group, 202, node.ns(300), 0.1)
        call(writer, group, 203, node.ns(301), 0.1)
        file.write(b"\xff")
    node.look()
    found = node.look()
    assert found["spool_lost_events_total"][("malformed",)] == 1
    assert sum(found["collectives_total"].values()) == 66


@pytest.mark.parametrize("size", [0, 100, 4096, 4096 + 70])
def test_a_ring_that_is_cut_hides_nothing(node, size):
    rings = [node.ring(rank) for rank in (0, 1)]
    copy = node.spool / "copy.ring"
    copy.write_bytes(rings[0].path.read_bytes())  # cutting what it maps would kill the writer
    rings[0].path.unlink()
    node.look()
    os.truncate(copy, size)
    call(rings[1], rings[1].group(9, [0, 1], 1, "dp"), 1, node.ns(1))
    for _ in range(3):
        found = node.look()
    assert list(found["collectives_total"]) == [("llm", "1", "", "all_reduce", "dp")]


def test_at_most_64_rings_are_followed_and_the_others_get_room_when_some_end(node):
    writers = [node.ring(rank, capacity=1) for rank in range(66)]
    for _ in range(5):
        found = node.look()
    followed = {labels[1] for labels in found["rank_heartbeat_age_seconds"]}
    assert len(followed) == 64
    for rank in sorted(followed, key=int)[:10]:
        writers[int(rank)].close()
    for _ in range(8):
        found = node.look()
    ranks = {labels[1] for labels in found["rank_heartbeat_age_seconds"]}
    assert ranks == {str(rank) for rank in range(66)} - set(sorted(followed, key=int)[:10])
