"""Real training jobs slowed on purpose: recorded ones, and ones that are trained here and now."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

RECORDED = ("healthy-a", "compute-slow", "dataloader-stall", "seqlen-rotating", "pipeline-imbalance", "slow-link",
            "hang", "bad-input")  # fmt: skip
PRICED = ("compute-slow", "dataloader-stall", "seqlen-rotating", "bad-input", "slow-link")
TOLERANCE = 0.20
GENERATOR = Path(__file__).parent / "jobs/run.py"


def judge(report, truth, named) -> None:
    """Fail unless the report names exactly the culprits of the truth, each for a right reason, and blames no other."""
    right = {truth["condition"], *truth["also_right"]} - {None}
    blamed, culprits = named(report), {one["condition"] for one in report["findings"] if one["role"] == "culprit"}
    assert set(blamed) == set(truth["culprit_ranks"]), f"seed and job: {truth.get('printed', '')}"
    if truth["condition"]:
        assert right & culprits, f"none of {right} is a culprit"
        assert all(right & conditions for conditions in blamed.values()), f"named for something else: {blamed}"
    wrong = culprits - right - set(truth["tolerated"])
    assert not wrong, f"blamed for something else: {wrong}"


def price_ms(truth) -> float:
    """Return what the injected fault costs per step: as injected, else as measured beside a healthy control."""
    seen, injected = truth["seen"], truth["injected"]
    if "extra_ms_per_step_expected" in injected:
        return injected["extra_ms_per_step_expected"]
    if "cost_ms_per_step" in seen:
        return seen["cost_ms_per_step"]
    slow = seen["backward_ms_by_rank"]  # the control was measured where the fault acts: in backward
    return statistics.median(slow.values()) - seen["control"]["backward_ms_median_healthy"][f"{len(slow)}_ranks"]


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_job_is_judged_right(name, shared, analyzed, named):
    folder = shared / "real-jobs" / name
    judge(analyzed(folder), json.loads((folder / "truth.json").read_text()), named)


def test_context_is_no_verdict(shared, analyzed, named):
    folder = shared / "real-jobs/seqlen-rotating"
    report, truth = analyzed(folder), json.loads((folder / "truth.json").read_text())
    shy = [one | {"role": "context"} for one in report["findings"]]
    with pytest.raises(AssertionError, match="is a culprit"):
        judge(report | {"findings": shy}, truth, named)


@pytest.mark.parametrize("name", PRICED)
def test_recorded_job_is_priced_right(name, shared, analyzed):
    folder = shared / "real-jobs" / name
    costs = [one["cost"]["seconds_per_step"] for one in analyzed(folder)["findings"] if one["role"] == "culprit"]
    expected_ms = price_ms(json.loads((folder / "truth.json").read_text()))
    print(f"{name}: {max(costs) * 1e3:.1f} ms per step, of {expected_ms:.1f}")
    assert max(costs) * 1e3 == pytest.approx(expected_ms, rel=TOLERANCE)


def test_an_even_pipeline_would_save_what_the_truth_says(shared, analyzed):
    folder = shared / "real-jobs/pipeline-imbalance"
    truth = json.loads((folder / "truth.json").read_text())
    (found,) = [one for one in analyzed(folder)["findings"] if one["condition"] == "pp-stage-imbalance"]
    ratio = 1.0 - found["cost"]["share"]
    assert ratio == pytest.approx(truth["seen"]["predicted_step_ratio_if_balanced"], rel=0.05)


def test_damage_is_told_and_does_not_hide_the_culprit(shared, analyzed):
    report = analyzed(shared / "real-jobs/bad-input")
    bad = [(Path(one["path"]).name, one["status"]) for one in report["inputs"] if one["status"] != "ok"]
    assert ("rank2.pt.trace.json.gz", "partial") in bad
    assert ("steps_rank3.jsonl", "partial") in bad
    assert [name for name, _ in bad if "rank 6" in name], "that rank 6 is missing is not told"
    assert {name for name, _ in bad if "rank 6" not in name} <= {"rank2.pt.trace.json.gz", "steps_rank3.jsonl",
                                                                "truth.json"}  # fmt: skip


def test_the_onset_is_found(shared, analyzed):
    folder = shared / "real-jobs/dataloader-stall"
    (found,) = [one for one in analyzed(folder)["findings"] if one["role"] == "culprit"]
    truth = json.loads((folder / "truth.json").read_text())
    assert abs(found["window"]["first_step"] - truth["from_step"]) <= 2


@pytest.mark.parametrize(
    ("waits_ms", "excused"),
    [([12.0] * 6, [1]), ([5.0] * 6, []), ([0.0, 12.0, 12.0, 12.0, 0.0, 0.0], [1]), ([36.0, 0.0, 0.0, 0.0, 36.0], [])],
)  # fmt: skip
def test_only_a_rank_that_waited_for_a_core_when_it_was_slow_is_excused(waits_ms, excused, starved):
    one = {"role": "culprit", "subject": {"rank": 1}, "cost": {"seconds_per_step": 0.01},
           "window": {"first_step": 2, "last_step": 4}}  # fmt: skip
    truth = {"kept_waiting_ms": {"0": [1.0] * 6, "1": waits_ms, "2": [1.0] * 6, "3": [2.0] * 6}}
    assert starved({"findings": [one, one | {"role": "victim"}]}, truth) == excused


SEED = int(os.environ.get("SKEWSCOPE_TEST_SEED", random.SystemRandom().randrange(10_000)))


@pytest.mark.parametrize("kind", ["compute-slow", "dataloader-stall", "healthy"])
def test_job_trained_now_is_judged_right(kind, analyzed, named, starved, tried):
    pytest.importorskip("torch")
    tried(lambda folder: train_and_judge(kind, folder, analyzed, named, starved))


def train_and_judge(kind, folder, analyzed, named, starved) -> None:
    draw = random.Random(f"{SEED}-{kind}")
    culprit, ratio, stall_ms = draw.randrange(4), round(draw.uniform(1.5, 2.0), 2), draw.randrange(250, 400)
    print(f"SKEWSCOPE_TEST_SEED={SEED}: {kind}, rank {culprit}, ratio {ratio}, {stall_ms} ms")
    amount = {"compute-slow": ratio, "dataloader-stall": stall_ms}.get(kind, 1.0)
    flags = ["--world", 4, "--culprit", culprit, "--amount", amount, "--steps", 14, "--wait", 3, "--warmup", 1]
    flags += ["--active", 8, "--seed", SEED, "--loader-workers", int(kind == "dataloader-stall")]
    label = folder / "truth.json"
    command = [sys.executable, GENERATOR, "--kind", kind, "--out", folder / "job", "--truth", label, *flags]
    subprocess.run([str(word) for word in command], check=True, timeout=240)
    truth = json.loads(label.read_text()) | {"printed": f"SKEWSCOPE_TEST_SEED={SEED}: {kind}, rank {culprit}"}
    report = analyzed(folder / "job")
    if kind == "healthy" and (slow := starved(report, truth)):
        truth |= {"culprit_ranks": slow, "tolerated": ["coll-late-rank", *truth["tolerated"]]}
    judge(report, truth, named)
    if kind == "compute-slow":
        (cost,) = [one["cost"]["seconds_per_step"] * 1e3 for one in report["findings"] if one["role"] == "culprit"]
        assert cost == pytest.approx(truth["injected"]["extra_ms_per_step_expected"], rel=0.5)
