"""What holds for any rounds: `plan batch`, `backup-workers` and `local-steps` against oracles counted anew."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skewscope.errors import SkewscopeError
from skewscope.optimize.speeds import of_times
from skewscope.planners import backup_workers, batch, local_steps

SOUND = run_path(str(Path(__file__).with_name("_sound.py")))
sound, times = SOUND["sound"], SOUND["times"]
some = settings(max_examples=20)
communication = st.sampled_from([0.0, 0.25, 2.0])
scales = st.sampled_from([2.0**-6, 0.25, 8.0, 2.0**10])  # powers of two scale floating point numbers exactly
WAITING = np.zeros((10, 3))  # a recording of communication only: nobody has own work


def split(own, wanted=None, comm_s=0.0):
    return batch.planned(of_times(own, comm_s), wanted or batch.Wanted(100 * own.shape[1]))


def closed(own, comm_s=0.0, **wanted):
    return backup_workers.planned(of_times(own, comm_s), backup_workers.Wanted(**wanted))


def local(own, comm_s=0.0, **wanted):
    return local_steps.planned(of_times(own, comm_s), local_steps.Wanted(**wanted))


PLANS = {"batch": split, "backup-workers": closed, "local-steps": local}


@some
@given(times(), communication, st.integers(1, 3), st.integers(0, 40))
@example(WAITING, 2.0, 1, 0)
def test_a_split_hands_out_the_batch_and_is_replayed_round_by_round(own, comm_s, multiple, more):
    workers = own.shape[1]
    units = workers * 4 + more
    made = sound(split(own, batch.Wanted(units * multiple, multiple), comm_s))
    samples, now = (np.array(made.plan[name]) for name in ("samples", "samples_now"))
    assert samples.sum() == now.sum() == units * multiple and np.isclose(np.sum(made.plan["weights"]), 1)
    assert (samples >= multiple).all() and not (samples % multiple).any() and np.ptp(now) <= multiple
    for side, held in (("current", now), ("proposed", samples)):
        replayed = (own * held * workers / (units * multiple)).max(axis=1) + comm_s
        assert getattr(made, side)["step_s"] == pytest.approx(replayed.mean())
        assert made.lower_bound <= replayed.mean() * (1 + 1e-9)
    assert bool(made.steps) == bool((samples != now).any())
    if made.steps:
        assert made.proposed["step_s"] < (1 - batch.LEAST_GAIN_RATIO) * made.current["step_s"]


@some
@given(times(), st.data())
def test_a_split_keeps_to_what_every_rank_must_and_can_hold(own, data):
    workers = own.shape[1]
    each = st.lists(st.integers(0, 12), min_size=workers, max_size=workers)
    least, most = np.array(data.draw(each)), np.array(data.draw(each)) + 8
    wanted = batch.Wanted(8 * workers, least=least, most=most)
    try:
        made = sound(batch.planned(of_times(own, 0.0), wanted), worse=True)
    except SkewscopeError as error:
        assert (least > most).any() or least.sum() > 8 * workers, error
        return
    samples, now = (np.array(made.plan[name]) for name in ("samples", "samples_now"))
    assert samples.sum() == 8 * workers
    assert ((samples >= least) & (samples <= most)).all()
    broken = bool(((now < least) | (now > most)).any())
    assert any("not allowed" in text for text in made.warnings) == broken
    assert broken or made.proposed["step_s"] <= made.current["step_s"]


@some
@given(times(), communication, st.sampled_from([0.0, 0.1, 0.5, 1.0]))
@example(np.array([[1.0, 3.0]] * 4), 0.0, 1.0)  # all data may be lost: somebody is waited for all the same
@example(np.array([[0.0, 1.0, 1.0]] * 10), 0.0, 0.1)  # a rank without own work, as a recording may show one
@example(WAITING, 2.0, 0.1)
def test_a_closed_round_is_counted_anew(own, comm_s, drop_ratio):
    workers = own.shape[1]
    made = sound(closed(own, comm_s, drop_ratio=drop_ratio))
    chosen = made.plan["backups"]
    allowed = min(int(drop_ratio * workers + 1e-9), workers - 1)
    assert 0 <= chosen <= allowed and made.plan["wait_for"] + chosen == workers
    close = np.sort(own, axis=1)[:, ::-1].mean(axis=0) + comm_s  # b dropped: the round ends with the b-th last
    per_kept = close * workers / (workers - np.arange(workers))
    assert made.proposed["step_per_kept_s"] == pytest.approx(per_kept[chosen])
    assert made.proposed["step_per_kept_s"] * (1 - backup_workers.LEAST_GAIN_RATIO) <= per_kept[: allowed + 1].min()
    assert np.sum(made.plan["dropped_share"]) == pytest.approx(chosen)
    waits = [one["wait_for"] for one in made.plan["dynamic"]]
    assert waits == sorted(waits) and 1 <= waits[0] <= waits[-1] <= workers


@some
@given(times(), communication, st.integers(1, 9))
@example(np.array([[0.0, 1.0, 1.0]] * 10), 2.0, 4)
@example(WAITING, 2.0, 4)
def test_local_steps_are_replayed_in_whole_blocks(own, comm_s, most):
    made = sound(local(own, comm_s, most=most))
    steps = made.plan["interval_steps"]
    for every, step_s in zip(made.plan["intervals"], made.plan["step_by_interval_s"], strict=True):
        whole = own[: len(own) // every * every].reshape(-1, every, own.shape[1]).sum(axis=1)
        assert step_s == pytest.approx((whole.max(axis=1).mean() + comm_s) / every)
        assert every != steps or made.proposed["step_s"] == step_s
    assert 1 <= steps <= most and steps <= max(1, len(own) // 2)
    assert bool(made.steps) == (steps > 1)
    longest = np.max(made.current["step_s"] - np.array(made.plan["step_by_interval_s"]))
    if made.steps:  # nine tenths of what there is to save, and no interval for nothing
        assert made.current["step_s"] - made.proposed["step_s"] >= 0.9 * longest * (1 - 1e-6)
    together = np.array(made.plan["together_steps"])
    assert together.min() >= 1 and together.max() == steps and together[own.mean(axis=0).argmin()] == steps


@pytest.mark.parametrize("name", PLANS)
@some
@given(times(), communication, scales)
def test_another_unit_of_time_changes_no_decision(name, own, comm_s, scale):
    one, other = PLANS[name](own, comm_s=comm_s), PLANS[name](own * scale, comm_s=comm_s * scale)
    assert [one.verdict.split(":")[0], len(one.steps)] == [other.verdict.split(":")[0], len(other.steps)]
    for key in ("samples", "backups", "interval_steps", "together_steps", "dropped_share"):
        assert np.array_equal(one.plan.get(key, ()), other.plan.get(key, ()))
    for side in ("current", "proposed"):
        for key, value in getattr(one, side).items():
            expected = value * scale if key.endswith("_s") else value
            assert getattr(other, side)[key] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "by_rank"),
    [
        ("batch", ["samples", "per_sample_s"]),
        ("backup-workers", ["dropped_share"]),
        ("local-steps", ["together_steps"]),
    ],
)
@some
@given(times(), communication, st.randoms(use_true_random=False))
def test_other_names_of_ranks_give_the_same_plan(name, by_rank, own, comm_s, draw):
    order = np.array(draw.sample(range(own.shape[1]), own.shape[1]))
    one, other = PLANS[name](own, comm_s=comm_s), PLANS[name](own[:, order], comm_s=comm_s)
    for key in by_rank:
        assert np.allclose(np.array(one.plan[key])[order], other.plan[key])
    for side in ("current", "proposed"):
        assert getattr(other, side) == pytest.approx(getattr(one, side))
    assert other.lower_bound == pytest.approx(one.lower_bound)


@pytest.mark.parametrize("name", ["batch", "backup-workers"])
@some
@given(times(workers=(1, 1)), st.integers(1, 6), communication)
def test_equal_workers_are_left_alone(name, own, workers, comm_s):
    made = sound(PLANS[name](np.repeat(own, workers, axis=1), comm_s=comm_s))
    assert made.proposed["step_s"] == made.current["step_s"] and made.steps in ((), [])


@pytest.mark.parametrize("planner", [batch.Batch(), backup_workers.BackupWorkers(), local_steps.LocalSteps()])
@settings(max_examples=12)
@given(times(workers=(2, 3), rounds=(1, 3)), st.sampled_from(["nan", "inf", "0", "-1", "", "x"]), st.data())
def test_no_number_of_a_table_is_taken_for_a_time(planner, tmp_path_factory, own, bad, data):
    file = tmp_path_factory.getbasetemp() / "cell.csv"
    cells = [[str(one) for one in row] for row in own]
    parser = argparse.ArgumentParser()
    planner.arguments(parser)
    for cell, refused in ((None, False), (bad, True)):
        if cell is not None:
            cells[data.draw(st.integers(0, len(cells) - 1))][data.draw(st.integers(0, own.shape[1] - 1))] = cell
        file.write_text("\n".join(",".join(row) for row in cells) + "\n")
        args = parser.parse_args(["--times", str(file)])
        if refused:
            with pytest.raises(SkewscopeError, match="cell.csv"):
                planner.plan(args)
        else:
            sound(planner.plan(args))


def test_nothing_is_divided_by_nobody():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for make in PLANS.values():
            for own, comm_s in ((WAITING, 2.0), (np.ones((1, 1)), 0.0), (np.array([[0.0, 1.0, 1.0]] * 10), 0.0)):
                make(own, comm_s=comm_s)
        closed(np.array([[1.0, 3.0]] * 4), drop_ratio=1.0)
