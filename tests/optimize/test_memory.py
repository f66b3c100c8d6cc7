"""Memory of ranks: published figures, parts that scale as they should, and the cheapest way by brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skewscope.optimize.memory import (
    Model,
    Setup,
    Speeds,
    cheapest,
    extra_s,
    layer_activation_bytes,
    options,
    parameters,
    single,
    stages,
    total,
)  # fmt: skip

GPT3 = Model(96, 12288, 96, 2048, 51200, 4 * 12288, 12288)
SPEEDS = Speeds(10.0, 50e9, 25e9)
NOW = Setup(np.full(8, 12), np.arange(8, 0, -1), 8, 8, 1, 64, other_bytes=2.0**31)


def test_parameters_of_gpt3():
    one = Setup(np.array([96]), np.array([1]), 1)
    assert float(parameters(GPT3, one)[0]) == pytest.approx(175e9, rel=0.01)
    llama = Model(32, 4096, 32, 2048, 32000, 11008, 4096, gated=True)
    assert float(parameters(llama, replace(one, split=np.array([32])))[0]) == pytest.approx(6.74e9, rel=0.005)


@pytest.mark.parametrize(("zero", "gigabytes"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_states_as_published_for_zero(zero, gigabytes):
    model = Model(1, 25000, 1, 1, 0, 100000, 25000)  # 7.5e9 parameters
    made = stages(model, Setup(np.array([1]), np.array([0]), 64, zero=zero))
    held = sum(float(made[part][0]) for part in ("weights", "gradients", "optimizer"))
    assert held / 1e9 == pytest.approx(gigabytes, abs=0.05)


def test_activations_of_a_layer():
    base = 2048 * 12288
    one = Setup(np.array([96]), np.array([1]), 1, tensor=8)
    assert layer_activation_bytes(GPT3, one) / base == 10 + 24 / 8 + 80 / 8  # 5 a s / h = 80
    assert layer_activation_bytes(GPT3, replace(one, sequence_parallel=True)) / base == (34 + 80) / 8
    assert layer_activation_bytes(GPT3, replace(one, recompute="selective")) / base == 13
    assert layer_activation_bytes(GPT3, replace(one, recompute="full")) / base == 2


def test_the_first_stage_holds_most_microbatches_and_the_last_the_logits():
    made = stages(GPT3, NOW)
    layer = layer_activation_bytes(GPT3, NOW)
    assert made["activations"].tolist() == [held * 12 * layer for held in range(8, 0, -1)]
    assert made["logits"][-1] == 4 * 2048 * 51200 / 8 and not made["logits"][:-1].any()
    assert made["weights"][0] == made["weights"][-1] > made["weights"][1]  # embedding and head
    assert total(GPT3, NOW).tolist() == pytest.approx(sum(made[part] for part in made).tolist())
    half = stages(GPT3, replace(NOW, offload_activations=0.5))
    assert half["activations"].tolist() == (made["activations"] / 2).tolist()
    assert not stages(GPT3, replace(NOW, offload_optimizer=True))["optimizer"].any()


def test_costs():
    none = extra_s(GPT3, NOW, SPEEDS)
    assert none == 0
    assert extra_s(GPT3, replace(NOW, recompute="full"), SPEEDS) == pytest.approx(10 / 3)
    assert extra_s(GPT3, replace(NOW, recompute="selective"), SPEEDS) == pytest.approx(10 * GPT3.attention_share)
    assert extra_s(GPT3, replace(NOW, zero=1), SPEEDS) == extra_s(GPT3, replace(NOW, zero=2), SPEEDS) == 0
    count = float(parameters(GPT3, NOW).max())
    assert extra_s(GPT3, replace(NOW, zero=3), SPEEDS) == pytest.approx(127 * 7 / 8 * count * 2 / 50e9)
    assert extra_s(GPT3, replace(NOW, offload_optimizer=True), SPEEDS) == pytest.approx(count * 4 / 25e9)
    both = replace(NOW, offload_optimizer=True, zero=1)
    assert extra_s(GPT3, both, SPEEDS) == pytest.approx(count * 4 / 25e9 / 8)


def test_the_cheapest_fits_and_nothing_that_fits_is_cheaper():
    for gib in (30, 40, 60, 80, 200):
        best = cheapest(GPT3, NOW, SPEEDS, gib * 2**30)
        costs = [extra_s(GPT3, one, SPEEDS) for one in options(NOW) if total(GPT3, one).max() <= gib * 2**30]
        assert (best is None) == (not costs)
        if best is not None:
            assert total(GPT3, best).max() <= gib * 2**30
            assert extra_s(GPT3, best, SPEEDS) == min(costs)
    assert cheapest(GPT3, NOW, SPEEDS, 2**40) is NOW
    assert cheapest(GPT3, NOW, SPEEDS, 2**30) is None


def test_all_ways_are_listed_once():
    assert len(list(options(NOW))) == 4 * 3 * 2 * 2
    assert len(list(single(NOW))) == 3 + 2 + 1 + 1
    assert len(list(options(replace(NOW, data=1)))) == 3 * 2 * 2
    assert len(list(options(replace(NOW, offload_activations=0.3)))) == 48 + 1
