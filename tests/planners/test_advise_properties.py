"""What holds of the ranking of remedies for any rounds: against the rounds, and under other names and units."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skewscope.errors import UsageError
from skewscope.optimize.speeds import of_times
from skewscope.planners import _advise_options, _advise_other, _advise_pipeline, advise
from skewscope.planners._advise_options import Allowed
from skewscope.planners._advise_ranking import LEAST_GAIN_RATIO, Option, ranked

SOUND = run_path(str(Path(__file__).with_name("_sound.py")))
sound, times, numbers = SOUND["sound"], SOUND["times"], SOUND["numbers"]
allowed = st.builds(Allowed, st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.sampled_from([None, 1, 3]))
wanted = st.builds(advise.Wanted, allowed, st.sampled_from([None, 0.0, 0.1]), st.none())
communication = st.sampled_from([0.0, 0.25])
QUICK = advise.Wanted(Allowed(0.25, 1))  # no jobs in flight: delayed schemes take most of the time


def rows_of(made):
    return {row["remedy"]: row for row in made.plan["ranking"]}


@settings(max_examples=20)
@given(times(rounds=(1, 12)), communication, wanted)
@example(np.zeros((10, 3)), 2.0, advise.Wanted())  # a recording of communication only
@example(np.array([[0.0, 0.0, 1.0]] * 10), 0.0, advise.Wanted())  # one rank only has own work
@example(np.array([[1.0, 3.0]] * 4), 0.0, advise.Wanted(Allowed(1.0)))
def test_a_remedy_saves_no_more_than_the_step_and_the_best_is_taken(own, comm_s, asked):
    made = sound(advise.planned(of_times(own, comm_s), asked))
    today, rows = made.current["step_s"], rows_of(made)
    assert today == pytest.approx((own.max(axis=1) + comm_s).mean())
    assert rows["do nothing"]["saved_s"] == 0 and len(rows) == len(made.plan["ranking"])
    for row in rows.values():
        assert row["saved_low_s"] <= row["saved_s"] <= row["saved_high_s"]
        assert row["saved_s"] <= today * (1 + 1e-9) and 0 <= row["sure_ratio"] <= 1
        assert row["saved_s"] == pytest.approx(row["saved_share"] * today)
        assert all(np.isfinite(one) for _, one in numbers(row))
    paying = [row["saved_s"] for row in rows.values() if row["pays"] and row["saved_s"] > 0]
    best = rows[made.plan["best"]]
    assert made.proposed["step_s"] == pytest.approx(today - best["saved_s"])
    assert not best["refused"] and best["saved_s"] >= max(paying, default=0.0) - LEAST_GAIN_RATIO * today
    assert best["saved_s"] == 0 or best["saved_s"] >= LEAST_GAIN_RATIO * today * (1 - 1e-9)
    assert (made.plan["best"] == "do nothing") == (not paying)
    dropped = rows.get("backup worker")
    if dropped and not dropped["refused"]:
        count = dropped["params"]["drop_per_step"]
        close = (np.sort(own, axis=1)[:, own.shape[1] - 1 - count] + comm_s) * own.shape[1] / (own.shape[1] - count)
        assert dropped["saved_s"] == pytest.approx(today - close.mean())
        assert count <= asked.allowed.drop_ratio * own.shape[1] + 1e-9


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(-9, 70).map(lambda one: 1.3 * one), st.booleans()), max_size=5))
@example([(50.7, False), (53.3, False), (91.0, True)])
@example([(52.0, False), (53.3, False)])
def test_the_first_of_the_nearly_best_is_taken_and_the_others_follow(drawn):
    options = [Option(str(at), "none", "", np.full(8, 1 - saved / 100), "", "", "", refused="no" * refused)
               for at, (saved, refused) in enumerate(drawn)]  # fmt: skip
    made = ranked(options, np.ones(8), 1.0)
    pays = [at for at, (saved, refused) in enumerate(drawn) if saved >= 2 and not refused]
    most = max((drawn[at][0] for at in pays), default=0)
    near = [at for at in pays if drawn[at][0] > most - 2]
    named = [int(row.option.remedy) for row in made.rows]
    assert sorted(named) == list(range(len(drawn)))
    assert (made.best is None) == (not pays) and (not pays or int(made.best.option.remedy) in near[:1])
    rest = [at for at in named if not pays or at != near[0]]
    keys = [(drawn[at][1], -drawn[at][0]) for at in rest]
    assert named[: len(named) - len(rest)] == near[:1] and keys == sorted(keys)


@settings(max_examples=12)
@given(times(rounds=(8, 12)), st.sampled_from([2.0**-6, 8.0]), communication)
def test_another_unit_of_time_changes_no_advice(own, scale, comm_s):
    one, other = (advise.planned(of_times(own * by, comm_s * by), QUICK) for by in (1.0, scale))
    assert [row["remedy"] for row in one.plan["ranking"]] == [row["remedy"] for row in other.plan["ranking"]]
    for here, there in zip(one.plan["ranking"], other.plan["ranking"], strict=True):
        assert there["saved_s"] == pytest.approx(here["saved_s"] * scale, abs=1e-6 * scale)
        assert there["pays"] == here["pays"] and there["sure_ratio"] == here["sure_ratio"]


@settings(max_examples=12)
@given(times(rounds=(8, 12)), st.randoms(use_true_random=False))
def test_other_names_of_ranks_change_no_advice(own, draw):
    order = np.array(draw.sample(range(own.shape[1]), own.shape[1]))
    one, other = (rows_of(advise.planned(of_times(times_), QUICK)) for times_ in (own, own[:, order]))
    for name in ("re-split", "backup worker", "drain"):
        assert (name in one) == (name in other)
        if name in one:
            assert other[name]["saved_s"] == pytest.approx(one[name]["saved_s"])
            assert other[name]["refused"] == one[name]["refused"]
    if "drain" in one:
        assert sorted(order[other["drain"]["params"]["ranks"]]) == one["drain"]["params"]["ranks"]


@settings(max_examples=12)
@given(times(workers=(1, 1)), st.integers(1, 6), communication)
def test_equal_workers_are_told_to_do_nothing(own, workers, comm_s):
    made = sound(advise.planned(of_times(np.repeat(own, workers, axis=1), comm_s), QUICK))
    assert made.plan["best"] == "do nothing" and made.verdict.startswith("Do nothing")
    assert made.proposed == made.current


@settings(max_examples=15)
@given(times(), st.sampled_from([0.9, 1.0, 1.5, 10.0]))
@example(np.array([[0.0, 1.0, 1.0]] * 10), 0.1)
def test_what_does_not_grow_is_less_than_the_shortest_time(own, ratio):
    asked = advise.Wanted(QUICK.allowed, fixed_s=max(float(own.min()), 0.1) * ratio)
    if ratio < 1 and own.all():
        sound(advise.planned(of_times(own), asked))
    else:
        with pytest.raises(UsageError, match="--fixed"):
            advise.planned(of_times(own), asked)


@settings(max_examples=25)
@given(times(workers=(2, 4)), st.sampled_from([0.0, 0.5]))
def test_layers_moved_between_stages_leave_what_surrounds_them(own, around_s):
    step = own.max(axis=1) + around_s
    made = _advise_pipeline.partition_option(own, step)
    usual = np.median(own, axis=0)
    assert sum(made.params["parts_by_stage"]) == 20 * own.shape[1]
    ends = np.concatenate([[0], np.cumsum(made.params["parts_by_stage"])])
    slowest = np.diff(np.concatenate([[0.0], np.cumsum(np.repeat(usual / 20, 20))])[ends]).max()
    assert made.step_s == pytest.approx(step - np.maximum(own.max(axis=1) * (1 - slowest / usual.max()), 0.0))
    assert (made.step_s >= around_s - 1e-9).all() and (made.step_s <= step + 1e-9).all()
    assert slowest >= usual.mean() * (1 - 1e-9)


@settings(max_examples=25)
@given(times(workers=(3, 6), rounds=(1, 30)), communication)
def test_who_is_drained_is_slow_for_good_and_the_others_do_its_work(own, comm_s):
    made = _advise_options.drain_option(of_times(own, comm_s))
    slow = own > _advise_options.SLOW_RATIO * np.median(own, axis=1, keepdims=True)
    for_good = slow.mean(axis=0) > 0.5
    if len(own) >= 10:
        for_good |= slow[-10:].all(axis=0)
    assert (made is not None) == for_good.any()
    if made is not None:
        assert made.params["ranks"] == np.flatnonzero(for_good).tolist()
        kept = own[:, ~for_good]
        assert made.step_s == pytest.approx(kept.max(axis=1) * own.shape[1] / kept.shape[1] + comm_s)
        assert made.params["step_with_spare_s"] <= made.step_s.mean() * (1 + 1e-9)


@settings(max_examples=40)
@given(st.floats(0.1, 600.0), st.floats(1.0, 1e6), st.integers(1, 100_000), st.floats(0.1, 60.0))
@example(30.0, 6 * 3600.0, 16384, 1.0)  # two failures between two saves: more is lost than a step lasts
def test_saves_at_other_times_save_no_more_than_the_step(save_s, every_s, ranks, step_s):
    begin = np.arange(3) * int((save_s + every_s) * 1e9)
    steps = pd.DataFrame(
        {"phase": "checkpoint", "step": range(3), "start_ns": begin, "end_ns": begin + int(save_s * 1e9)}
    )
    made = _advise_other.checkpoint_option({"steps": steps}, np.full(4, step_s), ranks)
    assert made.params["interval_now_s"] == pytest.approx(every_s) and made.params["save_s"] == pytest.approx(save_s)
    assert (made.step_s >= 0).all() and (made.step_s <= step_s * (1 + 1e-9)).all()
    assert -1e-9 * step_s <= made.range_s[0] <= made.range_s[1] <= step_s
