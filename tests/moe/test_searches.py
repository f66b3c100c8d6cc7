"""Replicas, packing and local search, held against everything tried."""

import numpy as np
import pytest

from skewscope.errors import UsageError
from skewscope.moe.exact import best_of_all, best_of_counts, placements, proven_pairs, small
from skewscope.moe.pack import pack
from skewscope.moe.pairing import hottest_pair, paired_counts
from skewscope.moe.placement import balancedness, duplicates
from skewscope.moe.replicate import replicate
from skewscope.moe.swap import cool, even_out, of_slots

from ._brute import coolest, hottest, layouts, placed, shares_of_slots, skewed


@pytest.mark.parametrize("seed", range(6))
def test_replicas_make_the_heaviest_as_light_as_can_be(seed: int):
    loads = skewed(np.random.default_rng(seed), 3, 4)
    counts = replicate(loads, slots=8, most=3)
    assert (counts.sum(1) == 8).all() and counts.min() >= 1 and counts.max() <= 3
    for tokens, mine in zip(loads, counts, strict=True):
        assert (tokens / mine).max() == min((tokens / np.array(one)).max() for one in shares_of_slots(4, 8, 3))


def test_replicas_beyond_one_per_gpu_only_where_forced():
    assert replicate(np.array([[9.0, 1.0]]), slots=4, most=2).tolist() == [[2, 2]]
    assert replicate(np.array([[9.0, 1.0]]), slots=5, most=2).tolist() == [[3, 2]]
    with pytest.raises(UsageError, match="2 slots cannot hold 3 experts"):
        replicate(np.ones((1, 3)), 2, 2)


@pytest.mark.parametrize("seed", range(6))
def test_two_slots_are_packed_optimally_for_given_replicas(seed: int):
    tokens = skewed(np.random.default_rng(seed), 1, 5)
    counts = replicate(tokens, 8, 4)
    held = pack(tokens, counts, 4)[0]
    same = (one for one in layouts(5, 8, 4) if (np.bincount(one.ravel(), minlength=5) == counts[0]).all())
    assert hottest(held, tokens[0]) == min(hottest(one, tokens[0]) for one in same)


@pytest.mark.parametrize(("experts", "slots", "gpus"), [(16, 24, 8), (16, 32, 8), (20, 36, 12), (7, 12, 4)])
def test_packing_never_doubles_an_expert_on_a_gpu(experts: int, slots: int, gpus: int):
    loads = skewed(np.random.default_rng(1), 40, experts, sigma=1.5)
    counts = replicate(loads, slots, gpus)
    made = placed(pack(loads, counts, gpus), experts)
    assert not duplicates(made).any() and (made.replicas() == counts).all()


def test_exchanges_cool_without_doubling_or_losing_replicas():
    loads = skewed(np.random.default_rng(2), 30, 32, sigma=1.3)
    counts = replicate(loads, 40, 8)
    share, start = loads / counts, pack(loads, counts, 8)
    even = even_out(start, share[..., None])
    cooled = cool(even, share, loads.sum(1) / 8)
    scores = [balancedness(of_slots(share, held).sum(2)) for held in (start, even, cooled)]
    assert scores[0].mean() + 0.02 < scores[1].mean() < scores[2].mean()
    assert (scores[2] >= scores[1]).all()
    for held in (even, cooled):
        assert not duplicates(placed(held, 32)).any() and (placed(held, 32).replicas() == counts).all()


def test_a_row_that_is_cool_enough_is_left_alone():
    start = np.array([[[0, 1], [2, 3]], [[0, 1], [2, 3]]], np.int32)
    share = np.array([[4.0, 3.0, 2.0, 1.0]] * 2)
    assert cool(start, share, np.array([7.0, 5.0])).tolist() == [[[0, 1], [2, 3]], [[2, 1], [0, 3]]]


def test_evening_out_sees_features_the_sum_hides():
    rising = np.array([[[2.0, 1.0], [2.0, 1.0], [2.0, -1.0], [2.0, -1.0]]])
    held = even_out(np.array([[[0, 1], [2, 3]]], np.int32), rising)
    assert of_slots(rising, held).sum(2)[..., 1].tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("seed", range(8))
def test_counts_and_pairs_together_come_near_the_optimum(seed: int):
    loads = skewed(np.random.default_rng(seed), 4, 5, sigma=0.8)
    counts = paired_counts(loads, 8, 4)
    found, greedy = hottest_pair(loads, counts, 8), hottest_pair(loads, replicate(loads, 8, 4), 8)
    assert (counts.sum(1) == 8).all() and counts.min() >= 1 and (found <= greedy).all()
    best = np.array([min(float(hottest_pair(tokens[None], np.array([one]), 8)[0]) for one in shares_of_slots(5, 8, 4))
                     for tokens in loads])  # fmt: skip
    assert (found <= best * 1.05).all()


def test_counts_that_leave_light_partners_beat_the_highest_averages():
    loads = skewed(np.random.default_rng(3), 20, 64, sigma=0.6)
    gain = hottest_pair(loads, replicate(loads, 72, 36), 72) / hottest_pair(loads, paired_counts(loads, 72, 36), 72)
    assert gain.min() >= 1 and gain.mean() > 1.01


@pytest.mark.parametrize(("experts", "slots", "gpus"), [(4, 6, 3), (5, 8, 4), (4, 6, 2), (6, 6, 2)])
def test_all_placements_are_tried(experts: int, slots: int, gpus: int):
    loads = skewed(np.random.default_rng(experts), 4, experts)
    held, proven = best_of_all(loads, slots, gpus)
    assert proven.all() and placements(experts, slots, gpus) >= sum(1 for _ in layouts(experts, slots, gpus))
    for tokens, mine in zip(loads, held, strict=True):
        assert hottest(mine, tokens) == pytest.approx(coolest(tokens, slots, gpus), rel=1e-12)


def test_all_counts_are_tried_and_pairs_proven():
    loads = skewed(np.random.default_rng(5), 4, 5)
    held = best_of_counts(loads, 8, 4)
    assert [hottest(mine, tokens) for tokens, mine in zip(loads, held, strict=True)] == pytest.approx(
        [coolest(tokens, 8, 4) for tokens in loads]
    )
    assert proven_pairs(loads, held).tolist() == [True, True, True, False]  # the last would have to pair replicas
    worse = pack(loads, replicate(loads, 8, 4), 4)
    mends = np.array([hottest(one, tokens) for one, tokens in zip(worse, loads, strict=True)]) > np.array(
        [hottest(one, tokens) for one, tokens in zip(held, loads, strict=True)]
    )
    assert mends.any() and not proven_pairs(loads, worse)[mends].any()


def test_time_that_is_out_leaves_layers_untried():
    held, proven = best_of_all(np.ones((2, 4)), 4, 2, deadline=-np.inf)
    assert (held == -1).all() and not proven.any()
    assert (best_of_counts(np.ones((2, 4)), 6, 3, deadline=-np.inf) == -1).all()


def test_many_experts_are_not_searched():
    assert small(np.ones((1, 17)), 34, 17) is None
    found = small(np.ones((1, 8)), 16, 8)
    assert found is not None and found[1].all()
