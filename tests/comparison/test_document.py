from __future__ import annotations

from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import jsonschema
import numpy as np
import pandas as pd
import pytest

from skewscope.comparison import calls, findings, work
from skewscope.comparison.document import compare, slower_percent
from skewscope.comparison.run import Run
from skewscope.frames import concat, frame
from skewscope.reports.json_schema import schema

R = SimpleNamespace(**run_path(str(Path(__file__).parent / "_runs.py")))


def named(document: dict, name: str) -> dict:
    return next(one for one in document["work"] if one["name"] == name)


def test_more_compute_is_named_with_its_size():
    document = compare(R.made("old"), R.made("new", compute_s=0.1, seed=1))
    jsonschema.validate(document, schema("compare"))
    assert document["step_time"]["answer"] == "slower"
    assert document["step_time"]["ratio"] == pytest.approx(1.2, rel=0.02)
    assert slower_percent(document) == pytest.approx(20, abs=2)
    assert document["verdict"].startswith("new is") and "Most of it is compute: " in document["verdict"]
    compute = next(one for one in document["parts"] if one["part"] == "compute")
    assert compute["change_s"] == pytest.approx(0.02, rel=0.05) and compute["p"] < 0.001


def test_the_same_again_is_no_difference():
    document = compare(R.made("old"), R.made("new", seed=9))
    assert document["step_time"]["answer"] == "no-difference" and slower_percent(document) == 0
    assert "No difference beyond chance" in document["verdict"]


def test_parts_add_up_to_the_step():
    run = R.made("one", slow=2)
    document = compare(run, run)
    whole = sum(one["before_s"] or 0 for one in document["parts"] if one["of_step"])
    assert whole == pytest.approx(float(run.step_s.mean()), rel=1e-6)


def test_kernels_per_step_and_rank_whatever_the_number_of_both():
    old = R.made("old", kernels={"mm<1>": (2, 0.01), "copy": (1, 0.001), "gone": (1, 0.002)})
    new = R.made("new", ranks=8, steps=25, kernels={"mm<2>": (3, 0.01), "copy": (1, 0.001), "fresh": (1, 0.004)})
    document = compare(old, new)
    assert {one["name"]: one["state"] for one in document["work"]} == {
        "mm": "slower", "copy": "same", "gone": "removed", "fresh": "added",
    }  # fmt: skip
    mm = named(document, "mm")
    assert (mm["calls_before"], mm["calls_after"]) == (2, 3)
    assert mm["before_s"] == pytest.approx(0.02, rel=0.01) and mm["after_s"] == pytest.approx(0.03, rel=0.01)
    assert document["work_counts"] == {"added": 1, "removed": 1, "slower": 1, "faster": 0, "same": 1}
    assert any("recorded 4 ranks" in note for note in document["notes"])
    exact = compare(old, new, exact=True)
    assert named(exact, "mm<1>")["state"] == "removed" and named(exact, "mm<2>")["state"] == "added"


def test_work_that_was_launched_before_the_recording_is_of_no_step():
    run = R.made("one", kernels={"mm": (2, 0.01)})
    ops = run.tables["ops"]
    early = ops.head(6).assign(name="mm", launch_ns=-1)
    more = R.Run("two", run.report, {**run.tables, "ops": pd.concat([early, ops], ignore_index=True)})
    assert work.compared(run, more)[0]["calls_after"] == 2
    silent = R.Run("three", run.report, {**run.tables, "ops": ops.assign(launch_ns=-1)})
    assert work.compared(run, silent)[0]["calls_after"] == 2, "where no launch is told nothing may be left out"


def test_a_report_alone_gives_steps_and_findings():
    told = {"steps": [{"duration_s": 0.2 + 0.001 * place} for place in range(8)]}
    document = compare(R.made("old"), R.Run("new", {**R.made("x").report, **told}))
    jsonschema.validate(document, schema("compare"))
    assert document["step_time"]["answer"] == "slower" and document["parts"] == []
    assert any("only the report" in note for note in document["notes"])


def test_no_steps_are_said():
    document = compare(R.made("old"), R.Run("new", R.made("x").report))
    assert document["step_time"]["answer"] == "unknown" and document["step_time"]["ratio"] is None
    assert document["verdict"].startswith("Step times cannot be compared: no steps were recorded in new.")


def found(condition: str, subject: str, cost: float = 0.1, role: str = "culprit") -> dict:
    kind = "rank" if "rank" in subject else "node"
    return {"condition": condition, "role": role, "severity": "S2", "summary": "",
            "subject": {"kind": kind, "id": subject}, "cost": {"seconds_per_step": cost}}  # fmt: skip


def test_findings_come_go_and_stay_whatever_the_job_is_called():
    before = {"findings": [found("coll-late-rank", "a/rank3"), found("gpu-hw-slowdown", "n1", 0.2)]}
    after = {"findings": [found("coll-late-rank", "b/rank3", 0.3), found("nic-link-down", "n2")]}
    told = [
        (one["state"], one["condition"], one["before_s"], one["after_s"]) for one in findings.compared(before, after)
    ]
    assert told == [("came", "nic-link-down", None, 0.1), ("went", "gpu-hw-slowdown", 0.2, None),
                    ("stayed", "coll-late-rank", 0.1, 0.3)]  # fmt: skip


def test_a_shift_that_came_says_since_when():
    report = {**R.made("any", steps=5).report, "findings": []}
    since = "from step 7 on, steps take 2 s instead of 1 s"
    shift = {**found("step-shift", "job", role="context"), "summary": since}
    calm, late = Run("old", report), Run("new", {**report, "findings": [shift]})
    assert compare(calm, late)["verdict"].endswith(f" In the second run, {since}.")
    assert "step 7" not in compare(late, late)["verdict"] + compare(late, calm)["verdict"]


def test_bus_bandwidth_counts_from_the_last_to_come():
    rank, step = np.tile(np.arange(4), 5), np.repeat(np.arange(5), 4)
    start = step * 10**9 + 10_000_000 * (rank == 3)  # rank 3 is late: its call shows the transfer alone
    rows = {"job": "job", "step": step, "rank": rank, "group": "dp", "group_size": 4, "seq": step, "op": "all_reduce",
            "message_bytes": 10**8, "ready_ns": start, "start_ns": start, "end_ns": step * 10**9 + 20_000_000,
            "blocking": False}  # fmt: skip
    run = R.made("one", steps=5)
    told = calls.summary(run, frame("collectives", rows))
    assert told["all_reduce"]["calls"] == 1 and told["all_reduce"]["bytes"] == 10**8
    assert told["all_reduce"]["transfer_s"] == pytest.approx(0.01)
    assert told["all_reduce"]["bus_bytes_per_s"] == pytest.approx(1.5 * 10**8 / 0.01)


def test_calls_that_two_sources_tell_count_once():
    rank, step = np.tile(np.arange(4), 5), np.repeat(np.arange(5), 4)
    rows = {"job": "job", "step": step, "rank": rank, "group": "dp", "seq": step, "op": "all_reduce",
            "ready_ns": step * 10**9, "end_ns": step * 10**9 + 10**7, "blocking": False}  # fmt: skip
    run = R.made("one", steps=5)
    trace, dump = (frame("collectives", {**rows, "source": source}) for source in ("kineto", "flight-recorder"))
    both = R.Run("both", run.report, {**run.tables, "collectives": concat("collectives", [trace, dump])})
    alone = R.Run("alone", run.report, {**run.tables, "collectives": dump})
    for before, after in ((both, both), (both, alone), (alone, both)):
        (told,) = calls.compared(before, after)
        assert (told["calls_before"], told["calls_after"]) == (1, 1)
        (named_,) = work.compared(before, after)
        assert (named_["calls_before"], named_["calls_after"]) == (1, 1)


def test_the_rank_that_became_slow_is_first():
    document = compare(R.made("old"), R.made("new", slow=2))
    assert document["ranks"]["same_ranks"] and document["ranks"]["changes"][0]["rank"] == 2
    assert document["ranks"]["changes"][0]["ratio"] == pytest.approx(1.5, rel=0.02)
    assert document["ranks"]["after"]["most_rank"] == 2
