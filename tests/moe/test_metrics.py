"""Every definition of balance on numbers made by hand: the same loads give each project its own figure."""

from __future__ import annotations

import numpy as np
import pytest

from skewscope.errors import UsageError
from skewscope.moe import metrics
from skewscope.moe.placement import start_layout

EVEN = np.full((1, 4), 5.0)
TWO = np.array([[[5.0, 5.0], [1.0, 3.0]], [[2.0, 6.0], [4.0, 4.0]]])  # [steps, layers, GPUs]


def test_three_balancedness_numbers_of_the_same_loads():
    # Step 0: layers 5/5 and 2/3; step 1: 4/6 and 4/4. Means 7 of maxima 8, and 8 of 10.
    assert metrics.balancedness_mean(TWO) == pytest.approx((1 + 2 / 3 + 4 / 6 + 1) / 4)
    assert metrics.balancedness_vllm(TWO) == pytest.approx((7 / 8 + 8 / 10) / 2)
    assert metrics.balancedness_sglang(TWO) == pytest.approx((1 + 2 / 3 + 4 / 6 + 1) / 4, abs=1e-5)
    assert metrics.imbalance_trtllm(TWO) == pytest.approx((0 + 0.5 + 0.5 + 0) / 4)
    # vLLM-Ascend sums the steps first: layers 7/11 and 5/7.
    assert metrics.hotness_ascend(TWO) == pytest.approx(((11 / 9 + 7 / 6) / 2, 11 / 9))


def test_dense_layers_count_as_even_for_sglang():
    forty = np.tile([1.0, 1.0, 1.0, 2.5, 0.5, 0.25, 0.75, 1.0], (58, 1))  # mean 1, maximum 2.5
    assert metrics.balancedness_mean(forty) == pytest.approx(0.4)
    assert metrics.balancedness_sglang(forty, dense_layers=3) == pytest.approx((58 * 0.4 + 3) / 61, abs=1e-4)
    assert round(metrics.balancedness_sglang(forty, dense_layers=3), 2) == 0.43


def test_vllm_dilutes_one_bad_layer():
    # Nine layers are even; one small layer has all tokens on one of four GPUs.
    loads = np.full((10, 4), 100.0)
    loads[0] = [4.0, 0, 0, 0]
    assert metrics.balancedness_mean(loads) == pytest.approx((9 + 0.25) / 10)
    assert metrics.balancedness_vllm(loads) == pytest.approx(901 / 904)


def test_slots_say_nothing_about_gpus():
    placed = start_layout(4, 4, 2, layers=1)
    counts = np.array([[9, 1, 2, 8]])
    said = metrics.definitions(placed.gpu_loads(counts), placed.slot_loads(counts))
    assert said["skewscope"] == 1.0 and said["slots"] == pytest.approx(5 / 9)
    assert said["trtllm_imbalance"] == 0 and said["ascend_max"] == 1


@pytest.mark.parametrize("name", list(metrics.LEVEL))
def test_even_loads_and_no_loads_are_perfect(name):
    ideal = {"max_over_mean": 1, "entropy": 1, "effective_share": 1, "p99_over_p50": 1, "coverage_10_percent": 0.25}
    assert metrics.LEVEL[name](EVEN) == pytest.approx(ideal.get(name, 0))
    nothing = metrics.LEVEL[name](np.zeros((1, 4)))
    assert np.isfinite(nothing).all()
    if name not in ("dead", "cold", "coverage_10_percent"):
        assert nothing == pytest.approx(ideal.get(name, 0))


def test_by_hand():
    x = np.array([8.0, 0.0, 2.0, 2.0])  # mean 3
    assert metrics.overload(x) == pytest.approx(8 / 3) and metrics.imbalance(x) == pytest.approx(5 / 3)
    assert [float(one) for one in metrics.violations(x)] == pytest.approx([5 / 3, 1.0, (5 + 3 + 1 + 1) / 3 / 4])
    assert metrics.variation(x) == pytest.approx(np.sqrt((25 + 9 + 1 + 1) / 4) / 3)
    pairs = np.abs(x[:, None] - x[None]).sum() / (2 * 16 * 3)  # Gini as half the mean difference over the mean
    assert metrics.gini(x) == pytest.approx(pairs)
    p = np.array([2 / 3, 1 / 6, 1 / 6])
    assert metrics.entropy(x) == pytest.approx(-(p * np.log(p)).sum() / np.log(4))
    assert metrics.effective_share(x) == pytest.approx(np.exp(-(p * np.log(p)).sum()) / 4)
    assert metrics.coverage(x, 2) == pytest.approx(10 / 12) and metrics.dead(x) == 0.25 and metrics.cold(x) == 0.25
    assert metrics.quantile_ratio(x, 1.0, 0.5) == pytest.approx(4.0)
    assert metrics.dropped(x, 2.0) == pytest.approx(2 / 12)  # capacity 6
    assert metrics.dropped(x, 1.1) == pytest.approx(4 / 12)  # capacity ceil(3.3)


def test_a_capacity_must_be_above_nothing():
    with pytest.raises(UsageError, match="above 0"):
        metrics.dropped(EVEN, 0)


def test_activated_experts_are_counted_and_expected():
    held = np.array([[[1, 1, 0, 0], [0, 0, 1, 1]]])
    assert metrics.activated(np.array([[5, 0, 1, 2]]), held).tolist() == [[1, 2]]
    rng = np.random.default_rng(1)
    q = np.array([[0.9, 0.5, 0.4, 0.2]])
    drawn = rng.random((4000, 3, 4)) < q  # three tokens
    seen = drawn.any(axis=1).mean(axis=0)
    expected = metrics.activated_expected(q, held, 3)[0]
    assert expected == pytest.approx([seen[:2].sum(), seen[2:].sum()], abs=0.04)


def test_pressure_names_the_expert_that_needs_a_replica():
    counts = np.array([[12, 2, 1, 1]])
    alone = metrics.pressure(counts, np.ones((1, 4)), gpus=4)
    assert alone.tolist() == [[3.0, 0.5, 0.25, 0.25]]
    assert metrics.pressure(counts, np.array([[3, 1, 1, 1]]), gpus=4).max() == 1.0


def test_a_spread_names_the_worst_layer_in_its_own_direction():
    values = np.array([0.9, 0.2, 0.5, 1.0])
    assert metrics.over_layers(values, [7, 8, 9, 10], higher_is_better=True).worst_layer == 8
    spread = metrics.over_layers(values, [7, 8, 9, 10])
    assert (spread.worst_layer, spread.low, spread.high, spread.p50) == (10, 0.2, 1.0, pytest.approx(0.7))
    assert metrics.level(np.array([[1.0, 3.0], [2.0, 2.0]]), [3, 4])["max_over_mean"].worst_layer == 3
