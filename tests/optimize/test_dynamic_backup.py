from __future__ import annotations

import numpy as np
import pytest

from skewscope.optimize import dynamic_backup
from skewscope.optimize.backup import exponential_arrival
from skewscope.optimize.dynamic_backup import DynamicBackup, Noise

ARRIVAL_S = np.array([0.5 + exponential_arrival(k, 16) for k in range(1, 17)])


@pytest.mark.parametrize(("variance", "best"), [(0.1, 1), (1.0, 1), (10.0, 3), (100.0, 10)])
def test_the_published_choices(variance, best):
    gains = dynamic_backup.gain(Noise(variance, 1.0), 16, 0.05, 2.0)
    assert dynamic_backup.best_workers(gains, ARRIVAL_S) == best


def test_without_any_gain_everybody_is_waited_for():
    assert dynamic_backup.best_workers(dynamic_backup.gain(Noise(1e6, 1.0), 16, 0.05, 2.0), ARRIVAL_S) == 16


def test_arrivals_are_made_non_decreasing():
    assert dynamic_backup.best_workers(np.array([1.0, 1.6]), np.array([2.0, 1.0])) == 2
    assert dynamic_backup.best_workers(np.array([1.0, 0.9]), np.array([2.0, 1.0])) == 1  # else 2, by a false time


def test_noise_is_that_of_the_gradients():
    draw = np.random.default_rng(0)
    true = np.array([3.0, 4.0, 0.0])
    seen = [dynamic_backup.noise_of(true + draw.normal(0, 2.0, (8, 3))) for _ in range(4000)]
    assert np.mean([one.variance for one in seen]) == pytest.approx(12.0, rel=0.02)  # three parts of variance 4
    assert np.mean([one.signal for one in seen]) == pytest.approx(25.0, rel=0.03)


def run(target_noise, steps=60, workers=16):
    """Train f = L/2 |x|^2 with noisy gradients and return the numbers of results waited for."""
    draw = np.random.default_rng(5)
    scheduler, x, chosen = DynamicBackup(workers, 0.05), np.full(50, 1.0), []
    for _ in range(steps):
        gradients = 2.0 * x + draw.normal(0, target_noise, (scheduler.chosen, 50))
        arrival = np.sort(0.5 + draw.exponential(1.0, workers))[: scheduler.chosen]
        noise = (
            dynamic_backup.noise_of(gradients) if len(gradients) > 1 else Noise(0.0, float(gradients[0] @ gradients[0]))
        )
        x = x - 0.05 * gradients.mean(axis=0)
        chosen.append(scheduler.observe(noise, arrival, float(x @ x)))
    return chosen


def test_noisier_gradients_wait_for_more_workers():
    clean, noisy = np.mean(run(0.01)[:20]), np.mean(run(5.0)[20:])
    assert clean < 3 < noisy


def test_a_risen_loss_raises_the_number():
    scheduler = DynamicBackup(16, 0.05)
    assert scheduler.chosen == 16
    descending = [scheduler.observe(Noise(0.1, 1.0), ARRIVAL_S, 5.0 - 0.0475 * step) for step in range(6)]
    assert descending == [1] * 6
    assert scheduler.smoothness() == pytest.approx(2.0, rel=0.2)
    assert scheduler.observe(Noise(0.1, 1.0), ARRIVAL_S[:1], 5.0) == 2


def test_nothing_is_known_before_the_first_step():
    with pytest.raises(ValueError, match="no step"):
        DynamicBackup(4, 0.1).noise()
