"""The archive of raw records: what is on disk after flushes, kills, restarts and full disks."""

from __future__ import annotations

import gzip
import os
import time
import zlib
from pathlib import Path

import pytest

from skewscope import spool
from skewscope.catalogue import load, room
from skewscope.contracts import Place

archive = load("agents.collectors._archive")
COLLECTIVE = spool.KINDS.index("collective")


class Node:
    def __init__(self, folder: Path, **options: str) -> None:
        self.spool, self.archive = folder / "spool", folder / "archive"
        self.spool.mkdir(exist_ok=True)
        self.now_s = time.monotonic()
        self.place = Place(
            proc=folder / "proc", spool=self.spool, archive=self.archive, options=options, clock_s=lambda: self.now_s
        )
        self.start()

    def start(self) -> None:
        self.collector = room("agents.collectors", "collectives").kind()(self.place)

    def look(self, wait_s: float = 6.0) -> dict[str, dict[tuple[str, ...], float]]:
        self.now_s += wait_s
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for name, labels, value, *_ in self.collector.collect():
            found.setdefault(name, {})[labels] = value
        return found

    def segments(self) -> list[Path]:
        return sorted(self.archive.iterdir(), key=lambda path: int(path.name.split(".")[-3]))

    def numbers(self) -> list[int]:
        """Return the numbers of all archived records, by reading the members one by one."""
        return [number for path in self.segments() for number in numbers(path)]


def numbers(path: Path) -> list[int]:
    found, content = [], path.read_bytes()
    while content:
        decoder = zlib.decompressobj(31)
        member = decoder.decompress(content)
        content = decoder.unused_data
        assert spool.read_header(member[: spool.HEADER_BYTES]).rank == 0
        found += [row[0] for row in spool.valid_records(member[spool.HEADER_BYTES :])]
        if not decoder.eof:
            break
    return found


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


@pytest.fixture
def writer(node):
    made = spool.RingWriter(node.spool, job="llm", rank=0, world_size=2, capacity=1024)
    yield made
    made.close()


def put(writer, count, ended_ns=0):
    for _ in range(count):
        writer.write(COLLECTIVE, 1, 0, seq=1, start_ns=ended_ns or 1, end_ns=ended_ns or 2)


def test_records_of_before_the_agent_are_archived_although_they_are_not_counted(node, writer):
    put(writer, 5)
    found = node.look(0.0)
    assert "skewscope_collectives_total" not in found and not node.archive.exists()
    found = node.look()
    assert node.numbers() == [1, 2, 3, 4, 5]
    assert found["skewscope_archive_bytes"][()] == node.segments()[0].stat().st_size
    name = f"llm-r0-{os.getpid()}.1.ring.gz"
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
    assert [path.name.split(".")[-3] for path in node.segments()] == ["1", "6"]


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
    path = tmp_path / "segment"
    archive._append(str(path), b"whole")
    pieces = iter([3, OSError(28, "No space left on device")])

    def full(descriptor, payload, write=os.write):
        piece = next(pieces)
        if isinstance(piece, OSError):
            raise piece
        return write(descriptor, payload[:piece])

    monkeypatch.setattr(archive.os, "write", full)
    with pytest.raises(OSError):
        archive._append(str(path), b"torn")
    assert path.read_bytes() == b"whole"


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
