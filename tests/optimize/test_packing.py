from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from skewscope.optimize import packing
from skewscope.optimize.packing_exact import exact
from skewscope.optimize.sequence_cost import preset

KNOWN = [
    ([8, 7, 6, 5, 4], 2, 17, 16, 15),
    ([5, 5, 4, 4, 3, 3, 3], 3, 11, 10, 9),
    ([9, 7, 6, 5, 5, 4, 4, 4, 3, 3], 3, 18, 17, 17),
]


def heaviest(costs, bin_of, bins):
    return packing.loads(costs, bin_of, bins).max()


@pytest.mark.parametrize(("items", "bins", "lpt", "differences", "optimum"), KNOWN)
def test_published_examples(items, bins, lpt, differences, optimum):
    costs = np.array(items, dtype=float)
    assert heaviest(costs, packing.lpt(costs, bins), bins) == lpt
    assert heaviest(costs, packing.karmarkar_karp(costs, bins), bins) == differences
    assert exact(costs, bins)[1::2] == (optimum, True)


@pytest.mark.parametrize("seed", range(80))
def test_exact_is_the_optimum_and_nothing_is_below_the_floor(seed):
    draw = np.random.default_rng(seed)
    count, bins = int(draw.integers(1, 9)), int(draw.integers(1, 4))
    costs = draw.integers(1, 20, count).astype(float) if seed % 2 else draw.random(count)
    best = min(heaviest(costs, np.array(bin_of), bins) for bin_of in product(range(bins), repeat=count))
    made = exact(costs, bins)
    assert made.load == pytest.approx(best)
    assert made.optimal
    assert made.load == heaviest(costs, made.bin_of, bins)
    assert made.floor <= best * (1 + 1e-12)
    for way in packing.WAYS.values():
        assert heaviest(costs, way(costs, bins), bins) >= best * (1 - 1e-12)
    assert heaviest(costs, packing.lpt(costs, bins), bins) <= (4 / 3 - 1 / (3 * bins)) * best * (1 + 1e-12)


@pytest.mark.parametrize("way", packing.WAYS)
def test_every_item_lands_in_a_bin(way):
    costs = np.random.default_rng(2).random(50)
    bin_of = packing.WAYS[way](costs, 7)
    assert bin_of.shape == (50,) and bin_of.min() >= 0 and bin_of.max() <= 6
    assert packing.loads(costs, bin_of, 7).sum() == pytest.approx(costs.sum())
    assert packing.WAYS[way](np.zeros(0), 3).tolist() == []


def test_equal_size_bins_hold_equally_many():
    costs = np.random.default_rng(2).random(48)
    assert np.bincount(packing.lpt_equal_size(costs, 8)).tolist() == [6] * 8


def test_a_search_cut_short_says_so_and_is_no_worse_than_lpt():
    costs = np.random.default_rng(0).random(40)
    made = exact(costs, 7, nodes=50)
    assert not made.optimal
    assert made.load <= heaviest(costs, packing.lpt(costs, 7), 7)


PUBLISHED = [
    (64, 131072, (2.441, 1.738, 1.700, 1.700, 1.699)),
    (256, 131072, (1.913, 1.367, 1.205, 1.205, 1.204)),
    (256, 32768, (1.564, 1.063, 1.000, 1.000, 1.000)),
    (1024, 32768, (1.255, 1.004, 1.000, 1.000, 1.000)),
]


@pytest.mark.parametrize(("documents", "cap", "published"), PUBLISHED)
def test_published_ratios_of_lognormal_lengths(documents, cap, published):
    """Heaviest rank over the mean, 8 ranks, h = 4096, mean of batches; the long tail makes means of 100 vary by 3 %."""
    draw, cost, seen = np.random.default_rng(0), preset("causal", 4096), []
    for _ in range(100 if documents < 1024 else 20):  # many documents a batch: batches are alike
        tokens = np.clip(np.round(np.exp(draw.normal(7.2, 1.3, documents))), 1, cap)
        costs = cost.of(tokens)
        dealt = (packing.round_robin(costs, 8), packing.lpt(tokens, 8), packing.lpt(costs, 8),
                 packing.karmarkar_karp(costs, 8))  # fmt: skip
        seen.append([*(heaviest(costs, one, 8) for one in dealt), packing.floor(costs, 8)] / costs.sum() * 8)
    assert np.mean(seen, axis=0) == pytest.approx(published, rel=0.03)
