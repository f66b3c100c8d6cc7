"""What holds for any job, fleet and row: `plan checkpoint`, `telemetry-rate` and `power` against oracles."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from skewscope.errors import SkewscopeError
from skewscope.optimize import failures
from skewscope.planners import checkpoint, power, telemetry_rate
from skewscope.planners._power_input import Jobs, Row

SOUND = run_path(str(Path(__file__).with_name("_sound.py")))
sound, UNLIKE = SOUND["sound"], SOUND["UNLIKE"]
some = settings(max_examples=40)


def some_of(*values):
    return st.sampled_from(values)


def log(low, high):
    """Draw numbers of every order of magnitude."""
    return st.floats(math.log(low), math.log(high)).map(math.exp)


def overhead(interval_s, wanted):
    """Return the seconds lost per useful second: a failure in an interval and its save begins it again."""
    mttf, lost = wanted.mttf_s, max(wanted.drain_s - wanted.save_s, 0.0)
    try:
        whole = mttf * math.exp((wanted.restart_s + lost) / mttf) * math.expm1((interval_s + wanted.save_s) / mttf)
    except OverflowError:
        return math.inf
    return whole / interval_s - 1


@st.composite
def jobs(draw):
    """Draw a job that moves on at all: it is seldom interrupted while it saves and starts."""
    mttf_s, save_s = draw(log(10.0, 1e7)), draw(log(1e-3, 1e3))
    assume(save_s < mttf_s)
    ends = sorted((draw(log(0.3, 3.0)), draw(log(0.3, 3.0))))
    seen = failures.Mttf(mttf_s, mttf_s * min(ends[0], 1), mttf_s * max(ends[1], 1), 3)
    drain_s = draw(some_of(0.0, 0.5, 20.0)) * save_s
    step_s = draw(some_of(0.0, 0.1, 7.0))
    return checkpoint.Wanted(save_s, seen, draw(st.floats(0.0, 5.0)) * min(mttf_s, 600), drain_s, step_s,
                             draw(st.none() | log(1.0, 1e8)))  # fmt: skip


ONE_HOUR = failures.Mttf(3600.0, 3600.0, 3600.0, 1)


@some
@given(jobs())
@example(checkpoint.Wanted(30.0, ONE_HOUR, now_s=30 * 86400.0))  # a month between saves: the job never gets there
@example(checkpoint.Wanted(1.0, ONE_HOUR, 0.0, drain_s=200.0, now_s=1.0))  # begun before the last one is safe
@example(checkpoint.Wanted(1e-9, failures.Mttf(1e9, 1e9, 1e9, 1)))  # saves that cost next to nothing
def test_no_interval_loses_less_than_the_chosen_one(wanted):
    too_soon = wanted.now_s is not None and wanted.now_s < wanted.drain_s  # whole steps may be a little longer
    unknown = () if wanted.now_s is None else ("overhead_ratio",)
    made = sound(checkpoint.planned(wanted), worse=too_soon, unknown=unknown)
    chosen_s, lost = made.plan["interval_s"], made.proposed["overhead_ratio"]
    assert lost == pytest.approx(overhead(chosen_s, wanted), rel=1e-6, abs=1e-9)
    assert made.proposed["ettr_ratio"] == pytest.approx(1 / (1 + lost), abs=1e-9)
    every = np.geomspace(chosen_s / 50, chosen_s * 50, 401)
    if wanted.step_s:
        every = np.unique(np.ceil(every / wanted.step_s)) * wanted.step_s
    kept = wanted.now_s is not None and chosen_s == wanted.now_s >= wanted.drain_s
    least = min(overhead(one, wanted) for one in every if one >= wanted.drain_s)
    assert lost <= least / (1 - checkpoint.LEAST_GAIN_RATIO * kept) * (1 + 1e-6) + 1e-12
    assert made.lower_bound <= least * (1 + 1e-6) + 1e-12
    if not kept:
        assert chosen_s >= wanted.drain_s and chosen_s == pytest.approx((made.plan["interval_steps"] or 0)
                                                                         * wanted.step_s or chosen_s)  # fmt: skip
        assert made.plan["interval_low_s"] <= chosen_s * (1 + 1e-9)


@some
@given(jobs(), some_of(2.0**-4, 8.0))
def test_a_job_in_another_unit_of_time_saves_as_often(wanted, scale):
    wanted = checkpoint.Wanted(wanted.save_s, wanted.mttf, wanted.restart_s, wanted.drain_s, wanted.step_s)
    seen = failures.Mttf(wanted.mttf_s * scale, wanted.mttf.low_s * scale, wanted.mttf.high_s * scale, 3)
    other = checkpoint.Wanted(wanted.save_s * scale, seen, wanted.restart_s * scale,
                              wanted.drain_s * scale, wanted.step_s * scale)  # fmt: skip
    one, other = checkpoint.planned(wanted).plan, checkpoint.planned(other).plan
    for name in ("interval_s", "exact_s", "daly_s", "young_s", "interval_low_s", "interval_high_s"):
        assert other[name] == pytest.approx(one[name] * scale)
    assert other["ettr_ratio"] == pytest.approx(one["ettr_ratio"])
    assert one["daly_s"] == pytest.approx(one["exact_s"], rel=0.01) or wanted.save_s > 0.1 * wanted.mttf_s


@given(log(1e-4, 10.0), log(1.0, 1e5))
@settings(max_examples=20)
def test_a_job_that_never_moves_on_is_said_not_to(mttf_s, restart_s):
    wanted = checkpoint.Wanted(1.0, failures.Mttf(mttf_s, mttf_s, mttf_s, 1), restart_s)
    try:
        made = checkpoint.planned(wanted)
    except SkewscopeError as error:
        assert "no interval" in str(error) and (restart_s + 1) / mttf_s > 600
    else:
        sound(made)


def fleet_cost(wanted, every_s):
    late = every_s / 2 + (wanted.looks - 1) * max(every_s, 2 * wanted.memory_s) + wanted.latency_s
    return wanted.faults_per_s * wanted.lost_gpus * late + wanted.price_gpu_s * wanted.nodes / every_s


fleets = st.builds(
    telemetry_rate.Wanted, st.integers(1, 5000), log(1e-9, 1e-2), log(1.0, 1e4), log(1e-6, 1.0), st.integers(1, 12),
    log(0.05, 5000.0), some_of(0.0, 5.0), some_of(0.0, 0.3, 40.0), st.none() | log(0.1, 100.0), some_of(0.0, 1.0),
    st.none() | log(0.5, 1e4),
)  # fmt: skip


@some
@given(fleets)
@example(telemetry_rate.Wanted(1, 1e-7, 1.0, 1.0, 1, 5000.0))  # better, and longer than any that is proposed
def test_no_rate_that_finds_faults_in_time_costs_less(wanted):
    late = wanted.most_delay_s is not None
    made = sound(telemetry_rate.planned(wanted), worse=late)
    then, chosen_s = made.proposed, made.plan["interval_s"]
    assert then["total_gpus"] == pytest.approx(fleet_cost(wanted, chosen_s))
    assert then["late_gpus"] + then["sampling_gpus"] == pytest.approx(then["total_gpus"])
    grid = np.geomspace(telemetry_rate.SHORTEST_S, telemetry_rate.LONGEST_S, 300)
    longest = grid + (wanted.looks - 1) * np.maximum(grid, 2 * wanted.memory_s) + wanted.latency_s
    able = grid[longest <= wanted.most_delay_s] if late else grid
    assert made.feasible or not len(able)
    if made.feasible:
        assert not late or then["longest_delay_s"] <= wanted.most_delay_s * (1 + 1e-9)
        least = min((fleet_cost(wanted, one) for one in able), default=math.inf)
        assert then["total_gpus"] * (1 - telemetry_rate.LEAST_GAIN_RATIO) <= least * (1 + 1e-9)
    assert all(made.lower_bound <= fleet_cost(wanted, one) * (1 + 1e-9) for one in grid)
    assert 0 <= then.get("event_seen_ratio", 0.0) <= 1


@st.composite
def shares(draw):
    """Draw power over time of some rows, [times, rows]: level as inference's, or rising at once as training's."""
    shape = draw(st.integers(2, 24)), draw(st.integers(1, 3))
    least, span = draw(some_of((0.0, 1.1), (0.5, 0.2), (0.3, 0.05), (0.9, 0.15)))
    return least + span * draw(arrays.arrays(float, shape, elements=st.integers(0, 50).map(lambda one: one / 50)))


@some
@given(shares(), st.integers(1, 60), some_of(1.0, 3.0, 40.0), st.randoms(use_true_random=False))
def test_as_many_servers_as_the_budget_bears_and_a_lock_in_time(share, servers, latency_s, draw):
    names = tuple(f"row {one}" for one in range(share.shape[1]))
    wanted = power.Wanted(servers, latency_s)
    if not share.any():
        with pytest.raises(SkewscopeError, match="above 0"):
            power.planned(Row(share, names, 1.0), wanted)
        return
    made = sound(power.planned(Row(share, names, 1.0), wanted), worse=True)
    extra = made.plan["extra_servers"]
    assert made.proposed["servers"] == servers + extra and made.current["servers"] == servers
    full = np.quantile(share, 0.999, axis=0).max()
    grown = share * (servers + extra) / servers
    rises = [grown[b] - grown[a] for a in range(len(grown)) for b in range(a + 1, len(grown)) if b - a <= latency_s]
    assert made.plan["largest_rise_ratio"] == pytest.approx(max(0.0, np.max(rises)))
    assert made.plan["t2_ratio"] == pytest.approx(max(0.0, 1 - made.plan["largest_rise_ratio"]))
    assert made.plan["t1_ratio"] == pytest.approx(max(0.0, 1 - made.plan["largest_rise_ratio"] - 0.09))
    assert min(value for name, value in made.plan.items() if name.endswith("_ratio")) >= 0
    assert any("lock" in step for step in made.steps) != ("faster than a lock acts" in made.verdict)
    assert not extra or full * (servers + extra) / servers <= 1 + 1e-9
    if "faster than a lock acts" not in made.verdict:
        assert full * (servers + extra + 1) / servers > 1 - 1e-6
    low, every = made.proposed["low_capped_time_ratio"], made.proposed["all_capped_time_ratio"]
    assert made.proposed["brake_samples"] / share.size <= every <= low <= 1
    order = draw.sample(range(share.shape[1]), share.shape[1])
    assert power.planned(Row(share[:, order], names, 1.0), wanted).plan == made.plan


@some
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9), st.integers(0, 10), st.booleans()), min_size=1,
                max_size=6), st.integers(0, 12), some_of(0.5, 0.9, 1.0))  # fmt: skip
def test_no_other_jobs_lose_less_to_save_as_much(drawn, shave, clock):
    watts, gpus, compute, low = (np.array(one) for one in zip(*drawn, strict=True))
    told = Jobs(tuple(f"job {at}" for at in range(len(drawn))), watts * 1.0, gpus * UNLIKE[: len(drawn)],
                compute / 10, low)  # fmt: skip
    row = Row(np.full((4, 1), 0.7), ("row",), 1.0)
    made = sound(power.planned(row, power.Wanted(jobs=told, shave_watts=float(shave), clock_ratio=clock)), worse=True)
    plan = made.plan["jobs"]
    capped = np.array([one["cap"] for one in plan["jobs"]])
    saves, lost = 0.2 * watts, told.gpus * (1 - 1 / (1 - told.compute_ratio + told.compute_ratio / clock))
    assert plan["saved_watts"] == pytest.approx(saves[capped].sum())
    assert plan["lost_gpus"] == pytest.approx(lost[capped].sum())
    assert plan["lost_gpus_bound"] <= lost[capped].sum() + 1e-9
    assert plan["enough"] == (saves.sum() >= shave - 1e-9) == (saves[capped].sum() >= shave - 1e-9)
    of_high = capped & ~low
    if not plan["enough"]:
        assert capped.all()
    elif not of_high.any():  # the cheapest of the low ones, everything tried
        every = np.array([one for one in product((False, True), repeat=len(drawn)) if not (one & ~low).any()])
        able = every[every @ saves >= shave - 1e-9]
        assert lost[capped].sum() == pytest.approx((able @ lost).min(), abs=1e-9)
    else:  # high priority only where low is not enough
        assert saves[low].sum() < shave and capped[low].all()


@pytest.mark.parametrize("clock", [-1.0, 0.0, 1.5, math.nan, math.inf])
def test_a_locked_clock_is_no_faster(clock):
    with pytest.raises(SkewscopeError, match="--clock"):
        power.planned(Row(np.full((4, 1), 0.7), ("row",), 1.0), power.Wanted(clock_ratio=clock))
