from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pytest

from skewscope import subjects
from skewscope.precedence import Explained
from skewscope.signals.impact import JobCost, costs
from skewscope.simulate import scenario, simulate
from skewscope.watch.jobs import is_stopped, job_of, jobs_now, seen_of

F = SimpleNamespace(**run_path(str(Path(__file__).with_name("_findings.py"))))


def cost(name: str, *places: tuple[str, int], step_s=(2.0, 2.0)) -> JobCost:
    nodes, ranks = np.array([node for node, _ in places]), np.array([rank for _, rank in places])
    times = np.arange(len(step_s), dtype=np.int64)
    return JobCost(name, times, np.array(step_s), np.zeros((len(step_s), len(places))), ranks, nodes, nodes)


JOBS = {
    "a": cost("a", ("n1", 0), ("n1", 1), ("n2", 2), ("n2", 3)),
    "b": cost("b", ("n3", 0), ("n3", 1), ("n2", 4)),
}


@pytest.mark.parametrize(
    ("subject", "job"),
    [
        (subjects.rank("b", 1), "b"), (subjects.job("a"), "a"), (subjects.group("b", "x"), "b"),
        (subjects.link("a", 0, 1), "a"), (subjects.node("n1"), "a"), (subjects.node("n3"), "b"),
        (subjects.node("n2"), ""), (subjects.gpu("n2", 0, rank=3), "a"), (subjects.gpu("n2", 4, rank=4), "b"),
        (subjects.gpu("n1", 5, rank=7), ""), (subjects.nic("n3", "mlx5_0"), "b"), (subjects.node("n9"), ""),
        (subjects.rack("r1"), ""), (subjects.rank("gone", 1), ""),
    ],
)  # fmt: skip
def test_whose_job_a_place_is(subject, job):
    assert job_of(F.finding(subject=subject), JOBS) == job


def test_what_concerns_all_concerns_the_only_job():
    assert job_of(F.finding(subject=subjects.rack("r1")), {"a": JOBS["a"]}) == "a"
    assert job_of(F.finding(subject=subjects.node("n9")), {"a": JOBS["a"]}) == ""
    assert job_of(F.finding(), {}) == ""


@pytest.fixture(scope="module")
def tables():
    made = simulate(scenario("gpu-hw-slowdown").sized(16, 0), 5)
    end_ns = made.world.scenario.start_ns + 14 * F.WINDOW_NS
    windows = made.tables["windows"]
    return {"windows": windows[windows["t_ns"] <= end_ns].reset_index(drop=True)}


def test_culprits_come_with_what_they_explain_and_their_job(tables):
    cause, effect = F.finding(subject=subjects.gpu("n001", 5)), F.finding(F.LATE, role="victim")
    found = seen_of(Explained((cause, effect), {0: (1,)}), tables)
    assert [(one.finding, one.others, one.job, one.ranks, one.stopped) for one in found] == [
        (cause, (effect,), "job", 16, False)
    ]


def test_jobs_tell_their_step_and_what_they_lose(tables):
    found = [F.seen(share=0.25, job="job"), F.seen(share=0.5, job="job"), F.seen(share=0.9, job="other")]
    (job,) = jobs_now(found, tables)
    assert (job.name, job.ranks, job.lost_share, job.stopped) == ("job", 16, 0.75, False)
    assert job.step_s == pytest.approx(2.0, rel=0.1)
    assert job.lost_gpus == 12.0
    (job,) = jobs_now([*found, F.seen(share=0.5, job="job")], tables)
    assert job.lost_gpus == 16.0
    (job,) = jobs_now([F.seen(share=float("nan"), job="job")], tables)
    assert job.lost_gpus == 0.0


def test_only_what_broke_costs_a_standing_job_everything(tables):
    (job,) = jobs_now([F.seen(share=0.1, job="job", stopped=True)], tables)
    assert job.lost_gpus == pytest.approx(1.6)
    (job,) = jobs_now([F.seen(F.LOST, share=0.0, job="job", stopped=True)], tables)
    assert (job.stopped, job.lost_gpus) == (True, 16.0)


def test_a_job_stands_still_that_made_steps_and_is_there(tables):
    known = costs(tables).jobs["job"]
    assert not is_stopped(known, tables)
    still = replace(known, step_s=np.where(np.arange(len(known.step_s)) == len(known.step_s) - 1, np.nan, known.step_s))
    assert is_stopped(still, tables)
    assert not is_stopped(replace(still, job="gone"), tables)
    assert not is_stopped(replace(known, step_s=np.full(len(known.step_s), np.nan)), tables)
    assert not is_stopped(replace(known, step_s=np.zeros(0)), tables)
