"""Paths of flows: brute force, the colouring's optimum, bounds, hashing, rings."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from skewscope.optimize.paths import Flows, crossings, hashed, ring, spread


def drawn(seed, equal):
    draw = np.random.default_rng(seed)
    count, leaves = int(draw.integers(2, 8)), int(draw.integers(2, 5))
    size = np.ones(count) if equal else draw.uniform(0.5, 3, count)
    return Flows(draw.integers(leaves, size=count), draw.integers(leaves, size=count), size, int(draw.integers(2, 4)))


def best(flows):
    every = product(range(flows.spines), repeat=len(flows.size))
    return min(float(flows.loads(np.array(one)).max()) for one in every)


def test_equal_flows_get_the_optimum():
    for seed in range(80):
        flows = drawn(seed, equal=True)
        assert flows.loads(spread(flows)).max() == best(flows) == flows.least_bytes()


def test_unequal_flows_come_near_and_the_bound_is_never_above_the_optimum():
    ratios = []
    for seed in range(80):
        flows = drawn(seed, equal=False)
        least = best(flows)
        assert flows.least_bytes() <= least * (1 + 1e-12)
        if least:
            ratios.append(flows.loads(spread(flows)).max() / least)
    assert min(ratios) >= 1 - 1e-12 and max(ratios) < 1.5 and np.mean(ratios) < 1.05


@pytest.mark.parametrize(("leaves", "flows_per_leaf", "spines"), [(16, 8, 8), (8, 16, 4), (12, 9, 4)])
def test_large_fabrics_are_coloured(leaves, flows_per_leaf, spines):
    draw = np.random.default_rng(leaves)
    up = np.repeat(np.arange(leaves), flows_per_leaf)
    down = np.concatenate([draw.permutation(leaves) for _ in range(flows_per_leaf)])
    order = draw.permutation(len(up))
    flows = Flows(up[order], down[order] + leaves, np.ones(len(up)), spines)
    assert flows.loads(spread(flows)).max() == -(-flows_per_leaf // spines)
    assert hashed(flows, draws=50).mean() > 1.5 * flows_per_leaf / spines


def test_flows_within_a_leaf_use_no_spine():
    flows = Flows(np.array([0, 1]), np.array([0, 1]), np.ones(2), 2)
    assert not flows.loads(spread(flows)).any() and flows.least_bytes() == 0 and not hashed(flows, draws=3).any()


def test_random_hashes_collide_as_often_as_they_should():
    # Two flows from one leaf over four spines meet in a quarter of the draws.
    flows = Flows(np.array([0, 0]), np.array([1, 2]), np.ones(2), 4)
    assert hashed(flows, draws=4000).mean() == pytest.approx(1.25, abs=0.03)
    assert hashed(flows, pairs=16, draws=500).mean() < 1.0
    assert (hashed(flows, draws=20, seed=1) == hashed(flows, draws=20, seed=1)).all()


def test_a_ring_enters_each_leaf_once():
    leaf = np.array([0, 1, 2, 0, 1, 2])
    assert crossings(leaf) == 6
    order = ring(leaf)
    assert order.tolist() == [0, 3, 1, 4, 2, 5] and crossings(leaf[order]) == 3
    assert min(crossings(leaf[list(one)]) for one in permutations(range(6))) == 3
    assert crossings(np.zeros(4, dtype=int)) == 0
