from __future__ import annotations

import numpy as np
import pytest

from skewscope.optimize import local_steps
from skewscope.optimize.local_steps import Intervals, intervals


def test_jitter_averages_out_as_the_formula_says():
    own = np.random.default_rng(0).normal(1.0, 0.1, (2048, 64))
    made = intervals(own, 0.5, 0.5)
    expected = [local_steps.normal_step_s(1.0, 0.1, 64, int(steps), 0.5) for steps in made.steps]
    assert made.steps.tolist() == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert made.step_s == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("ranks", [8, 64, 512])
def test_the_largest_of_normals(ranks):
    largest = np.random.default_rng(1).normal(size=(20_000, ranks)).max(axis=1).mean()
    assert local_steps.largest_of_normals(ranks) == pytest.approx(largest, rel=0.02)
    assert local_steps.largest_of_normals(1) == 0.0


def test_a_rank_that_is_slow_for_good_binds():
    own = np.ones((64, 4))
    own[:, 2] = 2.0
    made = intervals(own, 0.0, 0.0)
    assert made.bound_s == 2.0
    assert made.step_s == pytest.approx([2.0] * 6)
    assert made.enough() == 0


@pytest.mark.parametrize("seed", range(20))
def test_the_bound_holds_where_blocks_are_whole(seed):
    draw = np.random.default_rng(seed)
    made = intervals(draw.random((32, 5)), float(draw.random()), float(draw.random()))
    assert (made.step_s[1:] >= made.bound_s * (1 - 1e-12)).all()
    assert made.step_s[0] >= made.bound_s * (1 - 1e-12)


def test_blocks_by_hand():
    own = np.array([[1.0, 4.0], [2.0, 1.0], [3.0, 1.0], [1.0, 1.0], [9.0, 9.0]])
    assert local_steps.block_s(own, 2).tolist() == [5.0, 4.0]  # 3 against 5, 4 against 2; the last round is left out


def test_the_shortest_interval_that_is_enough():
    made = Intervals(np.array([1, 2, 4, 8]), np.array([2.0, 1.5, 1.1, 1.0]), 0.9)
    assert made.enough() == 2
    assert made.enough(ratio=1.0) == 3
    assert made.enough(most=2) == 1
    assert Intervals(np.array([1, 2]), np.array([1.0, 1.2]), 0.9).enough() == 0


def test_the_risk_is_told_and_grows():
    texts = [local_steps.risk(steps, 8) for steps in (1, 4, 32, 256)]
    assert texts[0].startswith("none")
    assert "small" in texts[1] and "outer optimizer" in texts[2] and "fine-tuning" in texts[3]
