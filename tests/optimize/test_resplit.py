from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from skewscope.errors import UsageError
from skewscope.optimize import resplit, semi_dynamic


def every_split(batch, least, most):
    for parts in product(*(range(low, high + 1) for low, high in zip(least, most, strict=True))):
        if sum(parts) == batch:
            yield np.array(parts)


@pytest.mark.parametrize("seed", range(150))
def test_no_split_is_better_and_the_bound_holds(seed):
    draw = np.random.default_rng(seed)
    workers, batch = int(draw.integers(2, 5)), int(draw.integers(4, 13))
    fixed, per = draw.random(workers) * draw.choice([0.0, 1.0, 10.0]), draw.random(workers) + 0.05
    least = draw.integers(0, 2, workers)
    most = np.maximum(least + draw.integers(1, 8, workers), 1)
    batch = int(np.clip(batch, max(least.sum(), 1), most.sum()))
    made = resplit.resplit(fixed, per, batch, least, most)
    best = min(resplit.time_s(fixed, per, parts) for parts in every_split(batch, least, most))
    assert made.samples.sum() == batch
    assert (made.samples >= least).all() and (made.samples <= most).all()
    assert made.time_s == pytest.approx(best, rel=1e-12)
    assert made.bound_s <= best * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_the_shortcut_hands_out_as_one_by_one(seed):
    draw = np.random.default_rng(seed)
    fixed, per, batch = draw.random(8), draw.random(8) + 0.1, 500
    samples = np.ones(8, dtype=int)
    for _ in range(batch - 8):
        samples[int(np.argmin(fixed + per * (samples + 1)))] += 1
    assert resplit.resplit(fixed, per, batch).time_s == pytest.approx(resplit.time_s(fixed, per, samples))


def test_a_million_samples_over_many_workers():
    per = np.random.default_rng(0).random(1000) + 0.5
    made = resplit.resplit(np.zeros(1000), per, 1_000_000)
    assert made.samples.sum() == 1_000_000
    assert made.time_s <= made.bound_s + per.max()


def test_weights_are_the_shares():
    made = resplit.resplit(np.zeros(2), np.array([1.0, 3.0]), 8)
    assert made.samples.tolist() == [6, 2]
    assert made.weights.tolist() == [0.75, 0.25]


def test_weighted_averaging_gives_the_gradient_of_the_whole_batch():
    draw = np.random.default_rng(1)
    each = draw.normal(size=(8, 3))  # gradient of every sample
    made = resplit.resplit(np.zeros(2), np.array([1.0, 3.0]), 8)
    means = np.stack([each[:6].mean(axis=0), each[6:].mean(axis=0)])
    assert made.weights @ means == pytest.approx(each.mean(axis=0))
    assert means.mean(axis=0) != pytest.approx(each.mean(axis=0))


@pytest.mark.parametrize(
    ("batch", "least", "most", "said"),
    [(3, 2, 9, "less than the 4"), (20, 1, 9, "more than the 18"), (4, 5, 3, "worker 0"), (4, -1, 3, "worker 0")],
)
def test_limits_that_cannot_hold_the_batch(batch, least, most, said):
    with pytest.raises(UsageError, match=said):
        resplit.resplit(np.zeros(2), np.ones(2), batch, np.full(2, least), np.full(2, most))


def test_following_needs_a_round_to_learn():
    even = np.ones((6, 4))
    even[2:, 0] = 2.0
    made = semi_dynamic.follow(even, weight=1.0)
    assert made.durations_s[2] == 2.0  # the first slow round is paid in full
    assert made.durations_s[3:] == pytest.approx(4 / 3.5)
    assert made.changed_count == 1


def test_a_small_gain_changes_nothing():
    even = np.ones((6, 4))
    even[:, 0] = 1.03
    assert semi_dynamic.follow(even).changed_count == 0
    assert semi_dynamic.follow(even, least_gain=0.01).changed_count == 1


def test_damping_halves_a_blip():
    even = np.ones((5, 2))
    even[1, 0] = 3.0
    wild, damped = semi_dynamic.follow(even, weight=1.0), semi_dynamic.follow(even, weight=0.5)
    assert wild.durations_s[2] == pytest.approx(1.5)  # split 1 : 3 for a worker that is fast again
    assert damped.durations_s[2] == pytest.approx(4 / 3)
