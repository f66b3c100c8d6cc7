"""What the hook records of real jobs, and that it leaves their results alone."""

from __future__ import annotations

from collections import Counter

import pytest

from skewscope.sources.flight_recorder import FlightRecorder

BLOCKING, FAILED = 1, 2
MS = 1_000_000


def calls(records):
    return [one for one in records if one.kind == "collective"]


def test_every_way_to_call_a_collective_is_seen_once(jobs):
    _, records = jobs.ring("collectives-2")
    world = [one for one in calls(records) if one.group == 0]
    assert [(one.name, one.size) for one in world[:12]] == [
        ("all_reduce", 16), ("all_reduce", 16), ("all_reduce", 16), ("all_gather", 32), ("all_gather", 32),
        ("reduce_scatter", 32), ("all_to_all", 16), ("broadcast", 16), ("reduce", 16), ("gather", 32), ("scatter", 32),
        ("all_gather", 16),
    ]  # fmt: skip
    assert [one.seq for one in world] == list(range(1, len(world) + 1))
    assert [one.flags for one in world].count(BLOCKING) == len(world) - 1  # one was waited for by the program itself
    bundled = next(one for one in world if one.name == "all_reduce" and one.size == 32)
    assert bundled.seq == 14  # two calls in one bundle are one record


def test_ranks_agree_on_groups_and_numbers(jobs):
    (first, one), (second, other) = jobs.ring("collectives-2", 0), jobs.ring("collectives-2", 1)
    assert first.groups[0].id == second.groups[0].id
    assert (first.groups[0].role, first.groups[0].ranks(), second.groups[0].rank) == ("world", (0, 1), 1)
    assert (first.groups[1].role, first.groups[1].size, second.groups[1]) == ("tp", 1, None)
    numbered = [[(call.seq, call.name, call.size) for call in calls(each) if call.group == 0] for each in (one, other)]
    assert numbered[0] == numbered[1]
    assert (first.rank, first.world_size, first.local_rank, first.job, first.closed) == (0, 2, 0, "test", True)
    assert first.internal_errors == second.internal_errors == 0


def test_the_late_rank_waits_least(jobs):
    early, late = (next(one for one in jobs.ring("collectives-2", rank)[1] if one.size == 4000) for rank in (0, 1))
    assert early.length_ns > 2 * late.length_ns
    apart_ns = late.start_ns - early.start_ns  # one clock for all ranks of a node
    assert apart_ns > 20 * MS and early.length_ns > apart_ns
    assert abs(late.end_ns - early.end_ns) < 20 * MS


def test_messages_count_for_each_peer_and_direction(jobs):
    for rank in range(3):
        mine = calls(jobs.ring("messages-3", rank)[1])
        sent = [one.seq for one in mine if one.name == "send" and one.extra == (rank + 1) % 3 + 1]
        got = [one.seq for one in mine if one.name == "recv" and one.extra == (rank - 1) % 3 + 1]
        assert sent == list(range(1, 6 if rank == 0 else 4))
        assert got == list(range(1, 5 if rank == 1 else 4))
    anybody = [one for one in calls(jobs.ring("messages-3", 1)[1]) if one.extra == 0 and one.name == "recv"]
    assert [(one.seq, one.size) for one in anybody] == [(1, 32)]


def test_asynchronous_calls_end_where_they_are_waited_for(jobs):
    header, records = jobs.ring("late_waits-2")
    one = {call.seq: call for call in calls(records)}
    assert one[2].length_ns >= 20 * MS and one[2].flags == 0  # slept before the wait
    assert {3, 4, 5} <= one.keys()  # polled, by future, waited for at the end
    assert not {6, 8} & one.keys()  # dropped: when they ended is not known
    told = jobs.told("late_waits-2")
    assert told == {"gone": True, "pending": [2, 1]}
    assert header.begun[0].seq == 9  # the last barrier of all


def test_calls_that_nobody_waits_for_do_not_look_like_a_hang(jobs):
    assert jobs.told("late_waits-2", 1)["gone"]


@pytest.mark.parametrize("world", [2, 3])
def test_ddp_gives_the_same_numbers_bit_for_bit(jobs, world):
    for rank in range(world):
        told = jobs.told(f"ddp-{world}", rank)
        assert told["on"] and all(told["equal"].values()), told
        assert told["late"] and told["built_in"]
        assert told["seen"] == [7, 7, 6]  # the program's own hook saw every bucket, whenever it was registered
        assert told["registered_twice"] == ["", "RuntimeError"]  # as without us
        assert told["attached"] == {"plain": True, "bucket-view": world == 2}


def test_ddp_buckets_are_recorded_on_all_ranks(jobs):
    buckets = [
        [(one.seq, one.size, one.step) for one in calls(jobs.ring("ddp-3", rank)[1]) if one.step < 18]
        for rank in range(3)
    ]
    assert sorted(buckets[0]) == sorted(buckets[1]) == sorted(buckets[2])
    assert {size for _, size, step in buckets[0] if step == 1} == {540, 924, 280}
    _, records = jobs.ring("ddp-3")
    backward = next(one for one in records if one.name == "backward" and one.step == 1)
    inside = [one for one in calls(records) if one.step == 1]
    assert all(backward.start_ns <= one.start_ns <= one.end_ns <= backward.end_ns for one in inside)


def test_fsdp_runs_as_before_and_is_seen(jobs):
    for rank in (0, 1):
        told = jobs.told("sharded-2", rank)
        assert told["equal"] and all(isinstance(losses, list) for losses in told["losses"]), told
    _, records = jobs.ring("sharded-2")
    counted = Counter((one.kind, one.name) for one in records)
    assert counted["phase", "forward"] == counted["phase", "backward"] == counted["step", ""] == 6
    assert counted["collective", "all_gather"] >= 9 and counted["collective", "reduce_scatter"] == 9


def test_functional_collectives_are_seen_where_nothing_compiles(jobs):
    told = jobs.told("functionals-2")
    assert told["summed"] == [0, 2, 4, 6] and told["whole"] == [8, 2]
    assert told["gathered"] == [0, 1, 2, 3] * 2
    assert told["compiled"] == [2, 6, 10, 14]  # (2 x + 1) summed over both
    header, records = jobs.ring("functionals-2")
    counted = Counter(one.name for one in calls(records) if one.size)
    assert counted == {"all_gather": 2, "reduce_scatter": 1, "scatter": 1, "all_reduce": 2}
    assert [one.size for one in calls(records) if one.name == "all_reduce"] == [16, 80]  # eager; the compiled DDP's
    assert header.internal_errors == 0
    assert [one.name for one in records if one.kind == "phase" and one.name in ("forward", "backward")].count(
        "backward"
    ) == 2


def test_phases_and_steps(jobs):
    assert jobs.told("phases-2")["batches"] == [[1000, 1001], [1002, 1003]]  # workers have no ring
    _, records = jobs.ring("phases-2")
    counted = Counter(one.name for one in records if one.kind == "phase" and one.name != "comm_wait")
    assert counted == {"data": 3, "forward": 2, "backward": 2, "optimizer": 5, "checkpoint": 1, "other": 1}
    assert {one.extra for one in records if one.name == "backward"} == {4}  # microbatch 3 of the outer one
    assert [one.step for one in records if one.kind == "step"] == [0, 1, 2]  # the first optimizer's, then by hand
    work = [(one.name, one.size, one.step) for one in records if one.kind == "work"]
    assert work == [("tokens", 10, 1), ("other", 2, 1), ("samples", 5, 2)]
    (mark,) = [one for one in records if one.kind == "mark"]
    told = mark.seq.to_bytes(8, "little") + mark.size.to_bytes(8, "little")
    assert told.rstrip(b"\0") == b"rewarm"
    lengths = {one.step: one.length_ns for one in records if one.kind == "step"}
    assert 10 * MS <= lengths[2] < 10_000 * MS


def test_pipeline_stages_show_their_microbatches(jobs):
    for rank in (0, 1):
        _, records = jobs.ring("pipeline-2", rank)
        for name in ("forward", "backward"):
            assert [one.extra for one in records if one.name == name] == [1, 2, 3, 4]
    sent = [[(one.seq, one.size) for one in calls(jobs.ring("pipeline-2", rank)[1]) if one.name == name]
            for rank, name in ((0, "send"), (1, "recv"))]  # fmt: skip
    assert sent[0] == sent[1] and sent[0]


def test_expert_counts(jobs):
    from skewscope.spool import KINDS, RingReader
    from skewscope.spool.layout import EXPERTS, RECORD

    (path,) = (jobs.folder / "phases-2" / "spool").glob("*-r0-*.ring")
    rows = [RECORD.pack(*row) for row in RingReader(path).drain().rows if KINDS[row[1]] == "experts"]
    unpacked = [EXPERTS.unpack(row) for row in rows]
    counts = [(one[6] >> 32, one[6] & 0xFFFFFFFF, list(one[7 : 7 + one[15]])) for one in unpacked]
    assert counts == [(3, 0, [1, 2, 3, 4, 5, 6, 7, 8]), (3, 8, [9]), (4, 0, [7, 8])]


def test_errors_of_the_program_pass_and_three_of_ours_end_the_recording(jobs):
    told = jobs.told("errors-2")
    assert told["collective"] == ["TypeError", True] and told["phase"] == "'mine'"
    assert told["on"] == [True, True, False]
    assert told["sum"] == [16.0, 16.0]  # four sums over two ranks: nothing was left out or done twice
    header, records = jobs.ring("errors-2")
    assert [(one.kind, one.name) for one in records if one.flags & FAILED] == [
        ("collective", "all_reduce"), ("phase", "eval"),
    ]  # fmt: skip
    assert header.closed and header.internal_errors == 3


def test_close_puts_everything_back(jobs):
    told = jobs.told("restored-1")
    assert told["patched"]["ProcessGroup"] > 20 and told["patched"]["Work"] == 3
    assert not any(told["left"].values()), told["left"]
    assert told["again"] and told["callbacks"] and told["finders"] and told["same"]


def test_a_forked_child_leaves_the_ring_alone(jobs):
    assert jobs.told("forked-1") == {"child": 0, "untouched": True, "on": True}


def test_a_request_makes_every_rank_write_its_flight_record(jobs):
    jobs.told("flight-2")
    for rank in (0, 1):
        path = jobs.folder / "flight-2" / "spool" / "flight" / f"test_rank{rank}.json"
        reading = FlightRecorder().read(path)
        assert (reading.rank, reading.status) == (rank, "ok") and reading.events >= 1
