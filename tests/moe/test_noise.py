"""The noise formulas against simulations and the published figures; chance must not be told as imbalance."""

from __future__ import annotations

import numpy as np
import pytest

from skewscope.moe import noise
from skewscope.moe.placement import balancedness


@pytest.mark.parametrize(
    ("gpus", "mean"), [(8, 1.42), (16, 1.77), (32, 2.07), (64, 2.34), (72, 2.39), (144, 2.63), (320, 2.90)]
)
def test_the_largest_of_normals(gpus, mean):
    assert noise.largest_of_normals(gpus) == pytest.approx(mean, abs=0.007)


def test_one_bin_has_no_chance():
    assert noise.largest_of_normals(1) == 0 and noise.ceiling(100, 1) == 1 and noise.ceiling(0, 8) == 1


@pytest.mark.parametrize(
    ("gpus", "picks", "formula", "simulated"),
    [
        (32, 1024, 0.732, 0.726), (32, 32768, 0.939, 0.939), (144, 32768, 0.851, 0.847), (320, 32768, 0.777, 0.773),
        (320, 327680, 0.917, 0.916),
    ],
)  # fmt: skip
def test_the_ceiling_is_what_an_even_router_shows(gpus, picks, formula, simulated):
    assert noise.ceiling(picks, gpus) == pytest.approx(formula, abs=0.001)
    drawn = np.random.default_rng(gpus).multinomial(picks, np.full(gpus, 1 / gpus), size=400)
    shown = balancedness(drawn).mean()
    assert shown == pytest.approx(simulated, abs=0.003)
    assert noise.ceiling(picks, gpus) == pytest.approx(shown, abs=0.01)


def test_divergence_by_hand():
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.5, 0.0, 0.5])
    middle = (p + q) / 2
    by_hand = sum(0.5 * one[at] * np.log2(one[at] / middle[at]) for one in (p, q) for at in range(3) if one[at])
    assert noise.divergence(10 * p, 40 * q) == pytest.approx(by_hand)
    assert noise.divergence(p, p) == 0
    assert np.isnan(noise.divergence(p, 0 * p))


@pytest.mark.parametrize(("picks", "others"), [(32768, None), (8000, 32000)])
def test_the_floor_is_what_two_samples_of_the_same_show(picks, others):
    rng = np.random.default_rng(3)
    share = rng.dirichlet(np.full(256, 2.0))
    one, other = rng.multinomial(picks, share, 300), rng.multinomial(others or picks, share, 300)
    floor = float(noise.divergence_floor(256, picks, others))
    assert noise.divergence(one, other).mean() == pytest.approx(floor, rel=0.05)
    if others is None:
        assert floor == pytest.approx(0.00281, abs=1e-5)


@pytest.mark.parametrize("deff", [1.0, 6.0])
def test_the_design_effect_is_found_again(deff):
    rng = np.random.default_rng(5)
    picks, experts = 20000, 64
    share = rng.dirichlet(np.full(experts, 3.0), size=2)  # [layers, experts]
    steps = []
    for _ in range(24):
        # Dirichlet-multinomial: its variance is deff times that of independent picks.
        drawn = share if deff == 1 else rng.gamma(share * picks / (deff - 1))
        drawn = drawn / drawn.sum(-1, keepdims=True)
        steps.append([rng.multinomial(picks, layer) for layer in drawn])
    assert noise.design_effect(np.array(steps)) == pytest.approx([deff, deff], rel=0.15)


def test_the_design_effect_does_not_mistake_one_jump_for_noise():
    rng = np.random.default_rng(6)
    first, second = rng.dirichlet(np.full(64, 1.0), size=2)
    steps = [rng.multinomial(20000, share) for share in [first] * 8 + [second] * 8]
    assert noise.design_effect(np.array(steps)[:, None]).item() < 1.4


def test_too_few_steps_or_picks_say_nothing():
    assert noise.design_effect(np.array([[[5, 5]], [[9, 1]]])).tolist() == [1.0]
    few = np.random.default_rng(0).multinomial(30, np.full(64, 1 / 64), size=(20, 1))
    assert noise.design_effect(few).tolist() == [1.0]


def test_an_expert_without_tokens_may_be_chance():
    drawn = np.random.default_rng(2).random((20000, 16)) < 8 / 64
    assert noise.zero_probability(8 / 64, 16) == pytest.approx((~drawn.any(1)).mean(), abs=0.01)
    enough = noise.tokens_to_judge(64, 8)
    assert noise.zero_probability(8 / 64, enough) < 1e-8
