"""Pipeline schedules: simulated bubbles and activations against the closed formulas, and uneven stages."""

from __future__ import annotations

import numpy as np
import pytest

from skewscope.errors import UsageError
from skewscope.optimize import (
    bubbles,
    schedule_1f1b,
    schedule_blocks,
    schedule_gpipe,
    schedule_interleaved,
    schedule_listed,
    schedule_v,
    schedule_waves,
    schedules,
)
from skewscope.optimize import schedule_zero_bubble as zero_bubble
from skewscope.optimize.bubbles import Shape
from skewscope.optimize.pipeline_run import Op, Schedule, even, least_s, run
from skewscope.optimize.skip import counts, skipped

SIZES = [(2, 8), (3, 6), (4, 16), (8, 32), (5, 5)]


def follows(schedule, made):
    """Tell whether the run has every pass once and nothing before what it needs: checked apart from the simulator."""
    end = {op: stop for spans in made.spans for _, stop, op in spans}
    start = {op: begin for spans in made.spans for begin, _, op in spans}
    stages = len(schedule.device_of) // schedule.paths
    for op, begin in start.items():
        if op.kind == "F":
            needs = [Op("F", op.stage - 1, op.microbatch)] if op.stage % stages else []
        elif op.kind == "B":
            needs = [Op("F", op.stage, op.microbatch)]
            needs += [Op("B", op.stage + 1, op.microbatch)] if op.stage % stages < stages - 1 else []
        else:
            needs = [Op("B", op.stage, op.microbatch)]
        if op.stage // stages != op.microbatch % schedule.paths or any(end[one] > begin + 1e-9 for one in needs):
            return False
    return len(start) == stages * schedule.microbatches * (3 if schedule.split else 2)


@pytest.mark.parametrize(("devices", "microbatches"), SIZES)
@pytest.mark.parametrize("backward", [1.0, 2.0, 2.5])
def test_even_stages_give_the_formulas(devices, microbatches, backward):
    shape = Shape(devices, microbatches, 1.0, backward)
    times = even(devices, microbatches, 1.0, backward)
    found = {name: run(schedules.order(name, shape), times) for name in ("gpipe", "1f1b", "zb-h1", "zb-h2")}
    usual = bubbles.one_forward_one_backward_s(shape)
    assert found["gpipe"].bubble_s == pytest.approx(usual)
    assert found["1f1b"].bubble_s == pytest.approx(usual)
    assert found["1f1b"].ideal_ratio == pytest.approx((devices - 1) / microbatches)
    ideal, total = found["1f1b"].ideal_ratio, found["1f1b"].total_ratio
    assert total == pytest.approx(ideal / (1 + ideal))
    assert total == pytest.approx((devices - 1) / (microbatches + devices - 1))
    if backward <= 2:  # the formula holds where no part of the backward is longer than the forward
        assert found["zb-h1"].bubble_s == pytest.approx(bubbles.zb_h1_s(shape))
    else:
        assert found["zb-h1"].bubble_s > bubbles.zb_h1_s(shape)
    for chunks in (2, 3):
        if microbatches % devices == 0:
            order = schedule_interleaved.schedule(devices, microbatches, chunks)
            made = run(order, even(devices * chunks, microbatches, 1 / chunks, backward / chunks))
            assert made.bubble_s == pytest.approx(bubbles.interleaved_s(shape, chunks))
            assert follows(order, made)


@pytest.mark.parametrize(("devices", "microbatches"), [(2, 8), (4, 16), (8, 32)])
def test_zero_bubble_two_has_none_in_its_own_spans_and_some_until_the_last_device(devices, microbatches):
    order = zero_bubble.h2(devices, microbatches)
    made = run(order, even(devices, microbatches, 1.0, 2.0))
    assert made.own_bubble_s == pytest.approx(np.zeros(devices))
    assert made.makespan_s == pytest.approx(3 * microbatches + devices - 1)
    assert made.bubble_s == pytest.approx(bubbles.zb_h2_s(Shape(devices, microbatches, 1.0, 2.0)))
    assert order.peaks().max() == 2 * devices - 1
    assert follows(order, made)


@pytest.mark.parametrize(("devices", "microbatches"), [(1, 4), (2, 8), (3, 9), (4, 16), (5, 20), (8, 32), (4, 3)])
def test_zb_v_ends_as_early_as_its_placement_allows_or_a_pass_later(devices, microbatches):
    order = schedule_v.schedule(devices, microbatches)
    made = run(order, even(2 * devices, microbatches, 0.5, 1.0))
    least = 3 * microbatches + (devices - 1) / 2
    if microbatches >= devices:
        assert least <= made.makespan_s <= least + 0.5
    assert order.peaks().max() <= devices
    assert follows(order, made)


def test_peak_activations():
    assert schedule_gpipe.schedule(4, 16).peaks().tolist() == [16] * 4
    assert schedule_1f1b.schedule(4, 16).peaks().tolist() == [4, 3, 2, 1]
    assert schedule_1f1b.schedule(4, 2).peaks().tolist() == [2, 2, 2, 1]
    assert schedule_interleaved.schedule(4, 16, 2).peaks()[0] == 4 + 3 / 2
    assert schedule_interleaved.schedule(4, 16, 3).peaks()[0] == pytest.approx(4 + 3 / 3)
    assert zero_bubble.h1(4, 16).peaks().tolist() == [4] * 4
    held = schedule_1f1b.schedule(4, 16).peaks(np.array([10.0, 1, 1, 5]))
    assert held.tolist() == [40, 3, 2, 5]


def test_one_stage_half_as_slow_again():
    stage = np.array([1, 1, 1.5, 1])
    made = run(schedule_1f1b.schedule(4, 16), even(4, 16, stage, 2 * stage))
    assert made.makespan_s == 79.5
    assert run(schedule_1f1b.schedule(4, 16), even(4, 16, 1.0, 2.0)).makespan_s == 57.0
    assert made.makespan_s / 57 == pytest.approx(1.395, abs=5e-4)
    split = bubbles.split(made.makespan_s, run(schedule_1f1b.schedule(4, 16), even(4, 16, 1.125, 2.25)).makespan_s, 54)
    assert split.structural_s + split.imbalance_s == pytest.approx(made.bubble_s)
    assert split.structural_s == pytest.approx(3 * 3.375)


def test_uneven_stages_stay_within_the_bounds():
    draw = np.random.default_rng(3)
    for _ in range(60):
        devices, microbatches = int(draw.integers(2, 7)), int(draw.integers(1, 13))
        forward, backward = draw.uniform(0.2, 3, (2, devices))
        least, most = bubbles.bounds_s(forward + backward, microbatches)
        made = run(schedule_1f1b.schedule(devices, microbatches), even(devices, microbatches, forward, backward))
        assert least * (1 - 1e-12) <= made.makespan_s <= most * (1 + 1e-12)


def test_transfers_are_waited_for_between_devices_only():
    order = schedule_1f1b.schedule(2, 1)
    assert run(order, even(2, 1, 1.0, 2.0, transfer_s=0.5)).makespan_s == 7
    # Three steps forward and three back, of which only two each leave a device; then the last weights.
    assert run(schedule_v.schedule(2, 1), even(4, 1, 0.5, 1.0, transfer_s=1.0)).makespan_s == 2 + 2 + 2 + 2 + 0.5


def test_an_order_that_waits_for_itself_is_told():
    order = Schedule("bad", [[Op("B", 0, 0), Op("F", 0, 0)]], np.array([0]), 1)
    with pytest.raises(ValueError, match="bad: device 0 waits for ever"):
        run(order, even(1, 1, 1.0, 1.0))


def test_every_schedule_is_compared_and_it_is_said_whose_order_it_is():
    rows = {one.name: one for one in schedules.compare(np.ones(4), 2 * np.ones(4), Shape(4, 16, 1.0, 2.0))}
    ours = {name for name, one in rows.items() if one.order == schedules.OURS}
    assert ours == {"zb-v", "hanayo", "chimera", "bitpipe", "zeropp"}
    assert all(one.simulated and one.least_s <= one.makespan_s for one in rows.values())
    assert all(max(one.peaks) == one.peak_activations and len(one.peaks) == 4 for one in rows.values())
    assert rows["hanayo"].formula_ratio == pytest.approx(6 / 27)
    assert rows["chimera"].formula_ratio == pytest.approx(2 / 34)
    assert rows["bitpipe"].formula_ratio == pytest.approx(2 / 66)
    assert np.isnan(rows["zeropp"].formula_ratio)
    for name in ("1f1b", "gpipe", "interleaved"):
        assert rows[name].total_ratio == pytest.approx(rows[name].formula_ratio)
    assert {name: one.weights for name, one in rows.items() if one.weights != 1} == {
        "chimera": 2, "bitpipe": 2, "zeropp": 1 / 8 + 1 / 2,
    }  # fmt: skip
    odd = {one.name: one for one in schedules.compare(np.ones(4), np.ones(4), Shape(4, 15, 1.0, 1.0))}
    assert not odd["interleaved"].simulated and np.isnan(odd["interleaved"].makespan_s)
    assert all(one.simulated for name, one in odd.items() if name != "interleaved")
    with pytest.raises(UsageError, match="no multiple of 4"):
        schedule_interleaved.schedule(4, 15)
    with pytest.raises(KeyError):
        schedules.order("none", Shape(4, 16, 1.0, 2.0))


def played(name, devices, microbatches, backward):
    """Return the order and its run with even stages, forward 1."""
    shape = Shape(devices, microbatches, 1.0, backward)
    order, level = schedules.order(name, shape), np.ones(devices)
    return order, schedules.simulate(order, level, backward * level, shape)


@pytest.mark.parametrize("name", ["hanayo", "chimera", "bitpipe", "zeropp"])
@pytest.mark.parametrize(("devices", "microbatches"), [*SIZES, (1, 3), (4, 3), (3, 7), (6, 1)])
@pytest.mark.parametrize("backward", [1.0, 2.0, 2.5])
def test_our_orders_have_every_pass_once_and_hold_no_more_than_1f1b(name, devices, microbatches, backward):
    order, made = played(name, devices, microbatches, backward)
    assert follows(order, made)
    assert order.peaks().max() <= devices
    assert made.busy_s.sum() == pytest.approx(devices * microbatches * (1 + backward))
    if order.paths == 1:
        assert made.busy_s == pytest.approx(np.full(devices, microbatches * (1 + backward)))


def test_no_run_is_below_the_busiest_device_or_the_longest_chain():
    draw = np.random.default_rng(5)
    for _ in range(25):
        devices, microbatches = int(draw.integers(1, 6)), int(draw.integers(1, 11))
        forward, backward, speeds = draw.uniform(0.2, 3, (3, devices))
        shape = Shape(devices, microbatches, forward.mean(), backward.mean(), draw.uniform(0.2, 0.8))
        transfer_s = draw.uniform(0, 0.3)
        for one in schedules.compare(forward, backward, shape, transfer_s, speeds):
            assert not one.simulated or one.least_s <= one.makespan_s * (1 + 1e-12)
            if one.simulated and devices == 1:
                assert one.least_s == pytest.approx(one.makespan_s)
            if one.simulated and microbatches == 1 and one.name in ("1f1b", "gpipe", "chimera", "hanayo"):
                assert one.least_s == pytest.approx(one.makespan_s)


def test_the_bound_by_hand():
    line = Schedule("line", [[], []], np.array([0, 1, 1, 0]), 2, split=True)
    times = even(4, 2, 1.0, 4.0, transfer_s=0.25)
    assert least_s(line, times) == 20.0  # two microbatches, two chunks of 1 + 4 s
    assert least_s(line, even(4, 2, 1.0, 4.0, transfer_s=9.0)) == 4 + 8 + 4 * 9 + 2  # F, B, four transfers, W
    two = Schedule("two", [[], []], np.array([0, 1, 1, 0]), 2, paths=2)
    assert least_s(two, even(4, 2, np.array([1.0, 2, 3, 4]), 0.0)) == 7  # microbatch 1: 3 on device 1, then 4
    one = Schedule("one", [[], []], np.array([0, 1, 1, 0]), 1, paths=2)
    assert least_s(one, even(4, 1, np.array([1.0, 2, 9, 9]), 0.0)) == 3  # nobody takes the second path


@pytest.mark.parametrize(("devices", "microbatches"), [(2, 4), (4, 4), (4, 8), (4, 16), (6, 12), (8, 8), (8, 32)])
@pytest.mark.parametrize("name", ["chimera", "bitpipe"])
def test_two_directions_give_the_formula_with_equal_passes_and_not_less_with_longer_backwards(
    name, devices, microbatches
):
    ratio = {"chimera": bubbles.chimera_ratio, "bitpipe": bubbles.bitpipe_ratio}[name](devices, microbatches)
    assert played(name, devices, microbatches, 1.0)[1].total_ratio == pytest.approx(ratio)
    longer = played(name, devices, microbatches, 2.0)[1].total_ratio
    assert ratio - 1e-12 <= longer <= (devices - 1) / (microbatches + devices - 1)


def test_how_far_our_two_directions_are_from_the_formula():
    found = {name: played(name, 8, 32, 2.0)[1].total_ratio for name in ("chimera", "bitpipe")}
    assert found == {"chimera": pytest.approx(12 / 108), "bitpipe": pytest.approx(11.5 / 107.5)}
    odd = played("chimera", 5, 10, 1.0)[1].total_ratio
    assert odd > 1.5 * bubbles.chimera_ratio(5, 10)


@pytest.mark.parametrize("waves", [1, 2, 3])
@pytest.mark.parametrize(("devices", "microbatches"), [(2, 4), (4, 4), (4, 16), (8, 8), (8, 16)])
def test_waves_divide_the_bubble(devices, microbatches, waves):
    order = schedule_waves.schedule(devices, microbatches, 1.0, 1.0, waves)
    chunks = 2 * waves
    made = run(order, even(devices * chunks, microbatches, 1 / chunks, 1 / chunks))
    assert made.bubble_s == pytest.approx((devices - 1) / waves)
    order = schedule_waves.schedule(devices, devices, 1.0, 2.0, waves)
    made = run(order, even(devices * chunks, devices, 1 / chunks, 2 / chunks))
    assert made.total_ratio <= bubbles.hanayo_ratio(devices, waves) <= made.ideal_ratio * (1 + 1e-9)


def test_blocks_share_their_gathers():
    order, made = played("zeropp", 4, 16, 2.0)
    assert made.makespan_s == 49.5 < 57  # 1F1B's
    found = schedule_blocks.gathers(order)
    count = 0
    for one in order.orders:
        wanted = [op.stage for op in one if op.kind != "W"]
        count = max(count, 1 + sum(a != b for a, b in zip(wanted, wanted[1:], strict=False)))
    assert found == count / 2
    assert 4 * 1.5 <= found < 16  # units of 4 need 1.5 each at least; a gather per microbatch and pass would be 2 x 16
    assert schedule_blocks.weights(4, 2) == 0.75


def test_a_copy_takes_the_time_of_its_stage_on_its_own_device():
    shape = Shape(4, 8, 1.25, 2.5)
    order, slow = schedules.order("chimera", shape), np.array([2.0, 1, 1, 1])
    layers = schedules.simulate(order, slow, 2 * slow, shape)
    assert layers.busy_s.tolist() == [36, 24, 24, 36]  # the heavy stage has copies on both outer devices
    device = schedules.simulate(order, slow, 2 * slow, shape, speeds=1 / slow)
    assert device.busy_s.tolist() == [48, 24, 24, 24]


@pytest.mark.parametrize("most", [1, 4, 5, 6, 9])
@pytest.mark.parametrize("rank", [schedule_listed.oldest, schedule_listed.forward_first])
def test_however_few_activations_no_order_waits_for_itself(most, rank):
    placed = schedule_listed.Placed("tight", np.tile([0, 1, 2, 2, 1, 0], 2), 9, most)
    made = schedule_listed.schedule(placed, {"F": 1.0, "B": 2.0}, rank)
    assert follows(made, run(made, even(12, 9, 1.0, 2.0)))
    assert made.peaks().max() * 4 <= max(most, 4)


def test_the_shortest_of_four_orders_is_taken():
    placed = schedule_listed.Placed("x", np.array([0, 1, 2, 3, 3, 2, 1, 0]), 16, 4, paths=2)
    tried = [
        run(schedule_listed.schedule(placed, seconds, rank), even(8, 16, 1.0, 2.0)).makespan_s
        for rank in (schedule_listed.oldest, schedule_listed.forward_first)
        for seconds in ({"F": 1.0, "B": 2.0}, {"F": 1.5, "B": 1.5})
    ]
    assert len(set(tried)) > 1
    assert run(schedule_listed.shortest(placed, 1.0, 2.0), even(8, 16, 1.0, 2.0)).makespan_s == min(tried)


def test_skipping_unloads_the_slow_stage_and_spares_the_outer_ones():
    assert counts(np.array([9.0, 1, 1, 9]), 8, 0.5).tolist() == [0, 0, 0, 0]
    slow = np.array([1.0, 1, 2, 1])
    order, times = schedule_1f1b.schedule(4, 16), even(4, 16, slow, 2 * slow)
    made = skipped(order, times, 0.1)
    assert made.counts.tolist() == [0, 0, 6, 0]  # a tenth of 64 passes
    assert made.makespan_s < run(order, times).makespan_s
    best = min(
        max(slow[2] * (16 - a), slow[1] * (16 - b), 16) for a in range(9) for b in range(9) if a + b <= 6
    )  # fmt: skip
    assert (slow * (16 - made.counts)).max() == best


def test_skips_go_where_they_help_most():
    for seed in range(20):
        draw = np.random.default_rng(seed)
        stage = draw.uniform(1, 3, 4)
        made = counts(stage, 8, 0.15)  # 4 of 32 passes
        able = [(0, a, b, 0) for a in range(5) for b in range(5) if a + b <= 4]
        least = min((stage * (8 - np.array(one))).max() for one in able)
        assert (stage * (8 - made)).max() == pytest.approx(least)
        assert made.sum() <= 4 and not made[[0, -1]].any()
