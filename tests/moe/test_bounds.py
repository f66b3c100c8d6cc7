"""Bounds: nothing that can be placed passes them, and the limit that binds is named."""

import numpy as np
import pytest

from skewscope.errors import UsageError
from skewscope.moe import bounds, groups
from skewscope.moe.planner import plan

from ._brute import coolest, skewed


@pytest.mark.parametrize(
    ("experts", "slots", "gpus"), [(4, 6, 3), (5, 8, 4), (4, 6, 2), (3, 6, 3), (4, 4, 4), (5, 6, 2)]
)
@pytest.mark.parametrize("sigma", [0.2, 1.0, 2.0])
def test_no_placement_passes_a_bound(experts: int, slots: int, gpus: int, sigma: float):
    loads = skewed(np.random.default_rng(slots), 6, experts, sigma)
    found = bounds.bounds(loads, slots, gpus)
    for layer, tokens in enumerate(loads):
        assert found.least[layer] <= coolest(tokens, slots, gpus, doubled=True) * (1 + 1e-9)


def test_the_bound_of_slots_is_seldom_far_from_the_optimum():
    loads = skewed(np.random.default_rng(0), 40, 5, 0.8)
    best = np.array([coolest(tokens, 6, 3) for tokens in loads])
    least = bounds.bounds(loads, 6, 3)
    without = np.maximum(least.mean, least.limits["replication"])
    assert (best / least.least).mean() < 1.04 and (best / without).mean() > 1.07


def test_the_limit_that_binds_is_named():
    even = [10, 10, 10, 10]
    assert bounds.bounds(np.array([even]), 4, 2).binding == ("even",)
    assert bounds.bounds(np.array([[40, 1, 1, 1]]), 5, 5).binding == ("replication",)
    assert bounds.bounds(np.array([[6, 2, 2, 2]]), 4, 2).binding == ("slots",)
    assert bounds.bounds(np.array([[10, 10, 1, 1, 5, 5, 5, 5]]), 16, 4, nodes=2, groups=2).binding == ("groups",)


def test_full_slots_bind_an_even_load():
    """256 even experts on 72 GPUs of four slots: some GPU holds four whole ones, as 32 more slots halve too few."""
    least = bounds.bounds(np.ones((1, 256)), 288, 72)
    assert least.limits["slots"][0] == pytest.approx(4.0, rel=0.01) and least.binding == ("slots",)


def test_replication_by_hand():
    # 12 tokens on 4 GPUs: the mean is 3; expert 0 needs two slots to get to 3, but only one is spare
    assert bounds.replication(np.array([[6, 3, 3]]), 4, 4).tolist() == [1.0]
    assert bounds.replication(np.array([[8, 2, 2]]), 4, 4).tolist() == [0.75]
    assert bounds.replication(np.array([[0, 0, 0]]), 4, 4).tolist() == [1.0]


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_shared_out_as_well_as_can_be(seed: int):
    loads = skewed(np.random.default_rng(seed), 3, 16)
    chosen = groups.groups_to_nodes(loads, groups=8, nodes=4, slots=24, gpus=8)
    least = groups.hottest_node(loads, 8, 4, 24, 8)
    assert (np.sort(chosen.reshape(3, -1), axis=1) == np.arange(8)).all()
    mine = groups.experts_of_nodes(chosen, 16)
    for layer in range(3):
        tokens = loads[layer][mine[layer]].sum(1) / 2
        assert tokens.max() <= least[layer] * (1 + 1e-9)  # here no replica is heavier than the node's mean GPU


def test_many_groups_are_shared_out_by_exchanges():
    loads = skewed(np.random.default_rng(1), 5, 64)
    assert groups.shares(32, 8) > groups.MOST_SHARES
    chosen = groups.groups_to_nodes(loads, 32, 8, 64, 8)
    tokens = loads.reshape(5, 32, 2).sum(2)
    hot = np.take_along_axis(tokens, chosen.reshape(5, -1), 1).reshape(5, 8, 4).sum(2).max(1)
    least = groups.hottest_node(loads, 32, 8, 64, 8)
    assert (hot >= least * (1 - 1e-9)).all() and (least / hot).mean() > 0.95


def test_hierarchical_plans_keep_groups_and_reach_their_bound():
    loads = skewed(np.random.default_rng(4), 12, 64, 0.6)
    made = plan(loads, slots=96, gpus=16, nodes=4, groups=8)
    assert groups.on_one_node(made.placement.slots, 64, 8, 4).all()
    bound = bounds.grouped(loads, 96, 16, 4, 8)
    assert (made.after <= bound * (1 + 1e-9)).all() and made.after.mean() > 0.99 * bound.mean()
    assert bounds.grouped(loads, 96, 16, 1, 8) == pytest.approx(bounds.replication(loads, 96, 16))


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="16 experts do not spread evenly over 3 groups"):
        groups.hottest_node(np.ones((1, 16)), 3, 1, 16, 2)
    with pytest.raises(UsageError, match="8 groups do not spread evenly over 3 nodes"):
        groups.groups_to_nodes(np.ones((1, 16)), 8, 3, 24, 6)
