from __future__ import annotations

import os
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skewscope import spool
from skewscope.errors import Unreadable
from skewscope.spool import layout

CAPACITY = 64
COLLECTIVE = spool.KINDS.index("collective")


@pytest.fixture
def writer(tmp_path: Path):
    made = spool.RingWriter(tmp_path, job="llm/70b", rank=3, local_rank=1, world_size=8, device=1, capacity=CAPACITY)
    yield made
    made.close()


@pytest.fixture
def reader(writer):
    made = spool.RingReader(writer.path)
    yield made
    made.close()


def numbers(drained):
    return [row[0] for row in drained.rows]


def put(writer, count):
    for seq in range(count):
        writer.write(COLLECTIVE, spool.OPS.index("all_reduce"), seq=seq, start_ns=seq, end_ns=seq + 5, size=1024)


def damage(writer, at: int):
    writer._map[at] ^= 0xFF


def test_the_header_says_who_writes(writer, reader):
    header = reader.header
    assert (header.job, header.rank, header.local_rank, header.world_size) == ("llm/70b", 3, 1, 8)
    assert (header.pid, header.device, header.capacity, header.closed) == (os.getpid(), 1, CAPACITY, False)
    assert abs(header.realtime(time.monotonic_ns()) - time.time_ns()) < 50_000_000
    assert writer.path.name == f"llm_70b-r3-{os.getpid()}.ring" and writer.path.stat().st_mode & 0o777 == 0o640


def test_records_come_back_as_they_were_written(writer, reader):
    writer.write(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
    drained = reader.drain()
    assert drained.rows[0][:-1] == (1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
    assert list(spool.valid_records(drained.raw)) == drained.rows


def test_each_look_goes_on_where_the_last_one_ended(writer, reader):
    put(writer, 10)
    assert numbers(reader.drain(limit=4)) == [1, 2, 3, 4]
    assert numbers(reader.drain()) == [5, 6, 7, 8, 9, 10]
    assert numbers(reader.drain()) == []
    put(writer, 60)  # round the end of the ring
    assert numbers(reader.drain()) == list(range(11, 71))


def test_overwritten_records_are_counted(writer, reader):
    put(writer, CAPACITY * 3 + 7)
    drained = reader.drain()
    assert drained.overwritten == 2 * CAPACITY + 7
    assert numbers(drained) == list(range(2 * CAPACITY + 8, 3 * CAPACITY + 8))


def test_a_damaged_record_is_skipped_once_newer_ones_stand_behind_it(writer, reader):
    put(writer, 10)
    damage(writer, layout.HEADER_BYTES + 4 * layout.RECORD_BYTES + 30)
    assert numbers(reader.drain()) == [1, 2, 3, 4]  # it may be half written yet
    drained = reader.drain()
    assert numbers(drained) == [6, 7, 8, 9, 10] and drained.malformed == 1


@pytest.mark.parametrize("first", [11, 60])
def test_a_run_of_damaged_records_is_skipped_in_one_look(writer, reader, first):
    put(writer, first - 1)
    reader.drain()
    put(writer, 30)
    for number in range(first, first + 10):  # the second run goes round the end of the ring
        damage(writer, layout.HEADER_BYTES + (number - 1) % CAPACITY * layout.RECORD_BYTES + 30)
    assert not reader.drain().rows  # the first may be half written yet
    drained = reader.drain()
    assert numbers(drained) == list(range(first + 10, first + 30)) and drained.malformed == 10


def test_a_run_that_is_longer_than_a_look_sees_takes_a_few(tmp_path: Path):
    writer = spool.RingWriter(tmp_path, job="j", rank=0, capacity=4096)
    reader = spool.RingReader(writer.path)
    put(writer, 3000)
    for number in range(100, 2600):
        damage(writer, layout.HEADER_BYTES + number * layout.RECORD_BYTES + 30)
    writer.beat()
    looks = []
    for _ in range(5):
        reader.refresh()
        looks.append(reader.drain())
    assert sum(drained.malformed for drained in looks) == 2500
    assert [number for drained in looks for number in numbers(drained)] == [*range(1, 101), *range(2601, 3001)]
    reader.close()
    writer.close()


def test_a_newer_lap_ends_a_damaged_run(writer, reader):
    put(writer, 10)
    reader.drain()
    put(writer, CAPACITY + 5)
    damage(writer, layout.HEADER_BYTES + 10 * layout.RECORD_BYTES + 30)
    drained = [reader.drain() for _ in range(6)]
    found = [number for one in drained for number in numbers(one)]
    assert found == [*range(16, 75), *range(76, 80)]
    assert sum(one.malformed + one.overwritten for one in drained) == CAPACITY + 5 - len(found)


def test_who_writes_a_ring_never_changes(writer, reader, tmp_path: Path):
    other = spool.RingWriter(tmp_path, job="other", rank=0, capacity=CAPACITY)
    put(writer, 1)
    writer.beat()
    assert reader.refresh().last_number == 1
    writer._map[: layout.IDENTITY.size] = other._map[: layout.IDENTITY.size]
    assert (reader.refresh().job, reader.header.rank) == ("llm/70b", 3)
    other.close()


def test_a_record_that_is_not_finished_is_waited_for(writer, reader):
    put(writer, 3)
    damage(writer, layout.HEADER_BYTES + 2 * layout.RECORD_BYTES + 30)
    for _ in range(5):
        reader.drain()
    damage(writer, layout.HEADER_BYTES + 2 * layout.RECORD_BYTES + 30)  # whole again
    assert numbers(reader.drain()) == [3]


def test_token_counts_of_experts_take_eight_to_a_record(writer, reader):
    writer.experts(step=5, layer=3, counts=list(range(20)))
    records = list(layout.EXPERTS.iter_unpack(reader.drain().raw))
    assert [(fields[5], fields[6] >> 32, fields[6] & 0xFFFFFFFF) for fields in records] == [
        (5, 3, 0), (5, 3, 8), (5, 3, 16),
    ]  # fmt: skip
    assert [tokens for fields in records for tokens in fields[7 : 7 + fields[15]]] == list(range(20))


def test_groups_are_listed_once_and_the_table_has_an_end(writer, reader):
    assert writer.group(77, [1, 3, 5], 1, "dp", "0") == writer.group(77, [1, 3, 5], 1, "dp", "0") == 0
    assert writer.group(78, [0, 1, 5], 0, "tp") == 1
    groups = reader.refresh().groups
    assert groups[0].ranks() == (1, 3, 5) and groups[0].role == "dp" and groups[1].ranks() == ()
    for more in range(100, 100 + spool.GROUPS):
        last = writer.group(more, [0], 0)
    assert last == -1


def test_a_call_that_began_is_shown(writer, reader):
    group = writer.group(77, [0, 1], 0)
    writer.begin(group, spool.OPS.index("barrier"), step=9, seq=41, start_ns=1234)
    assert reader.refresh().begun[group] == spool.Begun(41, 1234, spool.OPS.index("barrier"), 9)


def test_a_closed_ring_says_so_and_outlives_its_writer(writer, reader):
    put(writer, 2)
    writer.close()
    assert reader.refresh().closed and len(reader.drain().rows) == 2
    writer.close()


def test_nothing_but_a_ring_is_read(tmp_path: Path, writer):
    garbage = tmp_path / "a.ring"
    garbage.write_bytes(os.urandom(8192))
    with pytest.raises(Unreadable, match="no ring"):
        spool.RingReader(garbage)
    (tmp_path / "dir.ring").mkdir()
    with pytest.raises(Unreadable, match="no regular file"):
        spool.RingReader(tmp_path / "dir.ring")
    os.mkfifo(tmp_path / "fifo.ring")
    with pytest.raises(Unreadable, match="no regular file"):
        spool.RingReader(tmp_path / "fifo.ring")
    (tmp_path / "link.ring").symlink_to(writer.path)
    with pytest.raises(OSError):
        spool.RingReader(tmp_path / "link.ring")


@pytest.mark.parametrize("at", [8, 12, 20, 100, 200])
def test_a_damaged_header_is_refused(tmp_path: Path, writer, at: int):
    damage(writer, at)
    with pytest.raises(Unreadable, match="damaged|ring layout"):
        spool.RingReader(writer.path)


def test_a_truncated_ring_gives_what_is_left(writer, reader):
    put(writer, 20)
    os.truncate(writer.path, layout.HEADER_BYTES + 5 * layout.RECORD_BYTES + 10)
    assert numbers(reader.drain()) == [1, 2, 3, 4, 5]
    os.truncate(writer.path, 100)
    assert numbers(reader.drain()) == [] and reader.refresh().rank == 3
    os.truncate(writer.path, layout.HEADER_BYTES + CAPACITY * layout.RECORD_BYTES)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=4 * layout.RECORD_BYTES), st.integers(0, CAPACITY - 4))
def test_hostile_records_neither_crash_nor_stop_the_reader(tmp_path_factory, noise: bytes, slot: int):
    folder = tmp_path_factory.mktemp("hostile")
    writer = spool.RingWriter(folder, job="j", rank=0, capacity=CAPACITY)
    put(writer, 5)
    reader = spool.RingReader(writer.path)
    at = layout.HEADER_BYTES + slot * layout.RECORD_BYTES
    writer._map[at : at + len(noise)] = noise
    seen = sum(len(reader.drain().rows) for _ in range(4))
    assert seen <= 5
    put(writer, CAPACITY)
    assert sum(len(reader.drain().rows) for _ in range(2 * CAPACITY)) >= CAPACITY - 9
    reader.close()
    writer.close()


WRITE_MUCH = """
import sys
from pathlib import Path
from skewscope.spool import RingWriter
writer = RingWriter(Path(sys.argv[1]), job="j", rank=0, capacity=1 << 14)
for seq in range(int(sys.argv[2])):
    writer.write(1, 1, 0, 0, seq, seq, seq * 3, seq * 3 + 1, size=seq * 7)
"""


def test_a_reader_beside_a_writer_sees_every_record_right(tmp_path: Path):
    count = 60_000
    process = subprocess.Popen([sys.executable, "-c", WRITE_MUCH, str(tmp_path), str(count)])
    deadline, found = time.monotonic() + 30, 0
    while not (paths := list(tmp_path.glob("*.ring"))):
        assert time.monotonic() < deadline
    reader = None
    lost = 0
    while found + lost < count and time.monotonic() < deadline:
        if reader is None:
            try:
                reader = spool.RingReader(paths[0])
            except Unreadable:
                continue
        drained = reader.drain()
        lost += drained.overwritten + drained.malformed
        for row in drained.rows:
            seq = row[6]
            assert row[5] == seq and row[7:9] == (seq * 3, seq * 3 + 1) and row[10] == seq * 7
        found += len(drained.rows)
    assert process.wait(10) == 0
    assert found + lost == count and drained.malformed == 0


def test_the_disk_must_have_room_for_the_whole_ring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        spool.RingWriter(tmp_path, job="j", rank=0)
    assert not list(tmp_path.iterdir())


def test_the_folders_group_may_read_a_ring_whatever_the_umask(tmp_path: Path):
    tmp_path.chmod(0o3777)
    before = os.umask(0o077)
    try:
        writer = spool.RingWriter(tmp_path, job="j", rank=0, capacity=CAPACITY)
    finally:
        os.umask(before)
    found = writer.path.stat()
    assert found.st_mode & 0o777 == 0o640 and found.st_gid == tmp_path.stat().st_gid
    writer.close()


def test_a_ring_that_claims_to_go_round_at_each_record_costs_little(writer, reader):
    for slot in range(CAPACITY):
        body = layout.BODY.pack(slot + 1 + CAPACITY * (slot + 1), 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        at = layout.HEADER_BYTES + slot * layout.RECORD_BYTES
        writer._map[at : at + layout.RECORD_BYTES] = body + zlib.crc32(body).to_bytes(4, "little")
    looks = []
    reader._take = lambda drained, most, take=reader._take: (looks.append(most), take(drained, most))[1]
    assert not reader.drain().rows and len(looks) <= 64


def test_an_untrue_number_does_not_spoil_the_count_of_lost_records(writer, reader):
    body = layout.BODY.pack(1 + (1 << 62), 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    at = layout.HEADER_BYTES
    writer._map[at : at + layout.RECORD_BYTES] = body + zlib.crc32(body).to_bytes(4, "little")
    assert 0 < reader.drain().overwritten <= 1 << 32
