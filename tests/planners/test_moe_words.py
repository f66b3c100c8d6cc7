"""Whether a plan of experts says to act, why not, and what to do in order; numbers by hand."""

import dataclasses

import numpy as np
import pytest

from skewscope.moe import times
from skewscope.moe.heldout import heldout
from skewscope.moe.loads import of_array
from skewscope.moe.migration import migration
from skewscope.moe.placement import Placement
from skewscope.planners import _moe_pictures, _moe_words
from skewscope.planners._moe_made import Budget, Given, Made, PayBack, Redundancy, Wanted, WhatIf

START = Placement(np.array([[0, 1, 2, 3]]), 2, 4)
PAIRED = Placement(np.array([[0, 3, 2, 1]]), 2, 4)  # hot with cold: two experts change places
HOT = [[[6, 6, 2, 2]], [[6, 6, 2, 2]], [[7, 5, 2, 2]], [[6, 6, 2, 2]]]


def made(counts=HOT, proposed=PAIRED, ceiling=0.99, **more):
    given = Given((of_array(np.array(counts), layers=[7]),), START, "assumed")
    held = heldout([one.counts for one in given.workloads], lambda series: proposed, START)
    one = np.ones(1)
    return Made(
        given, Wanted(2, 1, 4), proposed, one, one * ceiling, migration(START, proposed), 0.1, held=held, **more
    )


def paid(copy_s, gain_s):
    return PayBack(copy_s, gain_s, 0.01, 1.5, "on later steps")


def test_a_plan_that_holds_is_recommended():
    plan = made(pay_back=paid(2.0, 0.001))
    assert plan.now.tolist() == [pytest.approx(32 / 48)] and plan.planned.tolist() == [pytest.approx(32 / 33)]
    assert _moe_words.against(plan) == "" and _moe_words.limit(plan) == "placement"
    said = _moe_words.verdict(plan)
    assert said.startswith("Balance of GPUs rises from 0.667 to 0.9697 of at most 1.0000 and to 0.963 on loads it was")
    assert said.endswith("Its 2 copies pay back after 2,000 steps.")
    assert _moe_words.steps(plan)[:3] == [
        "Layer 7: copy expert 3 into slot 1 of GPU 0, over expert 1.",
        "Layer 7: copy expert 1 into slot 3 of GPU 1, over expert 3.", _moe_words.EXPORT,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"ceiling": 0.66}, "noise ceiling reached: balance 0.667 is what so few tokens leave"),
        ({"proposed": START}, "the plan gains 0.0000 of balance even on the loads it was made from"),
        ({"pay_back": paid(2.0, -0.003)}, "experts would take 3 ms more per step (on later steps): they are bound by"),
    ],
)
def test_reasons_to_leave_everything_as_it_is(more, said):
    plan = made(**more)
    assert _moe_words.verdict(plan).startswith(f"Leave the placement as it is: {said}")
    assert _moe_words.steps(plan)[0] == "Do nothing now."


def test_a_gain_that_does_not_last_is_no_gain():
    turned = [[[6, 6, 2, 2]], [[6, 2, 2, 6]], [[9, 9, 3, 3]], [[6, 2, 2, 6]]]  # every other window wants START
    plan = made(turned)
    assert (plan.now[0], plan.planned[0]) == (pytest.approx(36 / 46), pytest.approx(36 / 44))
    assert plan.held.gains.tolist() == pytest.approx([8 / 12 - 1, 1 - 8 / 12, 8 / 12 - 1])
    assert "on later loads the plan gains -0.111 of balance, not +0.036" in _moe_words.verdict(plan)


def test_copies_must_pay_back_within_the_horizon():
    plan = made(pay_back=paid(2.0, 0.5))
    short = dataclasses.replace(plan, wanted=dataclasses.replace(plan.wanted, horizon=2))
    assert short.kept_steps == 2 and plan.kept_steps == float("inf")
    assert "copying pays back after 4 steps, and the plan is kept for 2" in _moe_words.verdict(short)
    assert _moe_words.against(plan) == ""


def test_one_window_says_that_nothing_is_known_of_later_ones():
    given = Given((of_array(np.array(HOT[0]), layers=[7]),), START, "assumed")
    one = np.ones(1)
    plan = Made(given, Wanted(2, 1, 4), PAIRED, one, one * 0.99, migration(START, PAIRED), 0.1)
    assert any(text.startswith("held-out score unknown: one window only") for text in _moe_words.warnings(plan))
    assert "made from" not in _moe_words.verdict(plan)
    assert _moe_words.steps(plan)[-1].startswith("Record more than one window")


def test_many_copies_are_summed_up_and_more_slots_are_said():
    now = Placement(np.tile(np.arange(8), (4, 1)), 2, 8)
    later = Placement(np.tile([0, 4, 1, 5, 2, 6, 7, 3, 0, 1], (4, 1)), 2, 8)
    given = Given((of_array(np.tile([9, 9, 9, 9, 1, 1, 1, 1], (4, 4, 1))),), now, "assumed")
    one = np.ones(4)
    plan = Made(given, Wanted(2, 1, 10), later, one, one, migration(now, later), 0.1, pay_back=paid(0.05, 0.001),
                redundancy=(Redundancy(10, 2.375, 1.0, 0.9, 0.8),))  # fmt: skip
    assert plan.now.tolist() == [20 / 36] * 4 and plan.planned.tolist() == [1.0] * 4
    said = _moe_words.steps(plan)
    assert said[0] == "Start the engine with 10 slots (2 redundant experts, 2.38 GiB per GPU)."
    assert said[1].startswith("Copy 20 experts to GPUs that do not hold them (layer 0: 5, layer 1: 5, layer 2: 5; at ")
    assert "most 1.50 GiB to one GPU, 0.05 s" in said[1]


def test_pictures_say_their_numbers():
    plan = made(
        pay_back=paid(2.0, 0.001), redundancy=(Redundancy(4, 0.0, 0.7, 0.7, 0.6), Redundancy(6, 1.0, 1.0, 0.9, 0.85)),
        budgets=(Budget(0, 0.6, 0.5), Budget(2, 0.9, 0.8), Budget(4, 0.95, 0.82)),
        whatifs=(WhatIf("split", 0.8, 0.9, "Splitting lifts 0.800 to 0.900."),),
    )  # fmt: skip
    found = {one.title: one for one in _moe_pictures.pictures(plan)}
    assert list(found["Gap ladder"].series["worst layer"][0]) == ["now", "noise ceiling", "bound of slots", "plan",
                                                                  "plan, held out"]  # fmt: skip
    assert found["Load of GPUs, before and after"].series["now"].tolist() == [[48 / 32, 16 / 32]]
    assert "2.0 copies per layer reach 0.800, 4.0 copies 0.820, none 0.500" in found["Balance against copies"].text
    assert found["Pay-back of copying"].series["net"][1][[0, -1]].tolist() == pytest.approx([-2.0, 4.0])
    assert found["Balance against redundancy"].text.startswith("6 slots (2 redundant, 1 GiB per GPU)")
    assert found["What if"].text == "Splitting lifts 0.800 to 0.900."
    assert found["Copies of each layer"].series["copies"] == ([7], [2])


def test_seconds_are_of_the_model():
    clock = times.Clock(times.SHAPES["mixtral-8x7b"], times.HARDWARE["h200"])
    assert made().given.clock is None and clock.model.top_k == 2
    given = dataclasses.replace(made().given, clock=clock)
    assert given.top_k == 2
