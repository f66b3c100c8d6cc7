from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from skewscope.errors import UsageError
from skewscope.optimize import speeds
from skewscope.optimize.batch_split import Wanted, choose, whole_parts
from skewscope.optimize.speeds import Rounds, of_times, predicted_s


def noisy(means, rounds=60, jitter=0.02, seed=0):
    return np.array(means) * np.random.default_rng(seed).normal(1, jitter, (rounds, len(means)))


def test_a_slow_worker_gets_its_part():
    made = choose(of_times(noisy([0.7, 0.7, 0.7, 1.4]), 0.1), Wanted(28))
    assert made.best.tolist() == [8, 8, 8, 4]
    assert made.before_s.mean() == pytest.approx(1.5, rel=0.01)
    assert made.after_s.mean() == pytest.approx(0.9, rel=0.03)
    assert made.low_s <= made.after_s.mean() <= made.high_s
    assert made.bound_s <= made.after_s.mean()


@pytest.mark.parametrize("means", [[1.0] * 8, [1.0, 1.01, 1.02, 1.0]])
def test_equal_workers_are_left_alone(means):
    made = choose(of_times(noisy(means)), Wanted(16 * len(means)))
    assert not made.changed
    assert made.saved_share == 0.0


def test_a_worker_slow_now_and_then_is_left_alone():
    times = np.where(np.random.default_rng(0).random((400, 16)) < 0.01, 2.0, 1.0)
    assert not choose(of_times(times), Wanted(160)).changed


@pytest.mark.parametrize("seed", range(25))
def test_no_split_beats_the_bound_and_none_is_worse_than_today(seed):
    draw = np.random.default_rng(seed)
    rounds = of_times(draw.lognormal(0, 0.3, (12, 3)) * draw.uniform(0.5, 2, 3), float(draw.random()))
    wanted = Wanted(9, least_gain=0.0)
    made = choose(rounds, wanted)
    every = [predicted_s(rounds, made.speeds, 9, np.array(parts)).mean()
             for parts in product(range(1, 8), repeat=3) if sum(parts) == 9]  # fmt: skip
    assert made.bound_s <= min(every) * (1 + 1e-9)
    assert made.after_s.mean() <= made.before_s.mean()
    assert made.after_s.mean() <= 1.1 * min(every)  # by medians or means, not by trying all over all rounds


def test_limits_and_multiples_are_kept():
    rounds = of_times(noisy([1.0, 1.0, 1.0, 3.0]))
    made = choose(rounds, Wanted(64, multiple=4, most=np.full(4, 20)))
    assert made.best.sum() == 64
    assert (made.best % 4 == 0).all() and made.best.max() <= 20
    for wanted, said in ((Wanted(65, multiple=4), "multiple of 4"), (Wanted(3), "one part for each"),
                         (Wanted(64, most=np.full(4, 10)), "more than the 40")):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            choose(rounds, wanted)


def loaded(load, fixed, per, seed):
    """Return rounds whose workers hold `load` each, and need `fixed` + `per` x load."""
    load = np.broadcast_to(np.array(load, dtype=float), (40, len(per)))
    own = (np.array(fixed) + np.array(per) * load) * np.random.default_rng(seed).normal(1, 0.01, load.shape)
    width = len(per)
    comm = np.full(40, 0.05)
    return Rounds(np.arange(width), own, own.max(axis=1) + comm, load, np.zeros(width), comm)


def test_two_loads_tell_the_fixed_part():
    fixed, per = [0.4, 0.4, 0.4], [0.1, 0.1, 0.2]
    one, other = loaded([8, 8, 8], fixed, per, 0), loaded([4, 4, 4], fixed, per, 1)
    alone, both = choose(one, Wanted(24)), choose(one, Wanted(24), [other])
    assert not alone.speeds.measured and both.speeds.measured
    assert both.speeds.fixed_s == pytest.approx(fixed, rel=0.1)
    assert both.speeds.per_sample_s == pytest.approx(per, rel=0.05)
    truth = float((np.array(fixed) + np.array(per) * both.best).max()) + 0.05
    assert both.after_s.mean() == pytest.approx(truth, rel=0.03)
    assert alone.high_s - alone.low_s > 3 * (both.high_s - both.low_s)  # not knowing it widens the interval


def test_a_load_that_varies_within_a_recording_tells_it_too():
    load = np.tile(np.linspace(2, 10, 40)[:, None], (1, 2))
    rounds = loaded(load, [0.5, 0.5], [0.1, 0.3], 0)
    made = speeds.fit(rounds, 12)
    assert made.measured
    assert made.fixed_s == pytest.approx([0.5, 0.5], rel=0.1)
    assert made.per_sample_s == pytest.approx([0.1, 0.3], rel=0.05)  # 12 samples are 12 tokens in the mean round
    assert (made.low_s <= made.per_sample_s).all() and (made.per_sample_s <= made.high_s).all()


def test_recordings_that_do_not_go_together():
    one = loaded([8, 8], [0.1, 0.1], [0.1, 0.1], 0)
    with pytest.raises(UsageError, match="different workers"):
        choose(one, Wanted(16), [loaded([8, 8, 8], [0.1] * 3, [0.1] * 3, 0)])
    with pytest.raises(UsageError, match="tokens"):
        choose(of_times(np.ones((4, 2))), Wanted(16), [one])


def test_the_last_word_is_the_persons():
    made = speeds.fit(of_times(noisy([1.0, 1.0])), 4, np.full(2, 0.6))
    assert made.fixed_s.tolist() == [0.6, 0.6]
    assert made.per_sample_s == pytest.approx([0.2, 0.2], rel=0.05)


@pytest.mark.parametrize("seed", range(10))
def test_whole_parts_keep_the_sum(seed):
    parts = np.random.default_rng(seed).dirichlet(np.ones(6) * 0.3) * 20
    made = whole_parts(parts)
    assert made.sum() == 20 and made.min() >= 1
