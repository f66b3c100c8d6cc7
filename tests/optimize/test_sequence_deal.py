from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from skewscope.optimize import sequence_deal
from skewscope.optimize.sequence_deal import Deal, across, by_step, compare, with_corpus


def test_every_way_keeps_the_steps_and_all_sequences():
    costs = np.random.default_rng(0).random(37)
    for way in ("round_robin", "lpt", "lpt_equal_size", "karmarkar_karp", "exact"):
        deal = by_step(costs, 3, 12, way)
        assert deal.step_of.tolist() == [place // 12 for place in range(37)]
        assert set(deal.rank_of.tolist()) <= {0, 1, 2}
        assert deal.loads(costs, 3).sum() == pytest.approx(costs.sum())


@pytest.mark.parametrize("seed", range(20))
def test_small_steps_are_dealt_optimally_and_never_below_the_floor(seed):
    draw = np.random.default_rng(seed)
    costs = draw.integers(1, 30, 14).astype(float)
    made = compare(costs.astype(int), costs, 2, 7)
    best = 0.0
    for first in (0, 7):
        part = costs[first : first + 7]
        best += min(max(part[np.array(bits) == 0].sum(), part[np.array(bits) == 1].sum())
                    for bits in product((0, 1), repeat=7))  # fmt: skip
    assert made.times["exact"] == pytest.approx(best)
    assert made.floor <= best * (1 + 1e-12)
    assert min(made.times.values()) == pytest.approx(best)
    assert made.times[made.best] <= best * 1.001


def test_a_corpus_is_more_even_than_its_steps():
    draw = np.random.default_rng(0)
    costs = np.exp(draw.normal(7.2, 1.3, 64 * 30))
    made = compare(costs.astype(int), costs, 8, 64)
    whole = with_corpus(made, costs, 8, 30)
    assert whole.times["corpus"] < 0.9 * made.times["lpt_cost"]
    assert whole.floor <= whole.times["corpus"]
    assert whole.best == "corpus"
    again = across(costs, 8, 30)
    assert (again.step_of == whole.deals["corpus"].step_of).all()
    assert set(again.step_of.tolist()) == set(range(30))


@pytest.mark.parametrize("seed", range(10))
def test_no_deal_of_a_corpus_is_below_its_floor(seed):
    draw = np.random.default_rng(seed)
    costs = draw.integers(1, 9, 6).astype(float)
    best = min(
        sequence_deal.time(Deal(np.array(place) // 2, np.array(place) % 2).loads(costs, 2))
        for place in product(range(4), repeat=6)
    )
    assert sequence_deal.floor_across(costs, 2) <= best
    assert sequence_deal.time(across(costs, 2, 2).loads(costs, 2)) >= best


def test_recorded_pieces_are_only_dealt_across_steps():
    tokens = np.array([64, 32, 32, 64])
    recorded = Deal(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    made = compare(tokens, tokens.astype(float), 2, 2, recorded)
    assert list(made.times) == ["recorded"]
    assert with_corpus(made, tokens.astype(float), 2, 2).times == {"recorded": 128.0, "corpus": 96.0}
