"""Drift, changes and bursts: found where they are, and not found where chance is all there is."""

from __future__ import annotations

import numpy as np
import pytest

from skewscope.moe import drift, noise
from skewscope.moe.placement import Placement


def series(shares, picks=20000, seed=1):
    """Return loads [T, 1, E] of these shares, one step each."""
    rng = np.random.default_rng(seed)
    return np.array([[rng.multinomial(picks, share)] for share in shares])


def two(experts=64, seed=2):
    return np.random.default_rng(seed).dirichlet(np.full(experts, 1.0), size=2)


def load(shared, name):
    return np.load(shared / f"moe-synth/{name}.npz")["counts"]


def test_windows_are_cut_and_summed():
    counts = np.arange(10)[:, None, None]
    edges = drift.cut(10, 4)
    assert edges.tolist() == [0, 2, 5, 7, 10]
    assert drift.summed(counts, edges).ravel().tolist() == [1, 9, 11, 24]
    assert drift.cut(3, 8).tolist() == [0, 1, 2, 3]


def test_the_same_workload_has_no_drift_beyond_chance():
    same, _ = two()
    found = drift.drift(series([same] * 32), drift.cut(32, 4))
    assert np.abs(found.bits).max() < 0.0002 and found.floor.min() > 0 and found.overlap.min() > 0.8


def test_a_change_is_found_at_its_step_and_once():
    one, other = two()
    found = drift.changes(series([one] * 13 + [other] * 15))
    assert [change.place for change in found] == [13] and found[0].bits > 0.2 and found[0].worst_layer == 0


def test_two_changes_are_two():
    one, other = two()
    assert [change.place for change in drift.changes(series([one] * 12 + [other] * 12 + [one] * 12))] == [12, 24]


def test_few_experts_are_not_judged_by_divergence():
    one, other = two(experts=8)
    assert drift.changes(series([one] * 12 + [other] * 12)) == []
    assert drift.bursts(series([one] * 12 + [other] * 3 + [one] * 12)) == []


def test_long_series_are_searched_in_sums():
    one, other = two()
    (found,) = drift.changes(series([one] * 1500 + [other] * 1500, picks=2000))
    assert abs(found.place - 1500) <= 3000 // (2 * drift.MOST_PLACES)


def test_bursts_are_spans_and_no_change():
    one, other = two()
    shares = [one] * 9 + [0.7 * one + 0.3 * other] * 3 + [one] * 20
    counts = series(shares)
    assert drift.changes(counts) == [] and drift.bursts(counts) == [(9, 11)]


def test_the_shift_is_named_at_step_16(shared):
    counts = load(shared, "dsv3_shift")
    deff = noise.design_effect(counts)
    (change,) = drift.changes(counts, deff)
    assert change.place == 16 and change.bits == pytest.approx(0.072, abs=0.002)
    assert drift.bursts(counts, deff, [16]) == []


def test_bursts_and_drift_of_the_others(shared):
    found = {}
    for name in ("dsv3_uniform", "dsv3_r1-like", "dsv3_burst", "qwen3-235b_mild"):
        counts = load(shared, name)
        deff = noise.design_effect(counts)
        assert drift.changes(counts, deff) == [], name
        found[name] = drift.bursts(counts, deff)
        moved = drift.drift(counts, drift.cut(len(counts), 2), deff).bits.mean()
        limit = {"dsv3_burst": drift.WARN_BITS}.get(name, drift.SAME_BITS)
        assert -0.0001 < moved < limit, name
    assert found == {"dsv3_uniform": [], "dsv3_r1-like": [], "dsv3_burst": [(5, 10), (23, 25)], "qwen3-235b_mild": []}


def test_a_plan_grows_stale():
    placed = Placement(np.array([[0, 1, 2, 3]]), gpus=2, experts=4)
    planned, now = np.array([[5, 5, 6, 4]]), np.array([[9, 7, 2, 2]])
    assert drift.staleness(placed, planned, now).tolist() == [pytest.approx(10 / 16)]
    assert drift.change_since(1000 * planned, 1000 * planned).tolist() == [0]
    assert drift.change_since(1000 * planned, 1000 * now)[0] == pytest.approx(
        noise.divergence(planned, now)[0], abs=1e-4
    )
