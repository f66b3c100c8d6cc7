from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from skewscope.errors import UsageError
from skewscope.optimize import sequence_degrees
from skewscope.optimize.sequence_cost import Cost, preset
from skewscope.optimize.sequence_degrees import Devices, bound, cuts, layout, times
from skewscope.optimize.sequence_degrees_exact import exact


def brute_force(lengths, cost, devices):
    """Return the least time over all cuts and assignments, inf where memory lets none."""
    time, best = times(lengths, cost, devices), np.inf
    for cut in cuts(devices.count):
        row, room = np.log2(np.array(cut)).astype(int), np.array(cut) * devices.tokens
        for chosen in product(range(len(cut)), repeat=len(lengths)):
            group_of = np.array(chosen)
            if (np.bincount(group_of, lengths, len(cut)) <= room).all():
                each = time[row[group_of], np.arange(len(lengths))]
                best = min(best, np.bincount(group_of, each, len(cut)).max())
    return best


def drawn(seed):
    draw = np.random.default_rng(seed)
    lengths = np.round(np.exp(draw.normal(2, 1, draw.integers(1, 6)))) + 1
    tokens = float(draw.choice([np.inf, max(lengths.sum() / 4 * 1.3, lengths.max() / 4)]))
    cost = Cost(1.0, float(draw.choice([0.0, 0.05])))
    return lengths, cost, Devices(4, tokens, node=2, within_ratio=0.1, across_ratio=0.4)


@pytest.mark.parametrize("seed", range(40))
def test_the_program_is_optimal_and_bounds_hold(seed):
    lengths, cost, devices = drawn(seed)
    best, greedy, made = brute_force(lengths, cost, devices), layout(*drawn(seed)), exact(*drawn(seed))
    assert greedy.bound <= min(best, greedy.time) * (1 + 1e-9)
    if len(greedy.rounds) > 1:
        return  # did not fit at once by the greedy rule: left to rounds
    assert made.time == pytest.approx(best)
    assert made.optimal
    assert made.bound <= best * (1 + 1e-9)
    assert best <= greedy.time * (1 + 1e-12)


def test_the_program_beats_the_greedy_rule_somewhere():
    lengths = np.array([5.0, 5, 4, 4, 3, 3, 3])
    cost, devices = Cost(1.0, 0.0), Devices(3, within_ratio=10.0)  # splitting never pays: packing on three
    assert layout(lengths, cost, devices).time == pytest.approx(11.0)
    made = exact(lengths, cost, devices)
    assert (made.time, made.optimal) == (pytest.approx(9.0), True)
    assert np.bincount(made.group_of, lengths).tolist() == [9.0, 9.0, 9.0]


def test_a_layout_keeps_its_word():
    draw = np.random.default_rng(0)
    lengths = np.minimum(np.round(np.exp(draw.normal(7.2, 1.3, 200))), 131072)
    for count in (8, 16, 128):
        cost, devices = preset("causal", 4096), Devices(count, 16384)
        made = layout(lengths, cost, devices)
        each = times(lengths, cost, devices)[np.log2(made.degrees[made.group_of]).astype(int), np.arange(200)]
        ends, held = (np.bincount(made.group_of, one, len(made.degrees)) for one in (each, lengths))
        assert (held <= made.degrees * 16384).all()
        first = 0
        for one in made.rounds:
            assert one.degrees.sum() <= count
            assert ends[first : first + len(one.degrees)].max() == pytest.approx(one.time)
            first += len(one.degrees)
        assert made.time == pytest.approx(sum(one.time for one in made.rounds))
        assert made.bound <= made.time <= 1.15 * made.bound


def test_a_long_sequence_gets_more_devices_than_short_ones():
    lengths = np.array([30_000.0] + [1000.0] * 60)
    made = layout(lengths, preset("causal", 4096), Devices(8, within_ratio=0.3))
    degree = made.degrees[made.group_of]
    assert degree[0] == 4
    assert (degree[1:] == 1).mean() > 0.8
    assert layout(lengths, preset("causal", 4096), Devices(8, within_ratio=0.0)).time == pytest.approx(made.bound)


def test_memory_forces_a_split_and_rounds():
    cost, devices = Cost(1.0, 0.0), Devices(4, tokens=10.0, within_ratio=0.5)
    assert layout(np.array([35.0]), cost, devices).degrees.tolist() == [4]
    made = layout(np.array([20.0, 20.0, 20.0, 20.0]), cost, devices)
    assert len(made.rounds) == 2 and made.time == pytest.approx(2 * 20 * 1.5 / 2)
    with pytest.raises(UsageError, match="fits not even on all 4 devices"):
        layout(np.array([41.0]), cost, devices)


def test_all_cuts_are_there_once():
    assert [len(cuts(count)) for count in (1, 2, 4, 8, 16, 32)] == [1, 2, 4, 10, 36, 202]
    assert len(set(cuts(16))) == 36
    assert {sum(cut) for cut in cuts(12)} == {12}


def test_climbing_is_nearly_as_good_as_trying_all(monkeypatch):
    draw = np.random.default_rng(1)
    for _ in range(10):
        lengths = np.minimum(np.round(np.exp(draw.normal(7.2, 1.3, 64))), 65536)
        tried = layout(lengths, preset("causal", 4096), Devices(16))
        monkeypatch.setattr(sequence_degrees, "ENUMERATED", 1)
        climbed = layout(lengths, preset("causal", 4096), Devices(16))
        monkeypatch.undo()
        assert climbed.time <= 1.05 * tried.time


def test_the_bound_knows_the_longest_and_the_work():
    time = times(np.array([8.0, 1.0]), Cost(1.0, 0.0), Devices(4, within_ratio=0.0))
    assert bound(time, Devices(4)) == pytest.approx(9 / 4)
    assert bound(time[:1], Devices(1)) == 9.0
