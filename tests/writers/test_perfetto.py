"""The trace is what Perfetto's importer wants, and its numbers are those of the tables."""

import gzip
import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from skewscope.analysis import Analysis, analyze
from skewscope.contracts import Evidence, Finding, Window
from skewscope.frames import all_tables, frame
from skewscope.recording import Recording
from skewscope.sources import gather
from skewscope.subjects import node, rank
from skewscope.writers._trace_clock import clock
from skewscope.writers._trace_file import micros
from skewscope.writers.perfetto import Perfetto

SAMPLES = Path(__file__).parents[2] / "sample_data"
ROOMS = ("coll-late-rank", "coll-missing-rank", "comm-exposed")
SECOND = 10**9
START = 1_700_000_000 * SECOND


def write(analysis, folder, **more):
    path = folder / "t.json.gz"
    words = Perfetto().write(analysis, path, **more)
    return json.loads(gzip.open(path).read()), words


def check(trace):
    """Raise AssertionError where the trace is not as the Trace Event Format and Perfetto's importer want it."""
    events = trace["traceEvents"]
    slices, threads, flows = defaultdict(list), {}, defaultdict(list)
    for event in events:
        assert event["ph"] in "XMCsf" and isinstance(event["pid"], int) and isinstance(event["tid"], int)
        assert isinstance(event["name"], str) and isinstance(event["ts"], int | float) and event["ts"] >= 0
        if event["ph"] == "X":
            assert isinstance(event["dur"], int | float) and event["dur"] >= 0 and isinstance(event["cat"], str)
            slices[event["pid"], event["tid"]].append((ns(event["ts"]), ns(event["ts"]) + ns(event["dur"]), event))
        elif event["ph"] == "C":
            assert all(isinstance(value, int | float) for value in event["args"].values())
        elif event["ph"] == "M" and event["name"] == "thread_name":
            assert event["tid"] not in threads, "thread numbers are unique in the whole trace"
            threads[event["tid"]] = event["pid"]
        elif event["ph"] in "sf":
            flows[event["id"]].append(event)
    for (pid, tid), mine in slices.items():
        assert threads[tid] == pid
        nest(mine)
    for start, end in flows.values():
        assert (start["ph"], end["ph"], end["bp"]) == ("s", "f", "e") and end["ts"] >= start["ts"]
        for event in (start, end):
            inside = [one for one in slices[event["pid"], event["tid"]] if one[0] <= ns(event["ts"]) < one[1]]
            assert inside, "an arrow begins and ends in a slice"
    named = {event["pid"] for event in events if event["name"] == "process_name"}
    assert named == {event["pid"] for event in events}
    return events


def ns(micros):
    return round(micros * 1000)


def nest(slices):
    open_until = []
    for start, end, _ in sorted(slices, key=lambda one: (one[0], -one[1])):
        while open_until and open_until[-1] <= start:
            open_until.pop()
        assert not open_until or end <= open_until[-1], "slices of one track nest"
        open_until.append(end)


def slices(events, cat, rank=None):
    return [one for one in events if one["ph"] == "X" and one["cat"] == cat and rank in (None, one["pid"] - 2)]


@pytest.fixture(scope="module", params=["compute-slow", "dlrm-8-ranks", "spool-slow-rank", "hang"])
def sample(request):
    return analyze(gather([SAMPLES / request.param], workers=1), only=ROOMS)


def test_a_real_job_is_written_whole(sample, tmp_path):
    trace, words = write(sample, tmp_path)
    events, tables = check(trace), sample.tables
    timed = tables["collectives"][(tables["collectives"]["ready_ns"] >= 0).to_numpy()]
    counts = Counter((one["cat"], one["pid"] - 2) for one in events if one["ph"] == "X")
    for number, rows in timed.groupby("rank"):
        assert counts["communication", number] == len(rows)
    work = sum(counts[kind, number] for kind in ("compute", "copies", "host") for number in range(64))
    assert work == len(tables["ops"])
    assert sum(count for (cat, pid), count in counts.items() if cat == "phases") == int(
        (tables["steps"]["phase"] != "step").sum()
    )
    assert len(slices(events, "findings", -1)) == len(sample.findings)
    assert trace["metadata"]["left_out"] == {} and len(words) == 1
    names = {one["pid"] - 2: one["args"]["name"] for one in events if one["name"] == "process_name"}
    assert [name.split(" · ")[0] for at, name in sorted(names.items()) if at >= 0] == [
        f"rank {number}" for number in sorted(set(tables["ranks"]["rank"]) | set(tables["collectives"]["rank"]))
    ]


def test_times_are_those_of_the_tables(sample, tmp_path):
    trace, _ = write(sample, tmp_path)
    base, tables, moved = trace["baseTimeNanoseconds"], sample.tables, clock(sample.tables)
    for number in np.unique(tables["ops"]["rank"]).tolist():
        rows = tables["ops"][(tables["ops"]["rank"] == number).to_numpy()]
        work = [one for kind in ("compute", "copies", "host") for one in slices(trace["traceEvents"], kind, number)]
        told = sorted((round(one["ts"] * 1000) + base, round(one["dur"] * 1000)) for one in work)
        start, end = (moved.moved(number, rows[name].to_numpy()) for name in ("start_ns", "end_ns"))
        assert told == sorted(zip(start.tolist(), (end - start).tolist(), strict=True))


def test_blame_adds_up_to_the_tables(sample, tmp_path):
    trace, _ = write(sample, tmp_path)
    rows = sample.tables["rank_steps"]
    told = defaultdict(float)
    for one in slices(trace["traceEvents"], "blame"):
        told[one["name"].split(" for rank")[0], one["pid"] - 2] += one["args"]["part_us"] / 1e6
    for column, name in (("compute_ns", "compute"), ("transfer_ns", "exposed transfer"), ("wait_ns", "waiting")):
        for number, part in rows.groupby("rank"):
            assert told[name, number] == pytest.approx(part[column].sum() / 1e9, rel=1e-4, abs=1e-6)


def test_a_culprit_has_its_finding_and_its_price(tmp_path):
    found = analyze(gather([SAMPLES / "compute-slow"], workers=1), only=ROOMS)
    events = check(write(found, tmp_path)[0])
    mine = slices(events, "findings", 5)
    assert [one["args"]["condition"] for one in mine] == ["coll-late-rank"] and not slices(events, "findings", 4)
    first = found.findings[0]
    assert (
        mine[0]["args"]["lost_s"] == pytest.approx(first.lost_s, rel=1e-4)
        and first.evidence[0].signal in mine[0]["args"]["evidence"]
    )
    labels = {one["pid"] - 2: one["args"]["labels"] for one in events if one["name"] == "process_labels"}
    assert "per step" in labels[5] and "rank 5" in labels[-1]
    waits = [one for one in slices(events, "arrivals") if one["name"].startswith("wait for rank 5")]
    assert len(waits) > 100 and all(one["args"]["waits_for_rank"] == 5 for one in waits)
    arrows = Counter(one["pid"] - 2 for one in events if one["ph"] == "s")
    assert arrows.most_common(1)[0][0] == 5


def tables(**given):
    return all_tables({name: frame(name, columns) for name, columns in given.items()})


def analysis(findings=(), **given):
    made = tables(**given)
    return Analysis(Recording(made, ()), made, tuple(findings), {}, {}, {"verdict": "words"})


def calls(shift=(0, 0), **more):
    """Two ranks in three all-reduces; rank 1 comes 3 ms late to each, and its host's clock is ahead by `shift`."""
    at = START + np.arange(3) * SECOND
    ready = np.concatenate([at, at + 3_000_000])
    end = np.concatenate([at, at]) + 5_000_000
    ahead = np.repeat(np.array(shift), 3)
    keys = {
        "job": "job",
        "group": "0",
        "seq": [1, 2, 3] * 2,
        "rank": [0, 0, 0, 1, 1, 1],
        "op": "all_reduce",
        "source": "x",
    }
    return {
        "collectives": {**keys, "ready_ns": ready + ahead, "end_ns": end + ahead, "blocking": True,
                        "state": "completed"},
        "arrivals": {
            **keys, "call": [0, 1, 2] * 2, "members_count": 2, "ready_ns": ready, "end_ns": end,
            "late_ns": np.repeat([-3e6, 3e6], 3), "wait_ns": np.repeat([3e6, 0.0], 3), "transfer_ns": 2e6,
            "last": np.repeat([False, True], 3), "by_wait": False,
        },
        "ranks": {"job": "job", "rank": [0, 1], "node": ["a", "b"], "gpu": [0, 3]}, **more,
    }  # fmt: skip


def clocks(*offsets):
    return {"job": "job", "node": ["a", "b"], "offset_ns": list(offsets), "drift_ppm": 0.0, "uncertainty_ns": 1.0,
            "pairs_count": 3, "aligned": True}  # fmt: skip


def test_ranks_line_up_on_the_common_clock(tmp_path):
    ahead = 40_000_000
    trace, _ = write(analysis(**calls((0, ahead), clocks=clocks(0.0, float(ahead)))), tmp_path)
    ends = [
        [round((one["ts"] + one["dur"]) * 1000) for one in slices(check(trace), "communication", number)]
        for number in (0, 1)
    ]
    assert ends[0] == ends[1] and len(ends[0]) == 3
    untouched, _ = write(analysis(**calls((0, ahead), clocks=clocks(0.0, float(ahead)) | {"aligned": False})), tmp_path)
    assert slices(untouched["traceEvents"], "communication", 1)[0]["ts"] == pytest.approx(43_000.0)


def test_a_drift_is_followed(tmp_path):
    made = calls()
    made["collectives"]["ready_ns"] = made["collectives"]["ready_ns"] + np.array([0, 0, 0, 1000, 2000, 3000])
    moved = clock(tables(**made, clocks=clocks(0.0, 2000.0)))
    at = START + np.array([0, SECOND, 2 * SECOND]) + 3_000_000
    assert (moved.moved(1, at + [1000, 2000, 3000]) - at).tolist() == [0, 0, 0]
    assert moved.moved(1, np.array([-1])).tolist() == [-1]


def test_arrows_lead_from_who_came_last_to_who_waited(tmp_path):
    trace, words = write(analysis(**calls()), tmp_path)
    events = check(trace)
    ends = [(one["ph"], one["pid"] - 2) for one in events if one["ph"] in "sf"]
    assert ends == [("s", 1), ("f", 0)] * 3 and words[0].endswith("3 arrows")
    wait, transfer = (next(one for one in slices(events, "arrivals", 0) if one["name"].startswith(name))
                      for name in ("wait for rank 1", "transfer"))  # fmt: skip
    assert (wait["dur"], transfer["dur"], transfer["ts"] - wait["ts"]) == (3000, 2000, 3000)
    late = slices(events, "arrivals", 1)
    assert {one["name"] for one in late} == {"came last: all_reduce"}


def test_a_call_that_never_ended_lasts_to_the_end(tmp_path):
    made = calls()
    made["collectives"] |= {"end_ns": [START, START + 1, -1] * 2, "state": ["completed", "completed", "started"] * 2}
    events = check(write(analysis(**made), tmp_path)[0])
    hung = [one for one in slices(events, "communication") if one["name"] == "all_reduce (never ended)"]
    assert len(hung) == 2 and {one["args"]["state"] for one in hung} == {"started"}
    assert len({round((one["ts"] + one["dur"]) * 1000) for one in hung}) == 1


def test_counters_are_of_the_gpu_of_the_rank(tmp_path):
    at = START + np.arange(4) * SECOND // 2
    samples = {"t_ns": np.concatenate([at, at, at]), "node": ["a"] * 4 + ["b"] * 8,
               "device": ["gpu0"] * 4 + ["gpu3"] * 4 + ["gpu9"] * 4,
               "metric": ["skewscope_gpu_utilization_ratio"] * 4 + ["skewscope_gpu_power_watts"] * 8,
               "value": [0.5, 0.25, float("nan"), 1.0] + [700.0] * 8}  # fmt: skip
    events = check(write(analysis(**calls(samples=samples)), tmp_path)[0])
    counters = [(one["pid"] - 2, one["name"], one["args"]["value"]) for one in events if one["ph"] == "C"]
    assert counters[:3] == [(0, "GPU busy [%]", 50), (0, "GPU busy [%]", 25), (0, "GPU busy [%]", 100)]
    assert counters[3:] == [(1, "GPU power [W]", 700)] * 4


def finding(subject, **window):
    return Finding("nic-link-down", subject, "culprit", "S1", 0.8, Window(**window), 0.5, 0.1,
                   (Evidence("down", 1.0, 0.0, None, ""),), "a \"quoted\" \ud800 text")  # fmt: skip


def test_findings_of_hosts_and_without_times(tmp_path):
    steps = {
        "job": "job",
        "step": [4, 5],
        "start_ns": [START, START + SECOND],
        "duration_ns": [1e9, 1e9],
        "planned": False,
        "ranks_count": 2,
    }
    found = [
        finding(node("b")),
        finding(rank("job", 0), first_step=5, last_step=5),
        finding(rank("job", 99), start_ns=1, end_ns=2),
    ]
    trace, _ = write(analysis(found, **calls(step_times=steps)), tmp_path)
    events = check(trace)
    assert len(slices(events, "findings", 1)) == 1 and len(slices(events, "findings", -1)) == 3
    mine = slices(events, "findings", 0)[0]
    assert mine["ts"] == 1e6 and mine["args"]["summary"] == 'a "quoted" ? text'


def test_the_longest_are_kept_and_the_rest_is_told(sample, tmp_path):
    whole, _ = write(sample, tmp_path)
    most = len(whole["traceEvents"]) // 3
    cut, words = write(sample, tmp_path, most_events=most)
    events = check(cut)
    made = sum(one["ph"] != "M" for one in events)
    assert made <= most * 1.15 and (cut["metadata"]["left_out"] or made < most)
    assert len(words) == 1 + len(cut["metadata"]["left_out"])
    for kind in ("host", "compute"):
        kept = [one["dur"] for one in slices(events, kind)]
        dropped = sorted(one["dur"] for one in slices(whole["traceEvents"], kind))[: -len(kept) or None]
        assert not kept or not dropped or len(kept) == len(dropped) or min(kept) >= dropped[-1] - 1e-9
    shown = [len(slices(one, "steps")) for one in (events, whole["traceEvents"])]
    assert (shown[0] < shown[1]) is ("steps" in cut["metadata"]["left_out"])


def test_a_plain_file_and_an_empty_recording(tmp_path):
    path = tmp_path / "t.json"
    Perfetto().write(analysis(), path, compressed=False)
    assert check(json.loads(path.read_text()))[0]["args"]["name"] == "job: 0 ranks"


def test_times_are_exact():
    assert micros(START + 1) == "1700000000000000.001"


def test_many_steps_are_thinned_alike_on_all_ranks(tmp_path):
    ranks, steps = 8, 300
    number, rank_of = np.tile(np.arange(steps), ranks), np.repeat(np.arange(ranks), steps)
    start = START + number * SECOND
    rows = {"job": "job", "step": number, "rank": rank_of, "start_ns": start, "end_ns": start + SECOND // 2}
    parts = dict.fromkeys(("work_ns", "own_ns", "compute_ns", "transfer_ns", "wait_ns"), 1e8)
    nothing = dict.fromkeys(
        ("input_ns", "gc_ns", "checkpoint_ns", "idle_ns", "comm_ns", "forward_ns", "backward_ns"), 0.0
    )
    made = analysis(rank_steps=rows | parts | nothing, steps=rows | {"phase": "step"})
    trace, words = write(made, tmp_path, most_events=2000)
    events = check(trace)
    assert len(events) < 2500 and "left out of steps" in words[1]
    shown = [{one["name"] for one in slices(events, "steps", number)} for number in range(ranks)]
    assert all(one == shown[0] for one in shown) and 5 < len(shown[0]) < 50
    assert len(slices(events, "blame", 3)) == 3 * len(shown[3])
