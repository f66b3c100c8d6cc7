from __future__ import annotations

import numpy as np
import pytest

from skewscope.comparison import samples


def steps(count: int, mean: float, seed: int, memory: float = 0.0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(count)
    for place in range(1, count):
        noise[place] += memory * noise[place - 1]
    return mean * (1 + 0.03 * noise)


def test_a_tenth_more_is_slower_and_a_tenth_less_is_faster():
    usual = steps(40, 1.0, 1)
    slower, faster = (samples.change(usual, steps(40, mean, 2)) for mean in (1.1, 0.9))
    assert (slower.answer, faster.answer) == ("slower", "faster")
    assert slower.low_ratio < 1.1 < slower.high_ratio and slower.p < 0.001
    assert slower.low_ratio > 1.05 and faster.high_ratio < 0.95


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_equal_runs_are_rarely_called_different(memory):
    wrong = [samples.change(steps(60, 1.0, seed, memory), steps(80, 1.0, 1000 + seed, memory)) for seed in range(60)]
    assert sum(one.answer in ("slower", "faster") for one in wrong) <= 6  # 5 % asked for, of 60


def test_neighbours_that_resemble_each_other_would_fool_a_plain_test():
    """The same worlds, tested as if steps were independent: this is what the blocks are for."""
    plain = [
        samples.p_values(steps(60, 1.0, seed, 0.8)[:, None], steps(80, 1.0, 1000 + seed, 0.8)[:, None])[0]
        for seed in range(60)
    ]
    assert sum(p < samples.ALPHA for p in plain) > 12


def test_three_steps_say_nothing_however_far_apart():
    assert samples.change(np.array([1.0, 1.1, 1.2]), np.array([9.0, 9.1, 9.2])).answer == "too-few-steps"
    four = samples.change(np.array([1.0, 1.1, 1.2, 1.15]), np.array([9.0, 9.1, 9.2, 9.15]))
    assert four.answer == "slower" and four.p == pytest.approx(2 / 70)


def test_no_steps_are_unknown():
    nothing = samples.change(np.zeros(0), np.ones(5))
    assert nothing.answer == "unknown" and np.isnan(nothing.before) and nothing.after == 1.0


def test_equal_constants_are_no_difference():
    assert samples.change(np.full(8, 2.0), np.full(8, 2.0)).answer == "no-difference"


def test_one_burst_is_no_memory():
    values = steps(100, 1.0, 3)
    values[40] = 50.0
    assert samples.memory(values) == 1


@pytest.mark.parametrize("begins", [150, 300, 450])
def test_a_run_that_becomes_slower_on_the_way_is_slower(begins):
    for seed in range(5):
        usual, later = steps(600, 1.0, seed, 0.3), steps(600, 1.0, 100 + seed, 0.3)
        later[begins:] *= 1.2
        told = samples.change(usual, later)
        assert told.answer == "slower" and samples.block_size(later) <= 4 < samples.memory(later)
        assert samples.change(later, later[::-1]).answer == "no-difference"


def test_a_fault_that_grows_over_a_hundred_steps_makes_a_run_slower():
    for seed in range(5):
        usual, later = (np.random.default_rng(at).normal(1.0, 0.01, 600) for at in (seed, 100 + seed))
        told = samples.change(usual, later * (1 + 0.2 * np.clip((np.arange(600) - 190) / 115, 0, 1)))
        assert told.answer == "slower" and told.p < 0.001 and told.low_ratio > 1.08


def test_a_series_that_wanders_is_not_cut_into_levels():
    """Two runs whose steps wander by a fifth over a tenth of the run: as often called different as without levels."""

    def wandering(seed):
        noise = np.random.default_rng(seed).standard_normal(400)
        for place in range(1, 400):
            noise[place] = 0.95 * noise[place - 1] + 0.31 * noise[place]
        return np.exp(0.2 * noise)

    pairs = [(wandering(seed), wandering(1000 + seed)) for seed in range(40)]
    assert sum(samples.change(*pair).answer != "no-difference" for pair in pairs) <= 8
    assert all(samples.block_size(one) > 20 for pair in pairs for one in pair)
