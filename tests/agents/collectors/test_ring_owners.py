"""Whose rings are believed, and what no user can keep from the others."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from skewscope.catalogue import load
from skewscope.errors import NoData

_spec = importlib.util.spec_from_file_location("ring_node", Path(__file__).parents[1] / "ring_node.py")
ring_node = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(ring_node)
Node, call, COLLECTIVE, ALL_REDUCE, MS = (
    getattr(ring_node, name) for name in ("Node", "call", "COLLECTIVE", "ALL_REDUCE", "MS")
)
ME = os.getuid()
needs_root = pytest.mark.skipif(ME != 0, reason="only root can give files to other users")


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path)
    yield made
    for writer in made.writers:
        writer.close()


def given_to(uid: int, writer):
    os.chown(writer.path, uid, -1)
    return writer


@needs_root
def test_a_job_is_of_the_user_whose_ring_was_there_first(node):
    mine = node.ring(0)
    call(mine, mine.group(9, [0, 1], 0, "dp"), 1, node.ns(1))
    os.replace(mine.path, node.spool / "mine.ring")
    node.look()
    for rank in (0, 1):  # later, and by what it says of itself newer
        writer = node.ring(rank)
        os.replace(writer.path, node.spool / f"foreign{rank}.ring")
        os.chown(node.spool / f"foreign{rank}.ring", 1234, -1)
        call(writer, writer.group(9, [0, 1], rank, "dp"), 500, node.ns(2))
    for _ in range(12):
        found = node.look()
    assert list(found["collective_last_sequence"].items()) == [(("llm", "0", "", "dp"), 1)]
    assert found["spool_lost_events_total"][("rejected",)] == 2 and not found["spool_lost_events_total"][("duplicate",)]
    assert [(rank["rank"], rank["uid"]) for rank in node.place.board["ranks"]] == [(0, ME)]


@needs_root
def test_the_order_of_files_tells_who_was_first_after_a_restart(node):
    mine = node.ring(0)
    os.replace(mine.path, node.spool / "z.ring")
    theirs = given_to(1234, node.ring(1))
    while theirs.path.stat().st_ctime_ns <= (node.spool / "z.ring").stat().st_ctime_ns:
        given_to(1234, theirs)  # a file system's clock ticks seldom
    os.utime(theirs.path, (1, 1))
    node.look(node.start())
    assert [rank["uid"] for rank in node.place.board["ranks"]] == [ME]


@needs_root
def test_a_name_is_free_for_another_user_when_its_last_ring_has_ended(node):
    mine = node.ring(0)
    call(mine, mine.group(9, [0, 1], 0, "dp"), 7, node.ns(1))
    node.look()
    os.replace(mine.path, node.spool / "before.ring")
    theirs = given_to(1234, node.ring(0))
    call(theirs, theirs.group(9, [0, 1], 0, "dp"), 1, node.ns(2))
    assert node.look()["collectives_total"] and node.place.board["ranks"][0]["uid"] == ME
    mine.close()
    for _ in range(12):
        found = node.look()
    assert node.place.board["ranks"][0]["uid"] == 1234
    assert found["collective_last_sequence"] == {("llm", "0", "", "dp"): 1}
    assert found["collective_duration_seconds_count"] == {("llm", "all_reduce", "dp"): 1}, (
        "nothing is left of the first"
    )


@needs_root
def test_no_user_keeps_more_than_half_of_the_places_from_others(node):
    for rank in range(64):
        given_to(1234, node.ring(rank, job="flood", capacity=1))
    node.look()
    for rank in range(3):
        node.ring(rank, job="llm", capacity=1)
    for _ in range(8):
        found = node.look()
    ranks = [labels[1] for labels in found["rank_heartbeat_age_seconds"] if labels[0] == "llm"]
    assert sorted(ranks) == ["0", "1", "2"] and len(node.place.board["ranks"]) == 64


def test_rings_of_processes_that_nobody_sees_make_room_when_they_have_been_silent_for_long(node):
    """A process that was killed in a container leaves a ring that is never closed."""
    node.process(os.getpid(), ME + 1)  # its number is of another namespace
    for rank in range(64):
        node.ring(rank, job="dead", capacity=1)
    node.look()
    node.now_s += 1000
    watch = node.collector._watch
    for _ in range(302):
        node.look(wait_s=0.001)
    assert len(watch.rings) == 64, "nobody wants the place"
    new = node.ring(0, capacity=1)
    new._map[288:296] = int(node.now_s * 1e9).to_bytes(8, "little")  # its heartbeat
    for _ in range(4):
        found = node.look(wait_s=0.001)
    assert list(found["rank_heartbeat_age_seconds"]) == [("llm", "0", "")]


@needs_root
def test_a_name_is_free_when_its_rings_have_been_silent_for_long(node):
    node.process(os.getpid(), ME + 1)
    given_to(1234, node.ring(0))
    node.look()
    node.now_s += 1000
    new = node.ring(1)
    new._map[288:296] = int(node.now_s * 1e9).to_bytes(8, "little")  # its heartbeat
    for _ in range(300):
        node.look(wait_s=0.001)
    assert [rank["uid"] for rank in node.place.board["ranks"]] == [1234], "it may only be at a long pause"
    for _ in range(20):
        node.look(wait_s=0.001)
    assert [rank["uid"] for rank in node.place.board["ranks"]] == [ME]


def test_a_ring_that_is_over_and_never_dry_is_let_go(node):
    writer = node.ring()
    node.look()
    writer.beat(closed=True)
    for _ in range(70):
        writer.write(COLLECTIVE, ALL_REDUCE, 0, seq=1, start_ns=node.ns(), end_ns=node.ns())
        node.look()
    assert not node.collector._watch.rings


def test_a_sign_of_life_from_the_future_is_none(node):
    writer = node.ring()
    writer._map[288:296] = int((node.now_s + 1e6) * 1e9).to_bytes(8, "little")
    for _ in range(3):
        found = node.look()
    assert not found["rank_heartbeat_age_seconds"]


def test_a_ring_that_turns_into_another_ranks_stays_what_it_was(node):
    writer, other = node.ring(0), node.ring(1, job="other")
    other.path.unlink()
    node.look()
    writer._map[:256] = other._map[:256]
    for _ in range(3):
        node.look()
    assert [(rank["job_id"], rank["rank"]) for rank in node.place.board["ranks"]] == [("llm", 0)]


def test_a_name_that_is_too_long_for_the_archive_is_rejected(tmp_path):
    node = Node(tmp_path, archive=tmp_path / "archive")
    long, short = node.ring(0), node.ring(1)
    os.replace(long.path, node.spool / ("x" * 240 + ".ring"))
    for writer in (long, short):
        call(writer, writer.group(9, [0, 1], 0, "dp"), 1, node.ns(1))
    for _ in range(8):
        found = node.look()
    assert found["spool_lost_events_total"][("rejected",)] == 1 and found["archive_errors_total"][()] == 0
    assert len(list((tmp_path / "archive").iterdir())) == 1


def test_files_that_go_away_between_two_glances_hide_nothing(node):
    writer = node.ring()
    call(writer, writer.group(9, [0, 1], 0, "dp"), 1, node.ns(1))
    watch = node.collector._watch
    names = watch._names
    watch._names = lambda: names() | {"gone.ring": 1}
    assert node.look()["collectives_total"]


def test_a_daemon_that_finds_no_spool_makes_one_for_all(tmp_path):
    node = Node(tmp_path)
    node.spool.rmdir()
    with pytest.raises(NoData):
        node.look(node.start())
    assert not node.spool.exists(), "a look leaves no trace"
    umask = os.umask(0o077)
    try:
        node = Node.__new__(Node)
        Node.__init__(node, tmp_path, archive=tmp_path / "archive")
        node.spool.rmdir()
        node.start()
    finally:
        os.umask(umask)
    for folder in (node.spool, node.spool / "flight", node.spool / "inspector"):
        assert folder.stat().st_mode & 0o7777 == 0o3777
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_daemon_that_may_not_make_a_spool_goes_on(tmp_path):
    (tmp_path / "file").touch()
    made = load("agents.collectors._spool_folder").make_spool
    assert not made(tmp_path / "file" / "spool") and not made(tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert not made(tmp_path / "link") and not (tmp_path / "nowhere").exists()
