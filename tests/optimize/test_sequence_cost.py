from __future__ import annotations

import numpy as np
import pytest

from skewscope.errors import UsageError
from skewscope.optimize import sequence_cost
from skewscope.optimize.sequence_cost import fit, non_negative, preset


def test_attention_equals_the_rest_where_published():
    assert preset("full", 4096).even_tokens == 24_576
    assert preset("causal", 4096).even_tokens == 49_152
    assert preset("verl", 4096).even_tokens == 24_576
    assert preset("tokens", 4096).even_tokens == float("inf")


def test_presets_are_the_formulas():
    assert preset("full", 1024).of(np.array([10.0])) == 24 * 1024**2 * 10 + 4 * 1024 * 100
    assert preset("causal", 1024).of(np.array([10.0])) == 24 * 1024**2 * 10 + 2 * 1024 * 100
    assert preset("verl", 4096).of(np.array([10.0])) == 24_576 * 10 + 100
    assert preset("skrull", 1024, 256).of(np.array([10.0])) == (20 * 1024**2 + 4 * 1024 * 256) * 10 + 4 * 1024 * 100
    assert preset("skrull", 1024).of(np.array([7.0])) == preset("full", 1024).of(np.array([7.0]))


def test_equal_tokens_are_not_equal_work():
    attention = preset("causal", 4096).quadratic
    assert attention * 40_000**2 == pytest.approx(10 * attention * 10 * 4_000**2)


@pytest.mark.parametrize(("name", "hidden", "heads"), [("other", 1, None), ("causal", 0, None), ("skrull", 4096, 0)])
def test_what_is_no_cost(name, hidden, heads):
    with pytest.raises(UsageError):
        preset(name, hidden, heads)


def test_a_noisy_fit_finds_the_cost_and_says_how_well():
    draw = np.random.default_rng(0)
    tokens = draw.uniform(1e3, 5e4, 400)
    squares = tokens**2 * draw.uniform(0.1, 1.0, 400)
    times = 0.02 + 3e-6 * tokens + 5e-11 * squares
    made = fit(tokens, squares, times * draw.normal(1, 0.02, 400))
    assert (made.linear, made.quadratic) == pytest.approx((3e-6, 5e-11), rel=0.05)
    assert made.fixed == pytest.approx(0.02, abs=0.01)
    assert made.r2 is not None and made.r2 > 0.98
    unrelated = fit(tokens, squares, draw.uniform(0.1, 0.2, 400))
    assert unrelated.r2 is not None and unrelated.r2 < 0.05


def test_times_that_fall_with_length_give_no_negative_cost():
    tokens = np.linspace(1, 10, 20)
    made = fit(tokens, tokens**2, 10 - tokens)
    assert min(made.fixed, made.linear, made.quadratic) >= 0
    assert made.r2 is not None and made.r2 <= 0.0 + 1e-9


@pytest.mark.parametrize("seed", range(30))
def test_least_squares_is_that_of_scipy(seed):
    from scipy.optimize import nnls

    draw = np.random.default_rng(seed)
    columns, values = draw.normal(size=(12, 3)), draw.normal(size=12)
    assert non_negative(columns, values) == pytest.approx(nnls(columns, values)[0], abs=1e-8)


@pytest.mark.parametrize("tokens", [[1.0, 2.0, 3.0], [5.0, 5.0, 5.0, 5.0]])
def test_too_little_to_fit(tokens):
    values = np.array(tokens)
    with pytest.raises(UsageError, match="four steps"):
        sequence_cost.fit(values, values**2, values)
