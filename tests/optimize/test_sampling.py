"""Telemetry intervals: delays against simulated faults, the optimum against a grid, noise against known processes."""

from __future__ import annotations

import numpy as np
import pytest

from skewscope.errors import UsageError
from skewscope.optimize import sampling
from skewscope.optimize.sampling import Costs


@pytest.mark.parametrize(("every", "count"), [(10.0, 1), (10.0, 3), (2.0, 5)])
def test_the_delay_is_that_of_simulated_faults(every, count):
    begin = np.random.default_rng(0).uniform(0, 1000, 100_000)
    first = np.ceil(begin / every) * every
    waited = first + (count - 1) * every - begin + 4.0
    assert waited.mean() == pytest.approx(float(sampling.delay_s(every, count, 4.0)), rel=0.01)
    assert waited.max() <= sampling.longest_delay_s(every, count, 4.0)


@pytest.mark.parametrize(("event", "window"), [(3.0, 0.0), (0.5, 2.0), (20.0, 1.0)])
def test_short_events_are_seen_as_often_as_simulated(event, window):
    draw = np.random.default_rng(1)
    begin = draw.uniform(0, 10.0, 100_000)  # a sample averages [10 k - window, 10 k]
    seen = (begin <= 10) & (begin + event >= 10 - window)
    assert seen.mean() == pytest.approx(sampling.seen_ratio(event, 10.0, window), abs=0.01)


def test_enough_looks_find_the_shift_and_raise_few_false_alarms():
    count = sampling.looks(0.5, 1.0, 0.01)
    assert count == int(np.ceil(((2.3263 + 1.6449) / 0.5) ** 2))
    draw = np.random.default_rng(2).normal(size=(50_000, count)).mean(axis=1)
    line = 2.3263 / np.sqrt(count)
    assert np.mean(draw > line) == pytest.approx(0.01, abs=0.002)
    assert np.mean(draw + 0.5 > line) >= 0.95
    assert sampling.looks(1.0, 0.0, 0.01) == 1


@pytest.mark.parametrize("memory", [0.0, 0.7])
def test_the_memory_of_noise(memory):
    draw = np.random.default_rng(3)
    values = np.zeros(50_000)
    for place, fresh in enumerate(draw.normal(size=len(values) - 1), 1):
        values[place] = memory * values[place - 1] + fresh
    made = sampling.noise(values, 2.0)
    assert made.spread == pytest.approx(1 / np.sqrt(1 - memory**2), rel=0.03)
    assert made.correlation_s == pytest.approx(2.0 * (0.5 + memory / (1 - memory)), rel=0.1)
    with pytest.raises(UsageError, match="eight"):
        sampling.noise(values[:5], 1.0)


@pytest.mark.parametrize("seed", range(20))
def test_the_optimum_is_the_best_of_a_grid(seed):
    draw = np.random.default_rng(seed)
    costs = Costs(10 ** draw.uniform(-6, -2), draw.uniform(1, 500), 10 ** draw.uniform(-3, 1))
    count, memory = int(draw.integers(1, 30)), float(draw.choice([0.0, 1.0, 30.0]))
    best = sampling.best_s(costs, count, memory)
    grid = np.geomspace(best / 1000, best * 1000, 4001)
    assert float(costs.total(best, count, 0.0, memory)) <= costs.total(grid, count, 0.0, memory).min() * (1 + 1e-9)


def test_free_faults_want_no_samples():
    assert sampling.best_s(Costs(0.0, 8.0, 1.0), 3) == float("inf")


def test_bytes():
    assert sampling.stored_bytes_per_day(1000, 500, 15.0, 1.5) == pytest.approx(4.32e9)
