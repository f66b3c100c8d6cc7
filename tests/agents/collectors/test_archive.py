"""The archive of raw records: what is on disk after flushes, kills, restarts and full disks."""

from __future__ import annotations

import gzip
import importlib.util
import os
from pathlib import Path

import pytest

from skewscope import spool
from skewscope.catalogue import load

archive = load("agents.collectors._archive")
folders = load("agents.collectors._archive_folder")
COLLECTIVE = spool.KINDS.index("collective")

_spec = importlib.util.spec_from_file_location("archive_node", Path(__file__).parents[1] / "archive_node.py")
archive_node = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(archive_node)
Node, numbers, first, put = (getattr(archive_node, name) for name in ("Node", "numbers", "first", "put"))


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


@pytest.fixture
def writer(node):
    made = spool.RingWriter(node.spool, job="llm", rank=0, world_size=2, capacity=1024)
    yield made
    made.close()


def test_records_of_before_the_agent_are_archived_although_they_are_not_counted(node, writer):
    put(writer, 5)
    found = node.look(0.0)
    assert "skewscope_collectives_total" not in found and not node.archive.exists()
    found = node.look()
    assert node.numbers() == [1, 2, 3, 4, 5]
    assert found["skewscope_archive_bytes"][()] == node.segments()[0].stat().st_size
    name = f"llm-r0-{os.getpid()}.1-1.ring.gz"
    assert [path.name for path in node.segments()] == [name]
    assert gzip.decompress((node.archive / name).read_bytes())[:8] == b"SKEWRING"


def test_members_are_appended_every_5_seconds_and_at_the_end(node, writer):
    for _ in range(4):
        put(writer, 3)
        node.look(2.0)
    assert node.numbers() == list(range(1, 13))
    put(writer, 1)
    writer.close()
    node.look(0.1)
    assert node.numbers() == list(range(1, 14))
    assert len(node.segments()) == 1
    for _ in range(4):
        node.look(0.1)
    assert node.numbers() == list(range(1, 14)), "a ring that is over is not read again"


def test_after_a_kill_it_goes_on_where_the_archive_ended(node, writer):
    put(writer, 5)
    node.look(0.1)
    node.look()
    put(writer, 3)
    node.look(0.1)  # taken but not written: the kill comes now
    node.start()
    put(writer, 2)
    node.look(0.1)
    node.look()
    assert node.numbers() == list(range(1, 11))
    assert [first(path) for path in node.segments()] == ["1", "6"]


@pytest.mark.parametrize("cut", [1, 30, 10_000])
def test_a_torn_end_costs_nothing_that_the_ring_still_has(node, writer, cut):
    for _ in range(2):
        put(writer, 100)
        node.look(0.1)
        node.look()
    segment = node.segments()[0]
    segment.write_bytes(segment.read_bytes()[: -min(cut, segment.stat().st_size - 10)])
    node.start()
    node.look(0.1)
    node.look()
    assert sorted(set(node.numbers())) == list(range(1, 201))


def test_segments_are_bounded_and_the_oldest_go_first(tmp_path):
    node = Node(tmp_path, **{"archive.mib": "1"})
    node.collector._watch.archive.cap_bytes = 20_000
    node.collector._watch.archive.segment_bytes = 4_000
    writer = spool.RingWriter(node.spool, job="llm", rank=0, world_size=2, capacity=1024)
    for round_ in range(40):
        for seq in range(100):
            writer.write(COLLECTIVE, 1, 0, seq=seq, start_ns=round_ * seq * 7919, end_ns=round_ * seq * 7919 + 5)
        node.look(0.1)
        node.look()
    writer.close()
    sizes = [path.stat().st_size for path in node.segments()]
    assert sum(sizes) <= 20_000 and max(sizes) < 8_000 and len(sizes) > 2
    assert node.numbers()[-1] == 4000 and node.numbers()[0] > 1000


def test_a_folder_that_cannot_be_written_is_counted_and_tried_again(node, writer):
    node.archive.write_text("not a folder")
    put(writer, 5, ended_ns=int((node.now_s + 1) * 1e9))
    node.look(0.1)
    found = node.look()
    assert found["skewscope_archive_errors_total"][()] == 1
    assert sum(found["skewscope_collectives_total"].values()) == 5, "metrics go on"
    assert found["skewscope_spool_lost_events_total"][("not_archived",)] == 0, "it is still held"
    node.look(1.0)
    assert node.look(1.0)["skewscope_archive_errors_total"][()] == 1, "not tried at every look"
    node.archive.unlink()
    node.look()
    assert node.numbers() == [1, 2, 3, 4, 5]


def test_what_cannot_be_written_is_held_within_bounds(node, tmp_path):
    (tmp_path / "file").touch()
    kept = archive.Archive(tmp_path / "file", 1 << 20)
    tape = kept.tape("llm-r0-1", bytes(4096))
    record = bytes(64)
    for second in range(4):
        tape.add(record * 10_000, float(second))
        tape.flush(float(second))
    assert kept.lost_records == 40_000 - archive.MEMBER_RECORDS
    kept.close(tape, 10.0)
    assert kept.lost_records == 40_000


def test_a_failed_write_leaves_no_half_member(node, writer, tmp_path, monkeypatch):
    folder = folders.ArchiveFolder(str(tmp_path / "archive"))
    folder.append("segment", b"whole")
    pieces = iter([3, OSError(28, "No space left on device")])

    def full(descriptor, payload, write=os.write):
        piece = next(pieces)
        if isinstance(piece, OSError):
            raise piece
        return write(descriptor, payload[:piece])

    monkeypatch.setattr(folders.os, "write", full)
    with pytest.raises(OSError):
        folder.append("segment", b"torn")
    assert (tmp_path / "archive" / "segment").read_bytes() == b"whole"


def test_another_process_with_the_same_number_keeps_its_segments(node, writer):
    """In containers every first process is number 1."""
    put(writer, 5)
    node.look(0.1)
    node.look()
    writer.close()
    os.utime(writer.path, (1, 1))  # the number of its inode is used again at once
    for _ in range(3):
        node.look()
    again = spool.RingWriter(node.spool, job="llm", rank=0, world_size=2, capacity=1024)
    put(again, 3)
    for _ in range(3):
        node.look()
    again.close()
    assert len(node.segments()) == 2
    assert sorted(node.numbers()) == [1, 1, 2, 2, 3, 3, 4, 5]


def test_a_beginning_without_a_record_is_replaced(node, writer):
    node.archive.mkdir()
    (node.archive / f"llm-r0-{os.getpid()}.1.ring.gz").write_bytes(gzip.compress(b"x" * 100)[:-9])
    put(writer, 5)
    node.look(0.1)
    node.look()
    assert node.numbers() == [1, 2, 3, 4, 5]


def test_the_newest_data_stays_when_the_clock_goes_back(tmp_path):
    node = Node(tmp_path)

    def cap():
        node.collector._watch.archive.cap_bytes = 20_000
        node.collector._watch.archive.segment_bytes = 4_000

    cap()
    writer = spool.RingWriter(node.spool, job="llm", rank=0, world_size=2, capacity=1024)
    for round_ in range(40):
        if round_ % 13 == 12:
            node.start()
            cap()
        for seq in range(100):
            writer.write(COLLECTIVE, 1, 0, seq=seq, start_ns=round_ * seq * 7919, end_ns=round_ * seq * 7919 + 5)
        node.look(0.1)
        node.look()
        for path in node.segments():
            os.utime(path, (2_000_000_000 - int(first(path)),) * 2)
    writer.close()
    kept = node.numbers()
    assert kept == list(range(kept[0], 4001)) and kept[0] > 1000


def test_a_segment_that_is_still_written_to_is_newer_than_one_begun_later(tmp_path):
    kept = archive.Archive(tmp_path / "archive", 1 << 20)
    kept.segment_bytes = 3_000
    slow, fast = (kept.tape(f"llm-r{rank}-1", bytes(4096)) for rank in (0, 1))
    for second in range(40):
        for tape, size in ((slow, 64), (fast, 6400)):
            tape.add(os.urandom(size), float(second))
            tape.flush(float(second))
        kept.cap_bytes = 30_000
    stems = {path.name.rsplit(".", 3)[0] for path in (tmp_path / "archive").iterdir()}
    assert stems == {"llm-r0-1", "llm-r1-1"}


def test_segments_of_before_there_was_an_order_go_first(tmp_path):
    (tmp_path / "archive").mkdir()
    for number in (9, 10):
        (tmp_path / "archive" / f"llm-r0-1.{number}.ring.gz").write_bytes(bytes(600))
    kept = archive.Archive(tmp_path / "archive", 1000)
    tape = kept.tape("llm-r1-1", bytes(4096))
    tape.add((1).to_bytes(8, "little") + os.urandom(56), 0.0)
    tape.flush(0.0)
    names = {path.name for path in (tmp_path / "archive").iterdir()}
    assert names == {"llm-r0-1.10.ring.gz", "llm-r1-1.1-1.ring.gz"}


def test_what_all_rings_hold_together_is_bounded(tmp_path):
    (tmp_path / "file").touch()
    kept = archive.Archive(tmp_path / "file", 1 << 20)
    tapes = [kept.tape(f"llm-r{rank}-1", bytes(4096)) for rank in range(64)]
    for tape in tapes:
        tape.add(bytes(64) * archive.MEMBER_RECORDS, 0.0)
        tape.flush(0.0)
    assert sum(len(tape._held) for tape in tapes) <= archive.HELD_RECORDS * 64
