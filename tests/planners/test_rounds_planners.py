"""The planners of whole rounds, asked as people ask them: `skewscope plan batch | backup-workers | local-steps`."""

from __future__ import annotations

import json

import numpy as np
import pytest

from skewscope import commands
from skewscope.optimize.speeds import of_times
from skewscope.planners import backup_workers, batch, local_steps


@pytest.fixture
def ask(tmp_path, capsys):
    """Return a function: words of `skewscope plan` to (exit code, document or None, standard error)."""

    def asked(*words):
        file = tmp_path / "plan.json"
        code = commands.main(["plan", *map(str, words), "--json", str(file)])
        return code, json.loads(file.read_text()) if file.exists() else None, capsys.readouterr().err

    return asked


@pytest.fixture
def table(tmp_path):
    """Return a function: times [rounds, workers] to the path of a table of them."""

    def write(times, name="times.csv"):
        np.savetxt(tmp_path / name, times, delimiter=",")
        return tmp_path / name

    return write


def noisy(means, rounds=60, jitter=0.02, seed=0):
    return np.array(means) * np.random.default_rng(seed).normal(1, jitter, (rounds, len(means)))


def bursty(share, slowdown, workers=64, rounds=400, seed=0):
    late = np.random.default_rng(seed).random((rounds, workers)) < share
    return noisy(np.ones(workers), rounds) * np.where(late, slowdown, 1.0)


def test_batch_from_a_table(ask, table):
    code, made, _ = ask("batch", "--times", table(noisy([0.7, 0.7, 0.7, 1.4])), "--batch", 28, "--comm", 0.1)
    assert code == 0
    assert made["schema"] == "skewscope.plan.batch/1"
    assert made["plan"]["samples"] == [8, 8, 8, 4]
    assert made["plan"]["weights"] == pytest.approx([2 / 7, 2 / 7, 2 / 7, 1 / 7])
    assert made["current"]["step_s"] == pytest.approx(1.5, rel=0.01)
    assert made["lower_bound"] <= made["proposed"]["step_s"] < 0.95
    assert made["proposed"]["step_low_s"] <= made["proposed"]["step_s"] <= made["proposed"]["step_high_s"]
    assert "rank 3 takes 4 instead of 7" in made["verdict"]
    assert any("weigh the gradients" in step for step in made["steps"])


def test_batch_keeps_limits(ask, table):
    times = table(noisy([0.7, 0.7, 0.7, 1.4]))
    _, made, _ = ask("batch", "--times", times, "--batch", 28, "--most", "7,8,8,8", "--least", 1)
    assert made["plan"]["samples"][0] == 7 and sum(made["plan"]["samples"]) == 28
    code, _, told = ask("batch", "--times", times, "--batch", 28, "--most", "6")
    assert code == 2 and "more than the 24 samples that fit" in told
    code, _, told = ask("batch", "--times", times, "--batch", 28, "--most", "6,6")
    assert code == 2 and "--most 6,6: 2 numbers for 4 workers" in told


def test_without_a_batch_shares_are_percents(ask, table):
    _, made, _ = ask("batch", "--times", table(noisy([1.0, 1.0, 1.0, 2.0])))
    assert made["plan"]["unit"].startswith("percent")
    assert made["plan"]["samples"] == pytest.approx([114, 114, 114, 57], abs=2)


def test_several_loads_in_one_table_measure_the_fixed_part(ask, tmp_path):
    rows = ["round,worker,seconds,load"]
    for load in (0.25, 0.125):
        for number in range(20):
            rows += [
                f"{number},{worker},{0.4 + slow * load * 4:.6f},{load}" for worker, slow in enumerate((1, 1, 1, 2))
            ]
    path = tmp_path / "loads.csv"
    path.write_text("\n".join(rows) + "\n")
    _, made, told = ask("batch", "--times", path, "--batch", 28)
    assert made["inputs"]["fixed_part_measured"]
    assert made["plan"]["fixed_s"] == pytest.approx([0.4] * 4, rel=0.02)
    assert "one load only" not in told


def test_recorded_jobs(ask, shared):
    _, slow, _ = ask("batch", shared / "real-jobs/compute-slow", "--batch", 128)
    assert min(slow["plan"]["samples"]) == slow["plan"]["samples"][5] <= 12
    assert slow["proposed"]["step_s"] < 0.9 * slow["current"]["step_s"]
    _, healthy, _ = ask("batch", shared / "real-jobs/healthy-a", "--batch", 128)
    assert healthy["plan"]["samples"] == [16] * 8 and healthy["steps"] == []
    _, _, told = ask("batch", shared / "real-jobs/bad-input")
    assert "only 7 of 8 ranks" in told
    _, single, told = ask("batch", shared / "param-dlrm-8rank-kineto")
    assert "holds 1 whole steps" in told and single["steps"] == []
    code, _, told = ask("batch", shared / "real-jobs/pipeline-imbalance")
    assert code == 2 and "skewscope plan pipeline" in told


@pytest.mark.parametrize("words", [[], ["--times", "there-is-none.csv"], ["there-is-none"]])
@pytest.mark.parametrize("planner", ["batch", "backup-workers", "local-steps"])
def test_no_input(ask, planner, words):
    code, made, told = ask(planner, *words)
    assert code == 2 and made is None
    assert "there-is-none" in told or "--times FILE" in told


def test_damaged_tables(ask, tmp_path):
    for text, said in (("a,b\n1,x\n", "x"), ("1,2\n3\n", "row"), ("1,-2\n", "0 s"), ("", "empty")):
        path = tmp_path / "bad.csv"
        path.write_text(text)
        code, made, told = ask("batch", "--times", path)
        assert code in (2, 3) and made is None and "bad.csv" in told and said in told


def test_transient_slowness_is_for_backups(ask, table):
    times = table(bursty(0.002, 2.0))
    _, split, _ = ask("batch", "--times", times, "--comm", 0.1)
    assert split["steps"] == [] and "plan backup-workers" in split["verdict"]
    _, made, _ = ask("backup-workers", "--times", times, "--comm", 0.1)
    assert made["plan"]["backups"] == 1
    assert made["current"]["step_per_kept_s"] / made["proposed"]["step_per_kept_s"] > 1.05
    assert made["lower_bound"] <= made["proposed"]["step_per_kept_s"]
    assert made["plan"]["saved_share_low"] < made["plan"]["saved_share_high"]


def test_chronic_slowness_is_not(ask, table):
    _, made, told = ask("backup-workers", "--times", table(noisy([1.0] * 15 + [2.0])))
    assert made["plan"]["dropped_share"][15] == 1.0
    assert "slow for good" in told and "plan batch" in told


def test_equal_workers_are_all_waited_for(ask, table):
    _, made, _ = ask("backup-workers", "--times", table(noisy([1.0] * 16)))
    assert made["plan"]["backups"] == 0 and made["steps"] == []
    assert made["current"] == made["proposed"]


def test_the_share_that_may_be_lost_is_kept():
    rounds = of_times(bursty(0.05, 3.0, workers=20))
    free = backup_workers.planned(rounds, backup_workers.Wanted(drop_ratio=0.5))
    tight = backup_workers.planned(rounds, backup_workers.Wanted(drop_ratio=0.04))
    assert free.plan["backups"] > 1 and tight.plan["backups"] == 0
    assert "dropped would" in tight.verdict


def test_noisier_gradients_wait_for_more(ask, table):
    times = table(0.5 + np.random.default_rng(0).exponential(1.0, (4000, 16)))
    _, made, _ = ask("backup-workers", "--times", times, "--curvature", 0.1)
    waits = {one["noise"]: one["wait_for"] for one in made["plan"]["dynamic"]}
    assert [waits[noise] for noise in (0.1, 1.0, 10.0, 100.0)] == [1, 1, 3, 10]
    _, made, _ = ask("backup-workers", "--times", times, "--curvature", 0.1, "--noise", 10)
    assert made["plan"]["dynamic"] == [{"noise": 10.0, "wait_for": 3}]


def test_exposed_communication_asks_for_longer_intervals(ask, table):
    times = table(noisy([1.0] * 8, rounds=128, jitter=0.1))
    _, made, _ = ask("local-steps", "--times", times, "--comm", 0.5)
    assert 8 <= made["plan"]["interval_steps"] <= 32
    assert made["current"]["step_s"] == pytest.approx(1 + 0.1 * 1.42 + 0.5, rel=0.02)
    assert made["lower_bound"] <= made["proposed"]["step_s"] < 1.2
    assert "outer optimizer" in made["plan"]["risk"]
    _, made, _ = ask("local-steps", "--times", times, "--comm", 0.5, "--most", 4)
    assert made["plan"]["interval_steps"] == 4


def test_nothing_exposed_keeps_every_step(ask, table):
    _, made, told = ask("local-steps", "--times", table(noisy([1.0] * 4, jitter=0.001)))
    assert made["plan"]["interval_steps"] == 1 and made["steps"] == []
    assert "averaging is taken to cost nothing" in told


def test_a_slow_rank_gets_fewer_local_steps():
    made = local_steps.planned(of_times(noisy([1.0, 1.0, 2.0], rounds=64), 1.0), local_steps.Wanted())
    steps = made.plan["together_steps"]
    assert steps[0] == pytest.approx(2 * steps[2], abs=2)
    assert any("unequal local steps" in step for step in made.steps)


@pytest.mark.parametrize("planner", ["batch", "backup-workers", "local-steps"])
def test_every_plan_has_a_page_with_pictures(ask, table, tmp_path, planner):
    page = tmp_path / "plan.html"
    _, made, _ = ask(planner, "--times", table(noisy([0.7, 0.7, 0.7, 1.4])), "--comm", 0.2, "--html", page)
    assert made["verdict"].split(":")[0] in page.read_text()


def test_pictures_hold_what_the_plan_says():
    rounds = of_times(noisy([0.7, 0.7, 0.7, 1.4]), 0.1)
    made = batch.planned(rounds, batch.Wanted(28))
    own, samples, lengths = made.pictures
    assert samples.series["planned"][1] == [8, 8, 8, 4]
    assert max(own.series["planned"][1]) < max(own.series["now"][1])
    assert np.mean(lengths.series["planned"][1]) == pytest.approx(made.proposed["step_s"])
    assert {one.y.split(", ")[-1] for one in made.pictures} == {"s", "samples"}


@pytest.mark.parametrize("seed", range(12))
def test_bounds_hold_for_whatever_was_recorded(seed):
    draw = np.random.default_rng(seed)
    times = draw.lognormal(0, 0.4, (27, 6)) * draw.uniform(0.5, 2.0, 6)
    rounds = of_times(times, float(draw.random()))
    dropped = backup_workers.planned(rounds, backup_workers.Wanted(drop_ratio=0.5, least_gain=0.0))
    assert dropped.lower_bound <= dropped.plan["per_kept_s"][:4].min() * (1 + 1e-12)
    local = local_steps.planned(rounds, local_steps.Wanted(least_gain=0.0))
    assert local.lower_bound <= local.plan["step_by_interval_s"].min() * (1 + 1e-12)
    split = batch.planned(rounds, batch.Wanted(60, least_gain=0.0))
    for made in (dropped, local, split):
        assert made.lower_bound <= made.proposed[made.objective] * (1 + 1e-12)
        assert made.proposed[made.objective] <= made.current[made.objective] * (1 + 1e-12)
        assert made.gap >= -1e-12
