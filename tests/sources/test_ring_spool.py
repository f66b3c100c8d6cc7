"""Rings and segments as the hook and the agent write them. Long, because every way to be cut or damaged comes here."""

import gzip
import itertools
import os
import random
import time
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope import catalogue
from skewscope.contracts import Place
from skewscope.errors import NothingReadable, Unreadable
from skewscope.frames import concat, frame
from skewscope.sources import gather
from skewscope.sources._ring_records import FEW, RECORDS, checksums
from skewscope.sources.ring_spool import RingSpool
from skewscope.spool import HEADER_BYTES, KINDS, OPS, PHASES, RECORD_BYTES, UNITS, RingWriter, layout

MS = 1_000_000
COLLECTIVE, PHASE, STEP, WORK, MARK = (KINDS.index(name) for name in ("collective", "phase", "step", "work", "mark"))
REDUCE, SEND, RECV = (OPS.index(name) for name in ("all_reduce", "send", "recv"))
DATA, FORWARD, BACKWARD = (PHASES.index(name) for name in ("data", "forward", "backward"))


def writer(folder, rank=0, world=4, **more):
    folder.mkdir(parents=True, exist_ok=True)
    return RingWriter(
        folder, **{"job": "llm", "rank": rank, "world_size": world, "node": "n0", "capacity": 256, **more}
    )


def start_ns(ms_ago=10_000):
    return time.monotonic_ns() - ms_ago * MS


def fill(ring, steps=20, rank=0, world=4, at=None, first_step=0, slow=1.0, noise_ms=0):
    """Write steps of one rank: a batch, forward, two buckets reduced during backward, a blocking call; 100 ms each.

    `slow` is what the slowest rank of the job is slowed by: everybody's calls end when it has arrived.
    """
    group = ring.group(7, range(world), rank, "world", "0")
    at = at or start_ns()
    noise = random.Random(rank)
    mine, longest = slow if isinstance(slow, tuple) else (slow, slow)
    for step in range(first_step, first_step + steps):
        begin = at + (step - first_step) * int(100 * longest) * MS
        now = begin + 5 * MS - int(noise_ms * MS * noise.random())
        ring.write(PHASE, DATA, step=step, start_ns=begin, end_ns=now)
        back = now + int(20 * mine) * MS
        ring.write(PHASE, FORWARD, step=step, start_ns=now, end_ns=back)
        ends = [begin + (5 + int((20 + 20 * part) * longest) + 2) * MS + rank * 1000 for part in (1, 2)]
        for part, end in zip((1, 2), ends, strict=True):
            began = back + int(20 * part * mine) * MS
            ring.begin(group, REDUCE, step, 3 * step + part, began)
            ring.write(COLLECTIVE, REDUCE, group, 0, step, 3 * step + part, began, end, size=1 << 20)
        ring.write(PHASE, BACKWARD, step=step, start_ns=back, end_ns=ends[1])
        ring.write(COLLECTIVE, REDUCE, group, 1, step, 3 * step + 3, ends[1] + 5 * MS, ends[1] + 6 * MS, size=4)
        ring.write(WORK, UNITS.index("tokens"), step=step, size=1000 + rank)
        ring.write(STEP, step=step, start_ns=begin, end_ns=begin + int(100 * longest) * MS)
    return ring


def job(folder, slow=(), ranks=4, **more):
    """Write the rings of a job whose rank `slow[0]` is slowed by `slow[1]`."""
    at = start_ns()
    for rank in range(ranks):
        ratio = (slow[1] if slow and rank == slow[0] else 1.0, slow[1] if slow else 1.0)
        fill(writer(folder, rank, ranks, **more), rank=rank, world=ranks, at=at, slow=ratio, noise_ms=1).close()


def rows(reading, table):
    return concat(table, [frame(name, columns) for name, columns in reading.batches if name == table])


def only(folder, pattern="*.ring"):
    (path,) = folder.glob(pattern)
    return path


def segment(path, ring, numbers, *, torn=0, per_member=40):
    """Write records of a ring as the archive keeps them: members of a header and some records each."""
    content = ring.read_bytes()
    members = []
    for first in range(numbers[0], numbers[1] + 1, per_member):
        last = min(first + per_member - 1, numbers[1])
        body = content[HEADER_BYTES + (first - 1) * RECORD_BYTES : HEADER_BYTES + last * RECORD_BYTES]
        members.append(gzip.compress(content[:HEADER_BYTES] + body))
    path.write_bytes(b"".join(members)[: -torn or None])
    return path


def relabelled(content, **changes):
    """Return a ring's bytes with other fields of its identity (by their place) and a right checksum."""
    fields = list(layout.IDENTITY.unpack_from(content))
    for place, value in changes.items():
        fields[int(place[1:])] = value
    packed = layout.IDENTITY.pack(*fields)
    return packed[:-4] + crc32(packed[8:-4]).to_bytes(4, "little") + content[layout.IDENTITY.size :]


def gone_round(whole, path, capacity):
    """Write the ring of the same process with fewer slots, so that only its newest records are left."""
    content = relabelled(whole.read_bytes(), _3=capacity)
    records = np.frombuffer(content, RECORDS, offset=HEADER_BYTES)
    newest = np.zeros(capacity, RECORDS)
    for record in records[records["number"] > 0][-capacity:]:
        newest[(int(record["number"]) - 1) % capacity] = record
    path.write_bytes(content[:HEADER_BYTES] + newest.tobytes())
    return path


def line(recording, name):
    (found,) = [item for item in recording.inputs if item.path.endswith(name)]
    return found


def test_calls_steps_and_identity(tmp_path):
    at = start_ns()
    fill(writer(tmp_path, 2, gpu_uuid="GPU-1", device=2), rank=2, at=at).close()
    reading = RingSpool().read(only(tmp_path))
    assert (reading.rank, reading.world_size, reading.node, reading.status) == (2, 4, "n0", "ok")
    calls, steps = rows(reading, "collectives"), rows(reading, "steps")
    assert len(calls) == 60 and calls["seq"].tolist() == list(range(1, 61))
    assert calls["blocking"].tolist() == [False, False, True] * 20 and set(calls["op"]) == {"all_reduce"}
    assert set(calls["group"]) == {"0"} and set(calls["group_size"]) == {4} and calls["message_bytes"][0] == 1 << 20
    assert (calls["end_ns"] - calls["ready_ns"]).tolist()[:3] == [2 * MS + 2000, 2 * MS + 2000, MS]
    assert abs(calls["ready_ns"][0] - (time.time_ns() - time.monotonic_ns() + at + 45 * MS)) < 50 * MS
    whole = steps[steps["phase"] == "step"]
    assert whole["step"].tolist() == list(range(20)) and set(whole["work_tokens"]) == {1002}
    assert {"data", "forward", "backward"} <= set(steps["phase"])
    place = rows(reading, "ranks").iloc[0]
    assert (place["rank"], place["node"], place["gpu"], place["gpu_uuid"]) == (2, "n0", 2, "GPU-1")
    groups = rows(reading, "groups")
    assert groups["rank"].tolist() == [0, 1, 2, 3] and set(groups["description"]) == {"world"}


def test_own_work_is_what_neither_calls_nor_names_cover(tmp_path):
    fill(writer(tmp_path), steps=2).close()
    ops = rows(RingSpool().read(only(tmp_path)), "ops")
    spent = (ops["end_ns"] - ops["start_ns"]).groupby(ops["op"].astype(str)).sum()
    assert spent.to_dict() == {"data": 2 * 5 * MS, "cpu": 2 * (100 - 5 - 2 - 1) * MS - 4}  # a completion lies inside


def lengths(folder, rank, milliseconds, first=0, capacity=256):
    """Write one call and one step of each length, and a call after the last."""
    ring, now = writer(folder, rank, capacity=capacity), start_ns()
    group = ring.group(7, range(4), rank, "world", "0")
    for step, length in enumerate([*milliseconds, 50], first):
        ring.write(COLLECTIVE, REDUCE, group, 1, step, step - first + 1, now, now + MS)
        if step < first + len(milliseconds):
            ring.write(STEP, step=step, start_ns=now, end_ns=now + length * MS)
        now += length * MS
    ring.close()
    return only(folder, f"*-r{rank}-*.ring")


@pytest.mark.parametrize(
    ("milliseconds", "counted"),
    [
        ([900, 100, 110, 90, 100, 100, 100], range(1, 7)),
        ([900, 500, 100, 110, 90, 100, 100], range(2, 7)),
        ([150, 100, 110, 90, 100, 100, 100], range(7)),
        ([100, 100, 900, 90, 100, 100, 100], range(7)),
        ([900, 100, 100], range(3)),
        ([100], range(1)),
    ],
)
def test_what_comes_before_and_after_the_loop_is_no_step(tmp_path, milliseconds, counted):
    reading = RingSpool().read(lengths(tmp_path, 0, milliseconds))
    assert rows(reading, "steps")["step"].tolist() == list(counted)
    calls = rows(reading, "collectives")["step"].tolist()
    assert calls == [step if step in counted else -1 for step in range(len(milliseconds) + 1)]


def test_a_long_step_where_a_ring_begins_again_is_a_step(tmp_path):
    path = lengths(tmp_path, 0, [100] * 20 + [900] + [100] * 6, capacity=16)
    assert rows(RingSpool().read(path), "steps")["step"].tolist() == list(range(20, 27))


def test_ranks_whose_rings_went_round_begin_with_the_same_step(tmp_path):
    lengths(tmp_path, 0, [100] * 20, capacity=16)
    lengths(tmp_path, 1, [100] * 20, capacity=32)
    calls = gather([tmp_path]).tables["collectives"]
    assert calls[calls["step"] >= 0].groupby("rank")["step"].agg(["min", "max"]).values.tolist() == [[13, 19]] * 2


def test_a_rank_that_stopped_long_ago_keeps_its_steps(tmp_path):
    lengths(tmp_path, 0, [100] * 20, capacity=16)
    lengths(tmp_path, 1, [100] * 4)
    calls = gather([tmp_path]).tables["collectives"]
    assert calls[calls["step"] >= 0].groupby("rank")["step"].min().tolist() == [13, 0]


def test_all_ranks_agree_on_the_first_step(tmp_path):
    lengths(tmp_path, 0, [290, 100, 100, 100, 100, 100, 100])
    lengths(tmp_path, 1, [310, 100, 100, 100, 100, 100, 100])
    calls = gather([tmp_path]).tables["collectives"]
    first = calls[calls["step"] >= 0].groupby("rank")["step"].min()
    assert first.tolist() == [0, 0]  # the usual first step is 290 ms: no start-up


def test_without_steps_every_number_counts(tmp_path):
    ring = writer(tmp_path)
    ring.write(COLLECTIVE, REDUCE, ring.group(7, range(4), 0), 1, 3, 1, start_ns(), start_ns())
    ring.close()
    assert rows(RingSpool().read(only(tmp_path)), "collectives")["step"].tolist() == [3]


def test_asynchronous_calls_that_nothing_explains_leave_it_open(tmp_path):
    ring = writer(tmp_path)
    group = ring.group(7, range(4), 0)
    ring.write(PHASE, FORWARD, step=0, start_ns=start_ns(50), end_ns=start_ns(40))
    ring.write(COLLECTIVE, REDUCE, group, 0, 0, 1, start_ns(30), start_ns(20))
    ring.close()
    assert not [name for name, _ in RingSpool().read(only(tmp_path)).batches if name == "ops"]


def test_a_wait_that_is_recorded_explains_them(tmp_path):
    ring, at = writer(tmp_path), start_ns()
    group = ring.group(7, range(4), 0)
    ring.write(PHASE, FORWARD, step=0, start_ns=at, end_ns=at + 10 * MS)
    ring.write(COLLECTIVE, REDUCE, group, 0, 0, 1, at + 10 * MS, at + 40 * MS)
    ring.write(PHASE, PHASES.index("comm_wait"), step=0, start_ns=at + 30 * MS, end_ns=at + 40 * MS)
    ring.close()
    ops = rows(RingSpool().read(only(tmp_path)), "ops")
    assert (ops["end_ns"] - ops["start_ns"]).sum() == 30 * MS


def test_time_on_the_device_counts_before_the_host(tmp_path):
    ring = writer(tmp_path)
    group = ring.group(7, range(4), 0)
    ring.write(COLLECTIVE, REDUCE, group, 1, 0, 1, start_ns(), start_ns() + 1, device_ns=5 * MS)
    ring.close()
    (call,) = rows(RingSpool().read(only(tmp_path)), "collectives").to_dict("records")
    assert (call["ready_ns"], call["end_ns"], call["duration_ns"]) == (-1, -1, 5 * MS)


def test_transfers_meet_in_their_channel(tmp_path):
    for rank, op, peer in ((0, SEND, 1), (1, RECV, 0)):
        ring = writer(tmp_path, rank)
        group = ring.group(7, range(2), rank)
        ring.write(COLLECTIVE, op, group, 1, 0, 1, start_ns(), start_ns(), size=8, extra=peer + 1)
        ring.write(COLLECTIVE, RECV, group, 1, 0, 2, start_ns(), start_ns())  # from anybody
        ring.close()
    found = [rows(RingSpool().read(path), "collectives") for path in sorted(tmp_path.glob("*.ring"))]
    assert [part["group"].tolist() for part in found] == [["p2p:0-1", "p2p:?-0"], ["p2p:0-1", "p2p:?-1"]]
    assert [part["peer"].tolist() for part in found] == [[1, -1], [0, -1]]
    assert [part["op_class"].tolist() for part in found] == [["p2p", "p2p@0"], ["p2p", "p2p@1"]]


def test_parallel_layout_comes_from_the_groups(tmp_path):
    ring = writer(tmp_path, 5, 8)
    ring.group(1, range(8), 5, "world", "0")
    ring.group(2, (4, 5), 1, "tp", "mesh_tp")
    ring.group(3, (1, 5), 1, "dp", "")
    ring.group(4, (1, 2, 5), 2, "ep", "mesh_ep")
    ring.close()
    reading = RingSpool().read(only(tmp_path))
    assert reading.job["parallelism"] == {"tp": 2, "dp": 2, "ep": 3}
    place, groups = rows(reading, "ranks").iloc[0], rows(reading, "groups")
    assert (place["tp"], place["dp"], place["pp"]) == (1, 1, -1)
    assert list(dict.fromkeys(groups["group"])) == ["0", "mesh_tp", f"{3:016x}", f"mesh_ep-{4:016x}"]
    assert groups[groups["group"] == f"mesh_ep-{4:016x}"]["rank"].tolist() == [5]  # uneven: only itself is known


def test_a_call_of_no_known_group_joins_nobody(tmp_path):
    ring = writer(tmp_path)
    ring.write(COLLECTIVE, REDUCE, 255, 1, 0, 1, start_ns(), start_ns())
    ring.close()
    (call,) = rows(RingSpool().read(only(tmp_path)), "collectives").to_dict("records")
    assert (call["group"], call["op_class"], call["group_size"]) == ("?", "p2p@0", -1)


def test_tokens_of_experts_add_up(tmp_path):
    ring = writer(tmp_path, 3)
    for _ in range(2):
        ring.experts(4, 1, [10 * expert for expert in range(10)])
    ring.close()
    loads = rows(RingSpool().read(only(tmp_path)), "expert_loads")
    assert loads["expert"].tolist() == list(range(10)) and set(loads["layer"]) == {1} and set(loads["step"]) == {4}
    assert loads["routed_tokens"].tolist() == [20 * expert for expert in range(10)] and set(loads["rank"]) == {3}


def test_tokens_of_ranks_are_one_load(tmp_path):
    from skewscope.moe.loads import of_tables

    for rank in range(3):
        ring = writer(tmp_path, rank, 3)
        for step in range(4 - rank):  # rank 2 was cut first
            ring.experts(step, 5, [10 * expert + rank for expert in range(10)])
        ring.close()
    (loads,) = of_tables(gather([tmp_path]).tables)
    assert loads.counts.tolist() == [[[30 * expert + 3 for expert in range(10)]]] * 2
    assert loads.steps.tolist() == [0, 1] and loads.layers.tolist() == [5] and loads.source == "ring-spool"
    assert any("2 of 4 steps are held by some of the 3 ranks only" in warning for warning in loads.warnings)


def test_marks_are_events(tmp_path):
    ring = writer(tmp_path, 3)
    first, second = (int.from_bytes(text, "little") for text in (b"warm-up ", b"over\0\0\0\0"))
    ring.write(MARK, start_ns=start_ns(), seq=first, size=second)
    ring.close()
    events = rows(RingSpool().read(only(tmp_path)), "events")
    assert events[["event", "device", "message"]].values.tolist() == [["mark", "rank3", "warm-up over"]]


def test_a_call_that_stays_open_is_told(tmp_path):
    ring = fill(writer(tmp_path), steps=2)
    ring.begin(0, REDUCE, 2, 7, start_ns(30_000))
    ring.beat()
    reading = RingSpool().read(only(tmp_path))
    calls, events = rows(reading, "collectives"), rows(reading, "events")
    assert calls[calls["state"] == "started"][["seq", "end_ns"]].values.tolist() == [[7, -1]]
    assert (
        events["event"].tolist() == ["no-progress"] and "all_reduce number 7 of world for 30." in events["message"][0]
    )


@pytest.mark.parametrize("why", ["young", "over", "usual", "closed"])
def test_a_call_in_progress_is_no_hang(tmp_path, why):
    ring = fill(writer(tmp_path), steps=2)
    if why == "usual":
        ring.write(COLLECTIVE, REDUCE, 0, 1, 1, 6, start_ns(60_000), start_ns(48_000))
    ring.begin(0, REDUCE, 2, 6 if why == "over" else 7, start_ns(1000 if why == "young" else 30_000))
    ring.beat(closed=why == "closed")
    assert "started" not in set(rows(RingSpool().read(only(tmp_path)), "collectives")["state"])


def test_a_call_that_failed_is_not_complete(tmp_path):
    ring, at = writer(tmp_path), start_ns(60_000)
    group = ring.group(7, range(4), 0)
    for number, lasted_ms in ((1, 5), (2, 30_000)):
        ring.write(COLLECTIVE, REDUCE, group, 3, 0, number, at, at + lasted_ms * MS)
    ring.close()
    calls = rows(RingSpool().read(only(tmp_path)), "collectives")
    assert calls["state"].tolist() == ["", "timed-out"] and calls["end_ns"].tolist() == [-1, -1]


def test_the_missing_rank_is_named_from_rings(tmp_path, analyzed, named):
    for rank in range(4):
        ring = fill(writer(tmp_path, rank), rank=rank, steps=3)
        if rank != 1:
            ring.begin(0, REDUCE, 3, 10, start_ns(30_000 - rank))
        ring.beat()
    assert named(analyzed(tmp_path)) == {1: {"coll-missing-rank"}}


def test_a_ring_that_went_round_has_its_newest(tmp_path):
    fill(writer(tmp_path, capacity=64), steps=20).close()
    reading = RingSpool().read(only(tmp_path))
    assert reading.status == "ok" and reading.events == 64
    assert rows(reading, "steps")["step"].max() == 19


def test_checksums_are_those_of_the_writer(tmp_path):
    fill(writer(tmp_path)).close()
    found = np.frombuffer(only(tmp_path).read_bytes(), RECORDS, offset=HEADER_BYTES)
    written = found[found["number"] > 0]
    assert len(written) == 160 < FEW and (checksums(written) == written["crc"]).all()
    many = np.tile(written, 5)
    assert len(many) > FEW and (checksums(many) == many["crc"]).all()


def test_segments_and_ring_count_each_record_once(tmp_path):
    fill(writer(tmp_path / "all", capacity=256)).close()
    whole = only(tmp_path / "all")
    ring = gone_round(whole, tmp_path / whole.name, 64)
    segment(tmp_path / f"{ring.stem}.1.ring.gz", whole, (1, 80))
    segment(tmp_path / f"{ring.stem}.81.ring.gz", whole, (81, 120))
    for files in itertools.permutations(sorted(path for path in tmp_path.iterdir() if path.is_file())):
        recording = gather(files)
        assert all(item.status == "ok" for item in recording.inputs if not item.path.startswith("(")), recording.inputs
        assert sum(item.events for item in recording.inputs) == 160
        assert len(recording.tables["collectives"]) == 60
        assert sorted(recording.tables["collectives"]["seq"]) == list(range(1, 61))
    assert not any("are lost" in warning for warning in recording.warnings)


def test_what_the_agent_keeps_of_a_ring_is_read(tmp_path):
    """A small ring goes round several times under a real collector; the archive has what the ring has no more."""
    ring = writer(tmp_path, capacity=64)
    later = itertools.count(time.monotonic(), 1.0)
    place = Place(spool=tmp_path, archive=tmp_path / "archive", clock_s=lambda: next(later))
    place.archive.mkdir()
    agent = catalogue.room("agents.collectors", "collectives").load(place)
    at = start_ns()
    for first in range(0, 20, 2):
        fill(ring, steps=2, first_step=first, at=at + first * 100 * MS)
        ring.beat()
        list(agent.collect())
    ring.close()
    for _ in range(8):
        list(agent.collect())
    recording = gather([tmp_path])
    assert len(list(place.archive.glob("*.ring.gz"))) == 1
    assert sorted(recording.tables["collectives"]["seq"]) == list(range(1, 61))
    assert recording.tables["steps"].groupby("phase", observed=True).size().to_dict()["step"] == 20


def test_records_that_nobody_read_in_time_are_told(tmp_path):
    fill(writer(tmp_path, capacity=256)).close()
    ring = only(tmp_path)
    content = bytearray(ring.read_bytes())
    content[HEADER_BYTES + 30 * 64 : HEADER_BYTES + 50 * 64] = bytes(20 * 64)
    ring.write_bytes(content)
    recording = gather([tmp_path])
    assert any("20 records are lost from number 31 on" in warning for warning in recording.warnings)


@pytest.mark.parametrize("torn", [1, 30, 200])
def test_a_torn_last_member_gives_what_is_whole(tmp_path, torn):
    fill(writer(tmp_path / "ring")).close()
    path = segment(tmp_path / "llm-r0-1.1.ring.gz", only(tmp_path / "ring"), (1, 160), torn=torn)
    reading = RingSpool().read(path)
    assert reading.status == "partial" and reading.error == "1 of its blocks are torn" and 120 <= reading.events <= 160


def test_a_torn_member_in_the_middle_does_not_hide_the_next(tmp_path):
    fill(writer(tmp_path / "ring")).close()
    ring = only(tmp_path / "ring")
    path = segment(tmp_path / "llm-r0-1.1.ring.gz", ring, (1, 40), torn=100)
    later = segment(tmp_path / "later", ring, (81, 160)).read_bytes()
    path.write_bytes(path.read_bytes() + later)
    reading = RingSpool().read(path)
    assert reading.status == "partial" and reading.events >= 80
    assert rows(reading, "collectives")["seq"].max() == 60


def damaged(path, at, by):
    content = bytearray(path.read_bytes())
    content[at : at + len(by)] = by
    path.write_bytes(content)


def test_damaged_records_are_left_out_and_counted(tmp_path):
    fill(writer(tmp_path)).close()
    for number in (3, 7, 9):
        damaged(only(tmp_path), HEADER_BYTES + number * RECORD_BYTES + 20, b"\xff\xff")
    reading = RingSpool().read(only(tmp_path))
    assert (reading.status, reading.error, reading.events) == ("partial", "3 records are damaged and left out", 157)


def test_a_record_being_written_is_no_damage(tmp_path):
    fill(writer(tmp_path)).close()
    damaged(only(tmp_path), HEADER_BYTES + 159 * RECORD_BYTES + 20, b"\xff\xff")
    reading = RingSpool().read(only(tmp_path))
    assert (reading.status, reading.events) == ("ok", 159)


BAD = {
    "garbage": (lambda whole: os.urandom(100_000), "no ring: the file does not begin with a ring's header"),
    "zeros": (lambda whole: bytes(100_000), "the ring was never begun: its header is empty"),
    "short": (lambda whole: whole[:3000], "no ring: the file does not begin with a ring's header"),
    "foreign": (lambda whole: whole[:8] + b"\x07\0" + whole[10:], "ring layout 7 with records of 64 bytes"),
    "header": (lambda whole: whole[:70] + b"xx" + whole[72:], "the ring's header is damaged"),
    "packed": (lambda whole: gzip.compress(b"something else" * 9), "no ring: the file does not begin"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_ring_is_one_clear_line_and_hides_nothing(tmp_path, kind):
    job(tmp_path)
    make, reason = BAD[kind]
    bad = next(tmp_path.glob("*-r3-*.ring"))
    bad.write_bytes(make(bad.read_bytes()))
    recording = gather([tmp_path])
    found = line(recording, bad.name)
    assert (found.status, found.rank) == ("unreadable", 3) and reason in found.error and "Error" not in found.error
    assert set(recording.tables["collectives"]["rank"]) == {0, 1, 2}
    assert len([item for item in recording.inputs if item.status != "ok"]) == 1


@pytest.mark.parametrize("size", [0xFFFFFFFF, 5])
def test_a_wild_table_of_groups_is_told_and_fills_no_memory(tmp_path, size):
    fill(writer(tmp_path)).close()
    damaged(only(tmp_path), layout.GROUP_AT + 8, size.to_bytes(4, "little"))
    reading = RingSpool().read(only(tmp_path))
    assert reading.status == "partial" and "table of groups is damaged" in reading.error
    assert set(rows(reading, "collectives")["group"]) == {"?"}


@given(
    places=st.lists(st.tuples(st.integers(0, 15_000), st.integers(0, 255)), min_size=1, max_size=40), cut=st.booleans()
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_anywhere_is_refused_or_told_but_never_a_fault(tmp_path, places, cut):
    path = tmp_path / "llm-r0-1.ring"
    made = tmp_path / "made"
    content = bytearray(only(made if made.exists() else fill(writer(made)).path.parent).read_bytes())
    for place, value in places:
        content[place] = value
    path.write_bytes(content[: places[0][0] or 1] if cut else content)
    with suppress(NothingReadable):
        assert all("Error" not in item.error for item in gather([path]).inputs)


def test_parts_that_cannot_be_joined_hide_no_other_format(tmp_path, monkeypatch):
    def explode(readings):
        raise ZeroDivisionError("no")

    job(tmp_path)
    (tmp_path / "steps_rank0.jsonl").write_text('{"step": 0, "rank": 0, "t_start_ns": 1, "step_ms": 5}')
    monkeypatch.setattr("skewscope.sources._ring_join.join", explode)
    recording = gather([tmp_path], workers=1)
    assert len(recording.tables["steps"]) == 1
    assert len([item for item in recording.inputs if "cannot be put together" in item.error]) == 4


def test_a_cut_ring_is_partial(tmp_path):
    fill(writer(tmp_path)).close()
    path = only(tmp_path)
    path.write_bytes(path.read_bytes()[: HEADER_BYTES + 100 * RECORD_BYTES + 20])
    reading = RingSpool().read(path)
    assert reading.status == "partial" and reading.error.startswith("the ring is cut") and reading.events == 100


def test_a_ring_without_records_is_no_fault_but_nothing_to_read(tmp_path):
    writer(tmp_path).close()
    assert RingSpool().read(only(tmp_path)).events == 0
    with pytest.raises(NothingReadable, match="holds no rows"):
        gather([tmp_path])


def test_other_gzip_files_are_not_claimed():
    assert RingSpool().sniff(b'{"traceEvents": [', "trace.json.gz") == 0.0
    assert RingSpool().sniff(b"anything", "x.ring") == 0.3
    with pytest.raises(Unreadable, match="no ring"):
        RingSpool().read(Path(__file__))


def aged(path, seconds):
    """Let a ring look as if all of it, also its clock, had been written earlier, by another process."""
    fields = layout.IDENTITY.unpack_from(path.read_bytes())
    content = bytearray(relabelled(path.read_bytes(), _4=fields[4] + 1, _8=fields[8] - seconds * 10**9))
    monotonic_ns, realtime_ns, _ = layout.CLOCK.unpack_from(content, layout.CLOCK_AT)
    content[layout.CLOCK_AT : layout.CLOCK_AT + layout.CLOCK.size] = clock_pair(
        monotonic_ns, realtime_ns - seconds * 10**9
    )
    path.with_name(path.name.replace(".ring", "0.ring")).write_bytes(content)
    path.unlink()


def clock_pair(monotonic_ns, realtime_ns):
    pair = monotonic_ns.to_bytes(8, "little") + realtime_ns.to_bytes(8, "little")
    return pair + crc32(pair).to_bytes(4, "little")


def test_the_last_run_of_a_restarted_job_is_read(tmp_path):
    job(tmp_path)
    for path in list(tmp_path.iterdir()):
        aged(path, 3600)
    job(tmp_path)
    recording = gather([tmp_path])
    assert len(recording.tables["collectives"]) == 4 * 60
    old = [item for item in recording.inputs if item.status != "ok"]
    assert len(old) == 4 and all("another run of rank" in item.error for item in old)


def test_a_rank_that_only_the_former_run_had_is_not_mixed_in(tmp_path):
    job(tmp_path)
    for path in list(tmp_path.iterdir()):
        aged(path, 3600)
    job(tmp_path)
    next(path for path in tmp_path.glob("*-r3-*") if str(os.getpid()) + ".ring" in path.name).unlink()
    recording = gather([tmp_path])
    assert set(recording.tables["collectives"]["rank"]) == {0, 1, 2}


def test_the_job_with_most_ranks_is_kept(tmp_path):
    job(tmp_path)
    job(tmp_path, job="eval", ranks=2)
    recording = gather([tmp_path])
    assert set(recording.tables["ranks"]["job"]) == {"llm"} or recording.world_size == 4
    refused = [item.error for item in recording.inputs if item.status != "ok"]
    assert len(refused) == 2 and all("another job (eval, kept is llm)" in reason for reason in refused)


def test_ranks_of_one_machine_keep_their_order(tmp_path):
    """Each pair of clock readings is a little off; one pair for all keeps what the shared clock says."""
    at = start_ns()
    for rank in range(2):
        fill(writer(tmp_path, rank, 2), rank=rank, world=2, at=at).close()
    path = next(tmp_path.glob("*-r1-*"))
    content = bytearray(path.read_bytes())
    monotonic_ns, realtime_ns = layout.CLOCK.unpack_from(content, layout.CLOCK_AT)[:2]
    content[layout.CLOCK_AT : layout.CLOCK_AT + layout.CLOCK.size] = clock_pair(
        monotonic_ns - 10**9, realtime_ns - 10**9 + 7 * MS
    )
    path.write_bytes(content)
    calls = gather([tmp_path]).tables["collectives"]
    first = calls.groupby("rank")["ready_ns"].min()
    assert first[1] - first[0] == 0


def test_a_slow_rank_is_named_and_a_healthy_job_names_nobody(tmp_path, analyzed, named):
    job(tmp_path / "slow", slow=(2, 1.5))
    job(tmp_path / "healthy")
    report = analyzed(tmp_path / "slow")
    assert named(report) == {2: {"coll-late-rank"}}
    (found,) = [one for one in report["findings"] if one["role"] == "culprit"]
    assert found["cost"]["seconds_per_step"] == pytest.approx(0.030, rel=0.05)
    assert named(analyzed(tmp_path / "healthy")) == {}


@pytest.mark.parametrize("apart_ms", [0.2, 2, 20])
def test_two_calls_soon_after_one_another_are_two_waits(tmp_path, analyzed, named, apart_ms):
    """The wait for the first must not be overlooked because the second is over soon after it."""
    at = start_ns()
    for rank in range(3):
        ring = writer(tmp_path, rank, 3)
        group = ring.group(7, range(3), rank, "world", "0")
        for step in range(12):
            begin = at + step * 130 * MS
            launch = begin + (120 if rank == 1 else 60) * MS
            over, again = begin + 121 * MS, begin + 121 * MS + int(apart_ms * MS / 4)
            ring.write(PHASE, FORWARD, step=step, start_ns=begin, end_ns=launch - MS)
            ring.write(PHASE, BACKWARD, step=step, start_ns=launch - MS, end_ns=over + 1000)
            ring.write(COLLECTIVE, REDUCE, group, 0, step, 2 * step + 1, launch, over, size=1 << 20)
            ring.write(COLLECTIVE, REDUCE, group, 1, step, 2 * step + 2, again, over + int(apart_ms * MS / 2), size=4)
            ring.write(STEP, step=step, start_ns=begin, end_ns=begin + 130 * MS)
        ring.close()
    report = analyzed(tmp_path)
    assert named(report) == {1: {"coll-late-rank"}}
    (found,) = [one for one in report["findings"] if one["role"] == "culprit"]
    assert found["cost"]["seconds_per_step"] == pytest.approx(0.060, rel=0.05)


def test_what_comes_before_the_loop_is_nobodys_work(tmp_path, analyzed):
    at = start_ns()
    for rank in range(4):
        ring = writer(tmp_path, rank)
        ring.write(PHASE, PHASES.index("gc"), step=0, start_ns=at - 4000 * MS, end_ns=at - 3000 * MS)
        ring.write(STEP, step=0, start_ns=at - 5000 * MS, end_ns=at)
        fill(ring, rank=rank, at=at, first_step=1).close()
    table = gather([tmp_path]).tables["ops"]
    first, last = table.groupby("rank")["start_ns"].min(), table.groupby("rank")["end_ns"].max()
    assert (last - first).tolist() == [20 * 100 * MS] * 4
    assert analyzed(tmp_path)["summary"]["step_time_s"]["mean"] == pytest.approx(0.1, rel=0.02)


def test_long_loading_is_told_from_long_computing(tmp_path, analyzed, named):
    at = start_ns()
    for rank in range(4):
        ring = writer(tmp_path, rank)
        group = ring.group(7, range(4), rank, "world", "0")
        for step in range(15):
            begin = at + step * 150 * MS
            ready = begin + (60 if rank == 1 else 5) * MS
            ring.write(PHASE, DATA, step=step, start_ns=begin, end_ns=ready)
            ring.write(PHASE, FORWARD, step=step, start_ns=ready, end_ns=ready + 40 * MS)
            ring.write(COLLECTIVE, REDUCE, group, 1, step, step + 1, ready + 40 * MS, begin + 101 * MS, size=1 << 20)
            ring.write(STEP, step=step, start_ns=begin, end_ns=begin + 150 * MS)
        ring.close()
    assert named(analyzed(tmp_path)) == {1: {"data-loader-stall"}}


def test_tables_made_from_rings_say_the_same(tmp_path, analyzed, named):
    from skewscope import commands

    job(tmp_path / "rings", slow=(3, 1.4))
    assert commands.main(["convert", str(tmp_path / "rings"), "--out", str(tmp_path / "tables"), "--quiet"]) == 0
    assert named(analyzed(tmp_path / "tables")) == named(analyzed(tmp_path / "rings")) == {3: {"coll-late-rank"}}


def test_processes_read_rings_too(tmp_path):
    job(tmp_path)
    alone, many = gather([tmp_path], workers=1), gather([tmp_path], workers=2)
    assert alone.inputs == many.inputs
    assert all(alone.tables[name].equals(many.tables[name]) for name in alone.tables)
