import gzip
import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.analysis import analyze
from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.ras_report import reports
from skewscope.sources import gather
from skewscope.sources.nccl_ras import NcclRas

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

ROOMS = ("coll-missing-rank", "coll-hang", "coll-desync", "coll-late-rank")
HEAD = """NCCL version 2.30.7 compiled with CUDA 12.8
CUDA runtime version 12080, driver version 13000

Job summary
===========

  Nodes    Processes          GPUs  Processes      GPUs
  (total)   per node   per process    (total)   (total)
      2            4             1          8         8

Communicators... (0.002s)
=============

Group     Comms      Nodes     Ranks     Ranks     Ranks   Status  Errors
    #  in group   per comm  per node  per comm  in group
    0         1          2         4         8  {count:8d}  RUNNING  {errors:>6}

Errors
======

"""
MISMATCH = (
    HEAD.format(count=8, errors="MISMATCH")
    + """
Warnings
========

#0-0 (78db921d1c117b4a) MISMATCH
  Communicator ranks have different AllReduce operation counts
  7 ranks have launched up to operation {high}
  Rank 7 has launched up to operation 60 -- GPU 3 managed by process 1650386 on node node1
"""
)
INCOMPLETE = (
    HEAD.format(count=7, errors="INCOMPLETE")
    + """INCOMPLETE
  Missing communicator data from 1 job process
  Process 3748990 on node node1 managing GPU 3

#0-0 (1bdb83b038775869) INCOMPLETE
  Missing communicator data from 1 rank
  Rank 7 -- GPU 3 managed by process 3748990 on node node1

Warnings
========
"""
)
LISTED = """Communicators... (2.05s)
=============

Group     Comms     Nodes     Ranks     Ranks     Ranks    Status  Errors
    #  in group  per comm  per node  per comm  in group
    0         1         4       7-8        32        32   RUNNING  INCOMPLETE

Errors
======

DEAD
  1 job process is considered dead (unreachable via the RAS network)
  Process 3487984 on node 172.16.64.213 managing GPU 5

#0-0 (cf264af53edbe986) INCOMPLETE
  Missing communicator data from 1 rank
  The missing rank: 21

Warnings
========
"""
OLD = """Communicators... (0.00s)
=============

Group     Comms     Nodes     Ranks     Ranks     Ranks    Status  Errors
    #  in group  per comm  per node  per comm  in group
    0         1         4         8        32        32   RUNNING  MISMATCH

Warnings
========

#0-0 (27a079b828ff1a75) MISMATCH
  Communicator ranks have different collective operation counts
  26 ranks have launched up to operation 6650
  6 ranks have launched up to operation 6649
  Rank 0 -- GPU 0 managed by process 483072 on node 172.16.64.210
  Rank 2 -- GPU 2 managed by process 483074 on node 172.16.64.210
  Rank 3 -- GPU 3 managed by process 483075 on node 172.16.64.210
  Rank 4 -- GPU 4 managed by process 483076 on node 172.16.64.210
  Rank 5 -- GPU 5 managed by process 483077 on node 172.16.64.210
  Rank 7 -- GPU 7 managed by process 483079 on node 172.16.64.210
"""


def report(counts, at="2025-12-19 13:06:53", missing=(), error=None):
    """Return a JSON report of one communicator: calls of each rank, those that are away with their status."""

    def one(rank, status):
        return {"rank": rank, "host": f"n{rank // 4}", "pid": 100 + rank, "cuda_dev": rank % 4, "nvml_dev": rank % 4,
                "status": status}  # fmt: skip

    healthy = {"init_state": 0, "async_error": 0, "abort_flag": False}
    ranks = [
        one(rank, healthy | {"async_error": 6 if rank == error else 0})
        | {"collective_counts": {"Broadcast": 2, "AllReduce": calls}}
        for rank, calls in counts.items()
    ]
    away = [one(rank, {"unresponsive": True, "considered_dead": dead}) for rank, dead in missing]
    return json.dumps({
        "nccl_version": "2.29.1", "timestamp": at, "communicators_count": 1, "communicators": [{
            "hash": "0xae94423cfbb2ef4a", "secondary_hash": "0x1:0x2", "size": len(ranks) + len(away),
            "ranks_count": len(ranks), "missing_ranks_count": len(away), "ranks": ranks, "missing_ranks": away,
        }], "ras": {"collection_time_sec": 0.001, "timeouts_count": 0},
    }, indent=2)  # fmt: skip


def write(folder, *texts):
    for number, text in enumerate(texts):
        path = folder / f"report{number}.txt"
        path.write_text(text)
        os.utime(path, ns=(10**18 + number * 10**9,) * 2)
        assert NcclRas().sniff(text.encode(), "") > 0.8
    return folder


def culprits(*paths):
    found = analyze(gather(list(paths), workers=1), only=ROOMS).findings
    return [(one.condition, one.subject.id) for one in found if one.role == "culprit"]


def test_the_rank_behind_is_named_from_one_text_report(tmp_path):
    write(tmp_path, MISMATCH.format(high=64))
    assert culprits(tmp_path) == [("coll-missing-rank", "job/rank7")]
    made = {table: frame(table, columns) for table, columns in NcclRas().read(tmp_path / "report0.txt").batches}
    rows = made["collectives"].sort_values("rank")
    assert rows["seq"].tolist() == [64] * 7 + [60] and set(rows["op"]) == {"all_reduce"}
    assert made["ranks"][["rank", "node", "gpu"]].values.tolist() == [[7, "node1", 3]]


def test_one_call_apart_is_a_running_job(tmp_path):
    write(tmp_path, MISMATCH.format(high=61))
    recording = gather([tmp_path], workers=1)
    assert not [one for one in analyze(recording, only=ROOMS).findings if one.role == "culprit"]
    assert any("another report" in warning for warning in recording.warnings)


@pytest.mark.parametrize("high", [61, 64])
def test_the_same_counts_twice_are_a_standstill_and_growing_ones_are_not(tmp_path, high):
    write(tmp_path, MISMATCH.format(high=high), MISMATCH.format(high=high))
    assert culprits(tmp_path) == [("coll-missing-rank", "job/rank7")]
    write(tmp_path, MISMATCH.format(high=high), MISMATCH.format(high=high + 3))
    assert culprits(tmp_path) == []


def test_reports_in_one_file_count_as_many(tmp_path):
    path = tmp_path / "watch.log"
    path.write_text(MISMATCH.format(high=61) * 2)
    assert len(reports(path.read_text())[0]) == 2
    assert culprits(path) == [("coll-missing-rank", "job/rank7")]


def test_json_reports_tell_how_long_it_lasts(tmp_path):
    stuck = {rank: 9 if rank == 5 else 10 for rank in range(8)}
    write(tmp_path, report(stuck), report(stuck, "2025-12-19 13:07:53"))
    found = analyze(gather([tmp_path], workers=1), only=ROOMS).findings
    first = next(one for one in found if one.role == "culprit")
    assert (first.condition, first.subject.id, first.subject.node) == ("coll-missing-rank", "job/rank5", "n1")
    assert first.lost_once_s == 60 and "60.0 s" in first.summary
    write(tmp_path, report(stuck), report(stuck, "2025-12-19 13:06:55"))
    assert culprits(tmp_path) == []


def test_ranks_at_many_counts_wait_for_the_last(tmp_path):
    write(tmp_path, report({0: 40, 1: 40, 2: 38, 3: 31}))
    assert culprits(tmp_path) == [("coll-missing-rank", "job/rank3")]


def test_even_counts_are_quiet(tmp_path):
    write(tmp_path, report(dict.fromkeys(range(4), 40)), HEAD.format(count=8, errors="OK"))
    recording = gather([tmp_path], workers=1)
    assert not analyze(recording, only=ROOMS).findings and recording.world_size == 8
    told = [row for row in recording.tables["events"]["message"] if "healthy" in row]
    assert told == ["communicators: 1 healthy"] * 2


@pytest.mark.parametrize(
    ("text", "rank", "node", "event"),
    [
        (INCOMPLETE, 7, "node1", "process-unresponsive"),
        (LISTED, 21, "172.16.64.213", "process-dead"),
        (report(dict.fromkeys((0, 1, 3), 9), missing=[(2, True)]), 2, "n0", "process-dead"),
        (report(dict.fromkeys((0, 1, 3), 9), missing=[(2, False)]), 2, "n0", "process-unresponsive"),
    ],
)
def test_a_process_that_does_not_answer_is_named(tmp_path, text, rank, node, event):
    write(tmp_path, text)
    recording = gather([tmp_path], workers=1)
    row = recording.tables["events"][(recording.tables["events"]["event"] == event).to_numpy()].iloc[0]
    assert (row["device"], row["node"]) == (f"rank{rank}", node)
    assert ("coll-missing-rank", f"job/rank{rank}") in culprits(tmp_path)


def test_the_form_of_2_24_lists_a_crowd(tmp_path):
    found = reports(OLD)[0][0].communicators[0]
    assert {rank for rank, member in found.members.items() if member.counts == {"": 6649}} == {0, 2, 3, 4, 5, 7}
    assert sum(member.counts == {"": 6650} for member in found.members.values()) == 26
    write(tmp_path, OLD)
    assert culprits(tmp_path) == []


def test_errors_and_events_of_the_monitor_are_told(tmp_path):
    monitor = tmp_path / "monitor.txt"
    monitor.write_text(
        "RAS Monitor Mode - watching\n=====\n[2025-12-19 13:07:07] PEER_DEAD: Process 101 on node n0 managing GPU 1\n"
    )
    (tmp_path / "r.json").write_text(report(dict.fromkeys(range(4), 9), error=3))
    events = gather([tmp_path], workers=1).tables["events"].set_index("event")
    assert events.loc["process-dead", "device"] == "rank1" and events.loc["process-dead", "t_ns"] == 1766149627 * 10**9
    assert events.loc["nccl-error", "device"] == "rank3"


def test_communicators_without_one_of_all_ranks_name_processes(tmp_path):
    one = json.loads(report({0: 5, 1: 5, 2: 1}))
    two = json.loads(report({4: 5, 5: 5, 6: 5}))
    for number, rank in enumerate(two["communicators"][0]["ranks"]):
        rank["rank"] = number
    two["communicators"][0]["hash"] = "0x2"
    one["communicators"] += two["communicators"]
    write(tmp_path, json.dumps(one))
    recording = gather([tmp_path], workers=1)
    assert recording.world_size == 6 and not len(recording.tables["collectives"])


@pytest.mark.parametrize("text", ['{"a": 1}', '{"communicators": [', "hello", "Communicators..." + "{" * 9])
def test_what_is_no_report_is_unreadable(tmp_path, text):
    path = tmp_path / "x"
    path.write_text(text)
    with pytest.raises(Unreadable):
        NcclRas().read(path)


@drawn
@given(st.dictionaries(st.integers(0, 7), st.integers(0, 10**9), min_size=1, max_size=8), st.booleans())
def test_calls_of_a_report_are_those_that_it_tells(tmp_path, counts, packed):
    """Every rank launched two broadcasts more; ranks two calls ahead or more wait for the last."""
    counts = dict(zip(range(len(counts)), counts.values(), strict=True))
    (path,) = [tmp_path / "report0.txt"]
    path.write_bytes(gzip.compress(report(counts).encode()) if packed else report(counts).encode())
    reading = NcclRas().read(path)
    made = [frame(table, columns) for table, columns in reading.batches if table == "collectives"]
    found = sorted(made[0][["rank", "seq", "state"]].itertuples(index=False, name=None))
    low, high = min(counts.values()), max(counts.values())
    assert found == [(rank, calls + 2, "scheduled" if high - low >= 2 and calls > low else "completed")
                     for rank, calls in sorted(counts.items())]  # fmt: skip
    assert reading.world_size == len(counts) and bool(reading.warnings) == (high - low == 1)


def test_line_ends_of_a_terminal_do_not_hide_processes(tmp_path):
    """`kubectl exec -t` ends lines as Windows does; what a text says of a process is cut as any other."""
    line = "[2025-12-19 13:20:27] PEER_DEAD: Process 42 on node n7 managing GPUs 0 died"
    (tmp_path / "m.txt").write_bytes(f"RAS Monitor Mode\r\n{line}\r\n{line[:70]}".encode())
    reading = NcclRas().read(tmp_path / "m.txt")
    (row,) = frame(*reading.batches[0])[["node", "message"]].itertuples(index=False, name=None)
    assert row == ("n7", "Process 42 on node n7 managing GPUs 0 died") and reading.status == "partial"


@pytest.mark.parametrize(("cut_at", "told"), [("    0         1", "none told"), ("Errors\n=", "1 healthy")])
def test_a_report_cut_before_its_table_tells_of_no_communicator(tmp_path, cut_at, told):
    whole = HEAD.format(count=8, errors="OK")
    (tmp_path / "r.txt").write_text(whole[: whole.index(cut_at)])
    batches = dict(NcclRas().read(tmp_path / "r.txt").batches)
    assert list(frame("events", batches["events"])["message"]) == [f"communicators: {told}"]
