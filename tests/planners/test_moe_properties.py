"""What holds of any plan of experts: its numbers are those of its own map, and it is never worse than what runs."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from skewscope.errors import UsageError
from skewscope.moe.loads import of_array
from skewscope.planners._moe_made import Wanted
from skewscope.planners.moe import planned

sound = run_path(str(Path(__file__).with_name("_sound.py")))["sound"]


def hottest(slots, tokens, gpus):
    """Return the tokens of the hottest GPU of one layer, each expert's split evenly over its replicas."""
    copies = np.bincount(slots, minlength=len(tokens))
    return max(sum(tokens[one] / copies[one] for one in gpu) for gpu in np.array(slots).reshape(gpus, -1))


@st.composite
def windows(draw):
    """Draw (tokens [T, L, E], what is wanted): a few experts on two to four GPUs, perhaps in groups on two nodes."""
    nodes = draw(st.sampled_from([1, 1, 2]))
    experts, gpus = draw(st.sampled_from([(4, 2), (5, 2), (6, 2), (6, 3), (4, 4)] if nodes == 1 else [(4, 4), (8, 4)]))
    groups = 2 * draw(st.integers(0, 1)) if nodes > 1 else 0
    slots = gpus * (-(-experts // gpus) + draw(st.integers(0, 1)))
    counts = draw(arrays.arrays(np.int64, (draw(st.integers(1, 5)), draw(st.integers(1, 2)), experts),
                                elements=st.sampled_from([0, 20, 100, 300, 2000]), fill=st.just(100)))  # fmt: skip
    moves = draw(st.sampled_from([-1, -1, 0, 2])) if not groups else -1
    return counts, Wanted(gpus, nodes, slots, groups, moves)


@settings(max_examples=6)
@given(windows())
@example((np.zeros((3, 2, 4), dtype=np.int64), Wanted(2, 1, 4)))  # nobody was routed anywhere
@example((np.zeros((3, 2, 2), dtype=np.int64), Wanted(3, 1, 3)))  # even tokens could not be placed evenly, none are
@example((np.array([[[9, 0, 0, 0]]] * 3), Wanted(4, 1, 4)))
@example((np.array([[[5]]]), Wanted(1, 1, 1)))
def test_numbers_are_those_of_the_map(drawn):
    counts, wanted = drawn
    loads = of_array(counts)
    made = sound(planned(loads, wanted))
    total, gpus = loads.counts.sum(axis=0), wanted.gpus
    slots, experts = np.array(made.plan["phy2log"]), total.shape[1]
    assert slots.shape == (len(total), wanted.slots)
    copies = np.array([np.bincount(one, minlength=experts) for one in slots])
    assert (copies >= 1).all() and np.array_equal(copies, made.plan["logcnt"])
    running = np.arange(wanted.slots) % experts
    for side, each in (("current", [running] * len(total)), ("proposed", slots)):
        one = getattr(made, side)
        busiest = np.array([hottest(row, tokens, gpus) for row, tokens in zip(each, total, strict=True)])
        over = np.where(busiest > 0, busiest * gpus / np.maximum(total.sum(axis=1), 1), 1.0)
        assert one["max_over_mean"] == pytest.approx(over.mean())
        assert one["balancedness_mean"] == pytest.approx((1 / over).mean())
        assert one["balancedness_min"] == pytest.approx((1 / over).min())
        doubled = sum(
            wanted.slots // gpus - len(set(gpu)) for row in each for gpu in np.reshape(row, (gpus, -1)).tolist()
        )
        assert one["duplicates"] == doubled
    new = [sum(len(set(b) - set(a)) for a, b in zip(running.reshape(gpus, -1).tolist(), row.reshape(gpus, -1).tolist(),
                                                    strict=True)) for row in slots]  # fmt: skip
    assert np.array_equal(made.plan["copies"], new) and made.proposed["moves"] == sum(new)
    assert wanted.max_moves < 0 or max(new) <= wanted.max_moves
    if wanted.groups:  # every group on one node
        group = np.arange(experts) // (experts // wanted.groups)
        for row in slots.reshape(len(total), wanted.nodes, -1):
            assert all(not set(group[row[0]]) & set(group[other]) for other in row[1:])


@settings(max_examples=3)
@given(st.integers(1, 3), st.sampled_from([(4, 2), (6, 3), (8, 4)]), st.integers(1, 4))
def test_even_loads_are_left_where_they_are(tokens, sizes, count):
    experts, gpus = sizes
    made = sound(planned(of_array(np.full((count, 2, experts), 1000 * tokens)), Wanted(gpus, 1, experts)))
    assert not made.plan["recommended"] and made.steps[0] == "Do nothing now."
    assert made.proposed["moves"] == 0 and made.optimal and made.proposed["max_over_mean"] == pytest.approx(1)


@settings(max_examples=25)
@given(st.sampled_from([np.nan, np.inf, -np.inf, -1.0, 1e300]), st.integers(0, 1), st.integers(0, 3))
def test_no_cell_is_taken_for_tokens(bad, layer, expert):
    counts = np.full((2, 2, 4), 7.0)
    counts[1, layer, expert] = bad
    with pytest.raises(UsageError, match="expert counts"):
        of_array(counts)
    for empty in (np.zeros((0, 2, 4)), np.zeros((2, 0)), np.array(3.0)):
        with pytest.raises(UsageError, match="expert counts want"):
            of_array(empty)
