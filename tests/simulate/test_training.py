import numpy as np
import pytest

from skewscope.simulate import simulate
from skewscope.simulate.meetings import Layout, meet
from skewscope.simulate.scenario import JobPlan, parse

CLOSE = 1e-9


def made(fault=None, seed=3, noise=True, **job):
    content = {"jobs": [{"ranks": 32, "steps": 120, **job}], "noise": {"confounders": noise}}
    if fault:
        content["faults"] = [fault]
    return simulate(parse(content, "test"), seed)


def detail(run, kind):
    return sum(run.detail[f"{kind}_{group}"] for group in run.layout.groups)


def own(run):
    names = ("compute", "host", "input", "h2d", "d2h", "gc")
    return sum(run.detail[name] for name in names)


def test_the_last_rank_waits_for_nobody_and_the_others_for_its_excess():
    plan = JobPlan(ranks=8, tp=1)
    work = np.array([[1.0] * 8, [1.0] * 8])
    work[1, 5] = 1.4
    met = meet(work, {"dp": np.full((2, 8), 0.1)}, Layout(plan, 8))
    assert met.seconds.tolist() == pytest.approx([1.1, 1.5])
    assert met.wait["dp"][0].max() == 0.0
    assert met.wait["dp"][1].tolist() == pytest.approx([0.4] * 5 + [0.0] + [0.4] * 2)


def test_a_tensor_group_meets_before_the_replicas_do():
    plan = JobPlan(ranks=8, tp=4)
    work = np.ones((1, 8))
    work[0, 1] = 1.5
    layout = Layout(plan, 8)
    met = meet(work, {group: np.zeros((1, 8)) for group in layout.groups}, layout)
    assert met.wait["tp"][0].tolist() == pytest.approx([0.5, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0])
    assert met.wait["dp"][0].tolist() == pytest.approx([0.0] * 4 + [0.5] * 4)


def test_a_slow_stage_lengthens_the_pipeline_by_its_share():
    plan = JobPlan(ranks=4, tp=1, pp=4, microbatches=8)
    work = np.full((1, 4), 0.8)
    usual = meet(work, {"pp": np.zeros((1, 4))}, Layout(plan, 8)).seconds[0]
    work[0, 2] = 1.6
    slow = meet(work, {"pp": np.zeros((1, 4))}, Layout(plan, 8)).seconds[0]
    assert usual == pytest.approx(0.1 * 4 + 7 * 0.1)
    assert slow - usual == pytest.approx(8 * 0.1)


@pytest.mark.parametrize("job", [{"tp": 1}, {"tp": 4}, {"tp": 2, "pp": 2}, {"tp": 2, "ep": 4}])
def test_every_second_of_a_step_is_own_work_transfer_or_waiting(job):
    run = made(**job).runs[0]
    planned = run.detail["checkpoint"] + run.detail["eval"]
    total = own(run) + detail(run, "wait") + detail(run, "transfer") + planned
    groups = set(run.layout.groups)
    if "world" in groups or len(groups) == 1:
        assert np.abs(total - run.seconds[:, None]).max() < CLOSE
    assert (total <= run.seconds[:, None] + CLOSE).all()


def test_waiting_of_the_peers_equals_the_excess_of_the_culprit():
    slow = made({"condition": "gpu-slow-silent", "target": "job/rank5", "severity": 0.3, "shape": "steady"}, tp=1)
    usual = made(tp=1)
    run, other = slow.runs[0], usual.runs[0]
    after = slice(60, 120)
    excess = own(run)[after, 5] - own(other)[after, 5]
    longer = run.seconds[after] - other.seconds[after]
    waits = detail(run, "wait")[after] - detail(other, "wait")[after]
    peers = [rank for rank in range(32) if rank != 5]
    assert np.abs(np.delete(own(run) - own(other), 5, axis=1)).max() < CLOSE
    assert waits[:, peers].mean() == pytest.approx(longer.mean(), rel=0.01)
    assert longer.mean() <= excess.mean() + CLOSE
    assert detail(run, "wait")[after, 5].mean() < 0.02 * waits[:, peers].mean()
    fault = slow.truth["faults"][0]
    assert fault["lost_s_per_step"] == pytest.approx(longer[-40:].mean(), rel=0.1)
    assert fault["ranks"] == [5] and fault["victims"] == peers


def test_a_slow_link_lengthens_the_transfers_of_its_groups_only():
    run = made({"condition": "rdma-retransmit", "target": "n001/mlx5_2", "severity": 0.5, "shape": "steady"}).runs[0]
    other = made().runs[0]
    last = slice(80, 120)
    more = run.detail["transfer_dp"][last] / other.detail["transfer_dp"][last]
    struck = set(run.layout.members("dp", 10))
    assert {rank for rank in range(32) if more[:, rank].mean() > 1.5} == struck
    assert np.allclose(more[:, [rank for rank in range(32) if rank not in struck]], 1.0)
    assert np.allclose(run.detail["transfer_tp"], other.detail["transfer_tp"])
    assert np.allclose(own(run), own(other))


def test_a_lost_gpu_stops_the_job_and_the_others_wait():
    made_one = made({"condition": "gpu-off-bus", "target": "n001/gpu3", "onset": 0.5})
    run = made_one.runs[0]
    assert run.stop is not None and run.stop.absent == (11,) and run.steps < 120
    shown = made_one.tables["windows"]
    age = shown[(shown["metric"] == "skewscope_collective_in_flight_age_seconds").to_numpy()]
    last = age[(age["t_ns"] == age["t_ns"].max()).to_numpy()]
    oldest = last.groupby("rank")["last_value"].max()
    assert oldest[11] == 0.0 and (oldest.drop(11) > 500).all()


def test_a_healthy_run_has_no_excess_like_a_faults():
    run = made(seed=11, tp=1).runs[0]
    usual = own(run)[20:]
    ratio = np.median(usual, axis=0) / np.median(usual)
    assert ratio.max() < 1.04 and ratio.min() > 0.96
    last = (usual.argmax(axis=1)[:, None] == np.arange(32)).mean(axis=0)
    assert last.max() < 0.5
    assert np.median(run.seconds[20:]) == pytest.approx(2.0, rel=0.05)


def test_generation_with_a_tail_makes_replicas_wait():
    run = made(kind="rl", step_s=4.0, steps=60).runs[0]
    times = run.detail["rollout"]
    assert np.allclose(times[:, 0], times[:, 3], rtol=0.04)  # but for the GPUs' own differences
    assert (times.max(axis=1) / np.median(times, axis=1)).mean() > 1.2


def test_planned_steps_are_marked_and_longer():
    run = made(checkpoint_steps=50, checkpoint_s=9.0).runs[0]
    assert np.flatnonzero(run.planned).tolist() == [49, 99]
    assert run.seconds[49] > np.median(run.seconds) + 8.0
