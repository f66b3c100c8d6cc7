"""Recordings whose truth is known, from others and from small experiments: who is named, and who must not be."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

NOBODY: dict[int, str] = {}
KNOWN = {
    "local-gloo-kineto/clean-4rank": NOBODY,
    "local-gloo-kineto/compute-8rank": {5: "coll-late-rank"},
    "local-gloo-kineto/input-4rank": {1: "data-loader-stall"},
    "local-gloo-kineto/rotating-4rank": NOBODY,
    "derived-ncclargs-multirank/4rank-clean": NOBODY,
    "derived-ncclargs-multirank/4rank-straggler": {1: "coll-late-rank"},
    "local-flight-recorder/ok/gloo-raw": NOBODY,
    "local-flight-recorder/ok/gloo-raw-json": NOBODY,
    "local-flight-recorder/ok/nccl-shaped": NOBODY,
    "local-flight-recorder/missing/gloo-raw": {1: "coll-missing-rank"},
    "local-flight-recorder/missing/gloo-raw-json": {1: "coll-missing-rank"},
    "local-flight-recorder/missing/nccl-shaped": {1: "coll-missing-rank"},
    "local-flight-recorder/slow/gloo-raw": {3: "coll-late-rank"},
    "local-flight-recorder/slow/gloo-raw-json": {3: "coll-late-rank"},
    "local-flight-recorder/slow/nccl-shaped": {3: "coll-late-rank"},
    "bytedance-straggler-whatif/trace-AR.parquet": {0: "coll-late-rank"},
    "bytedance-straggler-whatif/trace-SE.parquet": NOBODY,
    "spdl-dataloader-32rank": {0: "data-loader-stall", 19: "data-loader-stall"},
    "param-linear-singlegpu-kineto": NOBODY,
    "alibaba-minibatch-stragglers/job_1_norm.csv.gz": {6: "coll-late-rank"},
    "alibaba-minibatch-stragglers/job_2_norm.csv.gz": {5: "coll-late-rank"},
}


@pytest.mark.parametrize(("place", "truth"), KNOWN.items(), ids=KNOWN)
def test_exactly_the_culprits_are_named(place, truth, shared, analyzed, named):
    found = named(analyzed(shared / place))
    assert set(found) == set(truth)
    assert all(truth[rank] in found[rank] for rank in truth)


def test_a_worker_slow_for_a_while_is_blamed_for_that_while_only(shared, analyzed):
    """The source says that worker 6 becomes a straggler in the middle of its 300 iterations."""
    report = analyzed(shared / "alibaba-minibatch-stragglers/job_1_norm.csv.gz")
    (found,) = [one for one in report["findings"] if one["role"] == "culprit"]
    assert 100 < found["window"]["first_step"] < found["window"]["last_step"] < 250


def test_one_step_is_no_habit_but_the_latest_rank_is_shown(shared, analyzed, named):
    """DLRM, 8 real ranks: rank 7 arrives last at five of eight collectives of the only step."""
    report = analyzed(shared / "param-dlrm-8rank-kineto")
    assert set(named(report)) <= {7}
    shown = [one["subject"]["rank"] for one in report["findings"] if one["condition"] == "coll-late-rank"]
    assert shown == [7]


def test_who_arrived_last_at_each_collective_of_dlrm(shared, analyzed):
    calls = sorted(analyzed(shared / "param-dlrm-8rank-kineto")["collectives"], key=lambda one: (one["op"], one["seq"]))
    last = {op: [one["last_rank"] for one in calls if one["op"] == op] for op in ("send_recv", "all_reduce")}
    assert last == {"send_recv": [7, 7, 7, 7, 5], "all_reduce": [7, 5, 4]}
    assert calls[3]["skew_s"] == pytest.approx(7624e-6, abs=2e-6)


def test_a_slow_rank_that_rotates_is_found_step_by_step(shared, analyzed):
    """The slow rank of step k is k mod 4: averages of the run hide it."""
    steps = analyzed(shared / "local-gloo-kineto/rotating-4rank")["steps"]
    assert {one["step"]: one["slowest_rank"] for one in steps} == {3: 3, 4: 0, 5: 1, 6: 2, 7: 3}


@pytest.mark.parametrize(("trace", "slowdown"), [("AR", 1.973), ("SE", 1.537)])
def test_slowdown_agrees_with_the_published_one(trace, slowdown, shared, analyzed):
    report = analyzed(shared / f"bytedance-straggler-whatif/trace-{trace}.parquet")
    assert report["summary"]["slowdown"] == pytest.approx(slowdown, rel=0.01)


def test_sequence_skew_and_the_long_last_stage_are_told_apart(shared, analyzed):
    report = analyzed(shared / "bytedance-straggler-whatif/trace-SE.parquet")
    culprits = {one["condition"]: one for one in report["findings"] if one["role"] == "culprit"}
    assert set(culprits) == {"data-sequence-skew", "pp-stage-imbalance"}
    assert culprits["pp-stage-imbalance"]["subject"]["stage"] == 1


def test_the_rank_is_read_from_inside_however_the_json_is_written(shared, analyzed, named, tmp_path):
    """Minified traces under neutral names: a reader that searches for `"rank": ` sees one rank only."""
    for number, path in enumerate(sorted((shared / "local-gloo-kineto/compute-8rank").glob("*.gz"))):
        inside = json.loads(gzip.decompress(path.read_bytes()))
        (tmp_path / f"part-{9 - number}.json").write_text(json.dumps(inside, separators=(",", ":")))
    report = analyzed(tmp_path)
    assert report["job"]["ranks"] == 8
    assert set(named(report)) == {5}


GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.csv"))


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
def test_shipped_samples_say_what_their_source_says(golden, analyzed):
    report = analyzed(Path(__file__).parents[1] / "sample_data" / golden.stem)
    found = sorted(
        f"{one['role']},{one['condition']},{one['subject']['id']}"
        for one in report["findings"]
        if one["role"] != "context"
    )
    assert ["role,condition,subject", *found] == golden.read_text().splitlines()


def test_every_sample_has_its_expectation():
    folders = [path for path in (Path(__file__).parents[1] / "sample_data").iterdir() if (path / "SOURCE.md").exists()]
    assert {path.name for path in folders} == {path.stem for path in GOLDEN}
