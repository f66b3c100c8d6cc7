"""Placements: the reference's numbers, hand-counted costs, brute force, bounds, and annealing."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from skewscope.optimize import layout
from skewscope.optimize.annealing import anneal

GB = 1e9
RACKS = np.where(np.equal.outer(np.arange(8) // 4, np.arange(8) // 4), 100 * GB, 10 * GB)
ALTERNATING = np.array([0, 4, 1, 5, 2, 6, 3, 7])  # every boundary between stages crosses, no gradients do


def drawn(seed, units=8, replicas=2, model="pipette", latency=False):
    draw = np.random.default_rng(seed)
    speed = draw.uniform(10, 100, (units, units)) * GB
    waits = draw.uniform(0, 0.02, (units, units)) if latency else None
    gradients = draw.uniform(0.5, 2, units // replicas) * GB
    return layout.job(speed, replicas, units // replicas, 1 * GB, gradients, waits, model)


def by_hand(it, order):
    """Count a placement's cost loop by loop."""
    grid = order.reshape(it.replicas, it.stages)

    def hand(a, b):
        return it.latency_s[a, b] + it.activation_bytes / it.speed[a, b]

    bounds = [(stage, stage + 1) for stage in range(it.stages - 1)]
    there = np.array([[hand(one[a], one[b]) for a, b in bounds] for one in grid])
    back = np.array([[hand(one[b], one[a]) for a, b in bounds] for one in grid])
    count, slowest = it.replicas, 0.0
    for stage in range(it.stages):
        group = grid[:, stage]
        if it.model == "pipette":
            ring = [(group[at], group[(at + 1) % count]) for at in range(count)]
            time = 2 * (count - 1) / count * it.gradient_bytes[stage] / min(it.speed[pair] for pair in ring)
            time += 2 * (count - 1) * max(it.latency_s[pair] for pair in ring)
        else:
            size = it.gradient_bytes[stage] / count
            time = max(sum(2 * (it.latency_s[a, b] + size / it.speed[a, b]) for b in group if b != a) for a in group)
        slowest = max(slowest, time)
    if it.model == "pipette":
        return (there + back).sum(axis=1).max() + slowest
    return there.max(axis=0).sum() + back.max(axis=0).sum() + slowest


def test_two_racks_as_in_the_reference():
    heavy = layout.job(RACKS, 2, 4, 0.1 * GB, 10 * GB)
    seconds = [float(heavy.seconds(one)) for one in (layout.exact(heavy), layout.contiguous(heavy), ALTERNATING)]
    assert seconds == pytest.approx([0.124, 1.006, 0.160])
    large = layout.job(RACKS, 2, 4, 5 * GB, 0.5 * GB)
    seconds = [float(large.seconds(one)) for one in (layout.exact(large), layout.contiguous(large), ALTERNATING)]
    assert seconds == pytest.approx([0.350, 0.350, 3.005])


@pytest.mark.parametrize("model", ["pipette", "dt-fm"])
def test_costs_are_those_counted_by_hand(model):
    for seed, (units, replicas) in enumerate([(8, 2), (6, 3), (6, 1), (4, 4), (12, 3)]):
        it = drawn(seed, units, replicas, model, latency=True)
        orders = np.array([np.random.default_rng(at).permutation(units) for at in range(5)])
        expected = [by_hand(it, one) if it.stages > 1 else None for one in orders]
        if it.stages > 1:
            assert it.seconds(orders) == pytest.approx(expected)
        else:
            assert (it.parts(orders)[0] == 0).all()


@pytest.mark.parametrize("model", ["pipette", "dt-fm"])
@pytest.mark.parametrize(("units", "replicas"), [(6, 2), (6, 3), (4, 4)])
def test_the_exact_answer_is_brute_force_and_never_below_the_bound(model, units, replicas):
    for seed in range(8):
        it = drawn(seed, units, replicas, model, latency=seed % 2 == 1)
        least = min(float(it.seconds(np.array(one))) for one in permutations(range(units)))
        assert float(it.seconds(layout.exact(it))) == pytest.approx(least)
        assert 0 < it.bound_s() <= least * (1 + 1e-12)


def test_random_links_annealing_finds_the_optimum():
    ratios = []
    for seed in range(4):
        speed = np.random.default_rng(seed).uniform(10, 100, (8, 8)) * GB
        it = layout.job((speed + speed.T) / 2, 2, 4, 1 * GB, 1 * GB)
        least = float(it.seconds(layout.exact(it)))
        made = anneal(it.seconds, layout.contiguous(it)[None], seed=seed, moves=500)
        assert made.cost == pytest.approx(least)
        assert float(it.seconds(made.order)) == made.cost
        draw = np.random.default_rng(seed)
        ratios.append(np.mean([it.seconds(draw.permutation(8)) for _ in range(100)]) / least)
    assert 1.4 < min(ratios) and max(ratios) < 1.9


def test_annealing_is_seeded_and_never_worse_than_its_start():
    it = drawn(5, 24, 4)
    start = layout.contiguous(it)
    one, two = (anneal(it.seconds, start[None], seed=3, moves=100) for _ in range(2))
    assert (one.order == two.order).all() and sorted(one.order) == list(range(24))
    assert one.cost <= float(it.seconds(start)) and (np.diff(one.best) <= 0).all()
    still = anneal(it.seconds, start[None], moves=0)
    assert still.cost == float(it.seconds(start))


def test_more_units_than_can_be_tried_are_refused():
    with pytest.raises(ValueError, match="10 units are too many"):
        layout.exact(drawn(0, 10, 2))
