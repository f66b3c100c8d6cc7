"""What else is done with placements: renaming, several workloads, few copies, free splits, affinity, redundancy."""

from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skewscope.errors import UsageError
from skewscope.moe import affinity, robust
from skewscope.moe.incremental import Change, few_moves
from skewscope.moe.migration import migration
from skewscope.moe.pack import pack
from skewscope.moe.placement import Placement, balancedness
from skewscope.moe.planner import plan
from skewscope.moe.redundancy import GIB, redundancy
from skewscope.moe.renaming import renamed
from skewscope.moe.replicate import replicate
from skewscope.moe.split import free_split

from ._brute import placed, skewed


def reordered(made: Placement, order: tuple[int, ...]) -> Placement:
    return Placement(made.by_gpu()[:, list(order)].reshape(made.slots.shape), made.gpus, made.experts, made.nodes)


@pytest.mark.parametrize(("nodes", "seed"), [(1, 0), (1, 1), (2, 2), (2, 3)])
def test_renaming_takes_the_fewest_copies(nodes: int, seed: int):
    rng = np.random.default_rng(seed)
    now, later = (Placement(np.stack([rng.permutation(12)]), 4, 12, nodes) for _ in range(2))
    made = renamed(now, later)
    whole = [one for one in permutations(range(4)) if nodes == 1 or {one[0] // 2, one[1] // 2} in ({0}, {1})]
    fewest = min(int(migration(now, reordered(later, one)).copies[0]) for one in whole)
    assert migration(now, made).copies.tolist() == [fewest]
    loads = skewed(rng, 1, 12)
    assert sorted(made.gpu_loads(loads)[0]) == pytest.approx(sorted(later.gpu_loads(loads)[0]))
    assert (made.slots != now.slots).sum() == migration(now, made).copies.sum()  # who stays keeps its slot


def test_placements_of_other_sizes_are_not_renamed():
    later = Placement(np.array([[0, 1, 2, 3]]), 4, 4)
    assert renamed(Placement(np.array([[0, 1, 2, 3]]), 2, 4), later) is later


def qwen_like(seed: int, size: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Return two halves of unlike workloads [K, L, E], each in units of its mean GPU of 12."""
    rng = np.random.default_rng(seed)
    layers, experts = 12, 60
    sigma = np.linspace(0.6, 1.4, layers)[:, None]
    logits = sigma * rng.standard_normal((layers, experts)) + 0.9 * rng.standard_normal((size, layers, experts))
    share = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    first, second = (rng.multinomial(40_000, share / share.sum(-1, keepdims=True)) for _ in range(2))
    return robust.scaled(first, 12), robust.scaled(second, 12)


def test_a_robust_plan_holds_where_pooled_counts_do_not():
    planned, later = qwen_like(0)
    weights = np.full(4, 0.25)
    pooled = plan(planned.sum(0) * 1000, slots=72, gpus=12).placement
    made = placed(robust.robust(planned, 72, 12, weights), 60)
    scores = [np.mean([balancedness(one.gpu_loads(load)).mean() for load in later]) for one in (pooled, made)]
    assert scores[0] < 0.75 and scores[1] > 0.88


def test_calming_lowers_the_sum_of_the_hottest_and_ends():
    planned, _ = qwen_like(1)
    weights = np.array([0.4, 0.3, 0.2, 0.1])
    counts = replicate(planned.max(0), 72, 12)
    start = pack(planned.mean(0), counts, 12)
    share = np.moveaxis(planned, 0, -1) / counts[..., None]
    made = robust.calm(start, share, weights)
    before, after = (robust.hottest(held, share, weights) for held in (start, made))
    assert (after <= before).all() and after.mean() < 0.9 * before.mean()
    assert (placed(made, 60).replicas() == counts).all()
    assert (robust.calm(made, share, weights) == made).all()
    blocks = robust.calm(start[:3], share[:3], weights)
    assert (blocks == made[:3]).all()  # a row does not depend on the others


def test_few_copies_are_the_best_ones():
    # expert 0 has 6 of 12 tokens: writing it over the spare replica of 3 halves it, 1 copy; no exchange does as much
    held = np.array([[[0, 1], [2, 3], [3, 4]]], np.int32)
    loads = np.array([[6.0, 1.5, 1.5, 1.0, 2.0]])[..., None] / 4
    made = few_moves(held, loads, np.ones(1), Change(copies=1))
    assert np.flatnonzero(made.ravel() != held.ravel()).tolist() in ([3], [4]) and 0 in made[0, 1:]
    assert (few_moves(held, loads, np.ones(1), Change(copies=0)) == held).all()
    assert (few_moves(held, loads, np.ones(1), Change(copies=9, least_gain=5.0)) == held).all()


def test_a_replica_that_is_double_on_its_gpu_is_the_first_to_be_written_over():
    held = np.array([[[0, 1], [2, 2], [3, 4]]], np.int32)
    loads = np.array([[4.0, 1.0, 2.0, 1.0, 1.0]])[..., None] / 3
    made = few_moves(held, loads, np.ones(1), Change(copies=1))
    assert sorted(made[0, 1].tolist()) == [0, 2]


def test_exchanges_stay_within_nodes_where_asked():
    rng = np.random.default_rng(3)
    loads = skewed(rng, 5, 16)
    held = np.tile(np.arange(16, dtype=np.int32).reshape(4, 4), (5, 1, 1))
    unit = (loads / loads.sum(1, keepdims=True) * 4)[..., None]
    made = few_moves(held, unit, np.ones(1), Change(copies=8, nodes=2))
    assert (np.sort(made.reshape(5, 2, 8), axis=2) == np.arange(16).reshape(2, 8)).all() and (made != held).any()


@pytest.mark.parametrize("seed", range(5))
def test_a_free_split_is_as_even_as_halls_condition_allows(seed: int):
    rng = np.random.default_rng(seed)
    loads = skewed(rng, 2, 6, sigma=1.5)
    made = plan(loads, slots=9, gpus=3).placement
    found = free_split(loads, made)
    for layer, tokens in enumerate(loads):
        homes = [{int(gpu) for gpu in np.flatnonzero((made.by_gpu()[layer] == expert).any(1))} for expert in range(6)]
        sets = [one for size in range(1, 7) for one in combinations(range(6), size)]
        dual = max(tokens[list(one)].sum() / len(set().union(*(homes[expert] for expert in one))) for one in sets)
        assert found.hottest[layer] == pytest.approx(dual)
        tight = found.experts[layer]
        assert tokens[list(tight)].sum() / len(found.gpus[layer]) == pytest.approx(dual)
        assert {gpu for expert in tight for gpu in homes[expert]} == set(found.gpus[layer])
    by_gpu = found.slot_tokens.reshape(2, 3, 3).sum(2)
    assert by_gpu.max(1) == pytest.approx(found.hottest) and found.slot_tokens.sum(1) == pytest.approx(loads.sum(1))
    assert (found.balance >= balancedness(made.gpu_loads(loads)) - 1e-9).all()
    assert "live only on GPUs" in found.said(0)


def test_a_layer_without_tokens_needs_no_split():
    found = free_split(np.zeros((1, 2)), Placement(np.array([[0, 1]]), 2, 2))
    assert found.balance.tolist() == [1.0] and found.experts == ((),) and found.gpus == ((),)


def all_homes(experts: int, gpus: int) -> list[np.ndarray]:
    return [np.array(one) for one in set(permutations(np.repeat(np.arange(gpus), experts // gpus)))]


@pytest.mark.parametrize("seed", range(4))
def test_affinity_comes_near_the_best_of_all(seed: int):
    rng = np.random.default_rng(seed)
    pairs = rng.poisson(20 * np.exp(rng.standard_normal((1, 6, 6)))).astype(float)
    made = affinity.place(pairs, np.ones((2, 6)), gpus=3)
    best = max(float(pairs[0][one[:, None] == other].sum()) for one in all_homes(6, 3) for other in all_homes(6, 3))
    assert affinity.local_shares(pairs, made)[0] * pairs.sum() >= 0.93 * best


def test_a_limit_on_load_is_kept_at_the_price_of_locality():
    rng = np.random.default_rng(9)
    loads = skewed(rng, 4, 32, 0.7)
    pairs = rng.poisson(np.exp(1.5 * rng.standard_normal((3, 32, 32))) * loads[:3, :, None] / 50).astype(float)
    even = plan(loads, slots=32, gpus=4).placement
    points = affinity.frontier(pairs, loads, 4, limits=[1.5, 1.05, 1.2], even=even)
    assert np.isnan(points[0].limit) and [point.limit for point in points[1:]] == [1.05, 1.2, 1.5]
    assert points[0].balance == pytest.approx(float(balancedness(even.gpu_loads(loads)).mean()))
    assert points[0].local_share > affinity.local_shares(pairs, even)[0]
    shares = [point.local_share for point in points]
    assert shares == sorted(shares) and shares[-1] > 0.25 + 0.05
    for point in points[1:]:
        hottest = point.placement.gpu_loads(loads).max(1) / loads.sum(1) * 4
        assert (hottest <= point.limit + 1e-9).all() and point.hottest_ratio == pytest.approx(hottest.mean())


def test_nodes_are_filled_before_gpus():
    block = np.kron(np.eye(2), np.full((8, 8), 3.0)) + np.kron(np.eye(4), np.full((4, 4), 5.0)) + 0.1
    scramble = np.random.default_rng(0).permutation(16)
    pairs = np.stack([block[:, scramble], block[scramble]])
    made = affinity.place(pairs, np.ones((3, 16)), gpus=4, nodes=2)
    local, near = affinity.local_shares(pairs, made)
    assert near == pytest.approx(128 * (3.1 + 8.1) / 2 / block.sum())
    assert local == pytest.approx(64 * 8.1 / block.sum())


def test_pairs_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match=r"\[1, 4, 4\] are wanted"):
        affinity.place(np.ones((2, 4, 4)), np.ones((2, 4)), 2)
    with pytest.raises(UsageError, match="4 experts must spread evenly over 3 GPUs"):
        affinity.place(np.ones((1, 4, 4)), np.ones((2, 4)), 3)


def test_affinity_of_a_real_model(shared: Path):
    """OLMoE, layers 0, 7, 15: a tenth above even load at most, a quarter of pairs stay; an eighth would by chance."""
    folder = shared / "moe-olmoe"
    pairs, loads = pd.read_csv(folder / "crosslayer_counts.csv.gz"), pd.read_csv(folder / "expert_counts.csv")
    pairs = pairs[(pairs.model == "olmoe-1b-7b") & (pairs["mode"] == "topk")]
    loads = loads[(loads.model == "olmoe-1b-7b") & (loads["mode"] == "topk") & loads.domain.isin(pairs.domain.unique())]
    counts, tokens = np.zeros((2, 64, 64)), np.zeros((3, 64))
    np.add.at(counts, (pairs.layer_a.map({0: 0, 7: 1}), pairs.expert_a, pairs.expert_b), pairs["count"])
    np.add.at(tokens, (loads.layer.map({0: 0, 7: 1, 15: 2}), loads.expert), loads["count"])
    made = affinity.frontier(counts, tokens, 8, limits=[1.1, np.inf], even=plan(tokens, slots=64, gpus=8).placement)
    assert made[0].balance > 0.998 and made[0].local_share > 0.135
    assert made[1].hottest_ratio <= 1.1 and made[1].local_share > 0.23
    assert made[2].local_share > 0.25


def test_redundancy_by_hand():
    even = np.array([[[5, 1], [5, 1]]])
    found = redundancy(even, 2, [0, 1, 2], expert_bytes=2 * GIB, later=even.sum(0))
    assert [one.slots for one in found] == [2, 4, 6]
    assert [one.gpu_gib for one in found] == [0.0, 4.0, 8.0]
    assert [one.plan_balance for one in found] == pytest.approx([0.6, 1.0, 1.0])
    assert [one.bound_balance for one in found] == pytest.approx([0.6, 1.0, 1.0])
    assert [one.later_balance for one in found] == [one.plan_balance for one in found]
    assert np.isnan(redundancy(even, 2, [0], 1.0)[0].later_balance)
