"""Levels that are known: found where they begin, none in noise, none by one long value."""

from __future__ import annotations

import numpy as np
import pytest

from skewscope.stats.changepoint import changes, split


def noisy(levels, each, seed, noise=0.01):
    values = np.repeat(np.asarray(levels, dtype=float), each)
    return values * (1 + noise * np.random.default_rng(seed).standard_normal(len(values)))


@pytest.mark.parametrize("fewest", [8, 20, 100])
@pytest.mark.parametrize("noise", [0.002, 0.01])
def test_a_change_is_found_once_and_where_it_is(fewest, noise):
    for seed in range(8):
        at = int(np.random.default_rng(100 + seed).integers(500, 1500))
        found = changes(noisy([1.0, 1.2], [at, 2000 - at], seed, noise), fewest=fewest, ratio=0.02)
        assert len(found) == 1 and abs(found[0].place - at) <= 3
        assert (found[0].before, found[0].after) == pytest.approx((1.0, 1.2), rel=0.01)


def test_levels_that_come_and_go_are_found_at_both_ends():
    found = changes(noisy([1.0, 1.3, 1.0, 0.8], [60, 20, 70, 50], 1))
    assert [change.place for change in found] == pytest.approx([60, 80, 150], abs=1)


def test_noise_has_levels_once_in_a_thousand_series():
    assert sum(bool(changes(noisy([1.0], [200], seed, 0.2), ratio=0.0)) for seed in range(100)) <= 3


def test_a_change_below_the_ratio_and_one_long_value_are_none():
    assert changes(noisy([1.0, 1.07], 40, 2)) == []
    values = noisy([1.0], 40, 3)
    values[20:24] = 50.0
    assert changes(values) == []


@pytest.mark.parametrize("values", [[], [1.0], [1.0] * 15, [2.0] * 100], ids=len)
def test_too_few_or_equal_values_have_none(values):
    assert changes(np.array(values)) == [] and split(np.array(values), 8)[1] == 1.0
