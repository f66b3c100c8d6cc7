"""Power thresholds, headroom, and whom to cap, against slow recomputation and every subset."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from skewscope.errors import UsageError
from skewscope.optimize import power
from skewscope.optimize.power import Thresholds

POLCA = Thresholds(0.80, 0.89, 0.118)


@pytest.mark.parametrize("seed", range(10))
def test_the_largest_rise_is_that_of_all_pairs(seed):
    draw = np.random.default_rng(seed)
    share, within = draw.random((40, 2)), int(draw.integers(1, 12))
    pairs = [share[b] - share[a] for a in range(40) for b in range(a + 1, min(a + within, 39) + 1)]
    assert power.largest_rise(share, within) == pytest.approx(np.max(pairs))
    assert power.largest_rise(np.sort(share, axis=0)[::-1], within) == 0.0


def test_the_published_thresholds_come_from_the_published_rise():
    share = np.array([[0.60], [0.61], [0.728]])
    made = power.thresholds(share - share[0, 0] + 0.6, 1)
    assert (made.high, made.low) == (pytest.approx(1 - 0.118), pytest.approx(1 - 0.118 - 0.09))
    assert round(made.high, 2) == 0.88  # the paper rounds up to .89 and .80


def test_a_row_of_inference_bears_a_quarter_more():
    # peak use of inference 79 %, of training 97 % of the provisioned power
    assert power.extra_servers(np.full((1000, 1), 0.79), 40) == 10
    assert power.extra_servers(np.full((1000, 1), 0.97), 40) == 1
    assert power.extra_servers(np.full((1000, 1), 1.2), 40) == 0
    rows = np.stack([np.full(100, 0.5), np.full(100, 0.8)], axis=1)
    assert power.extra_servers(rows, 40) == 10
    with pytest.raises(UsageError, match="above 0"):
        power.extra_servers(np.zeros((4, 1)), 40)


def test_caps_are_released_below_84_and_75_percent():
    share = np.array([0.79, 0.81, 0.76, 0.7501, 0.7499, 0.90, 0.85, 0.839, 0.70, 1.01, 0.96, 0.94])
    assert power.states(share, POLCA).tolist() == [0, 1, 1, 1, 0, 2, 2, 1, 0, 3, 3, 2]


def test_one_capped_gpu_slows_the_whole_job():
    assert float(power.slowed_ratio(1.0, 0.5)) == 2.0
    assert float(power.slowed_ratio(0.0, 0.5)) == 1.0
    assert float(power.lost_gpus(64, 1.0, 0.5)) == 32.0


@pytest.mark.parametrize("seed", range(20))
def test_the_choice_is_the_best_of_every_subset_and_the_bound_is_none_above(seed):
    draw = np.random.default_rng(seed)
    jobs = int(draw.integers(1, 10))
    saves, cost = draw.integers(1, 30, jobs).astype(float), draw.random(jobs)
    wanted = float(draw.uniform(0, saves.sum()))
    subsets = (list(some) for count in range(jobs + 1) for some in itertools.combinations(range(jobs), count))
    best = min(cost[some].sum() for some in subsets if saves[some].sum() >= wanted)
    made = power.choose(saves, cost, wanted)
    assert made.cost == pytest.approx(best) and made.saved_watts >= wanted
    assert power._fractional(saves, cost, wanted) <= best + 1e-9
    greedy = power._greedy(saves, cost, wanted)
    assert saves[greedy].sum() >= wanted and cost[greedy].sum() >= best - 1e-9
    assert all(saves[greedy].sum() - saves[one] < wanted for one in np.flatnonzero(greedy))


def test_many_jobs_come_near_the_bound():
    draw = np.random.default_rng(5)
    saves, cost = draw.uniform(1, 3, 200), draw.random(200)
    made = power.choose(saves, cost, 100.0)
    assert made.enough and made.saved_watts >= 100 and made.bound <= made.cost <= 1.1 * made.bound


def test_where_all_is_too_little_that_is_said():
    made = power.choose(np.array([1.0, 2.0]), np.array([1.0, 1.0]), 4.0)
    assert not made.enough and made.chosen.all()
    assert not power.choose(np.array([1.0]), np.array([1.0]), 0.0).chosen.any()


def test_held_back_gpus_stand_below_their_row():
    clock = np.full((5, 8), 1400.0)
    clock[:, 2], clock[:, 3] = 1331.0, 1329.0  # 5 % below is 1330
    assert np.flatnonzero(power.held_back(clock)).tolist() == [3]
