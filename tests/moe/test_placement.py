"""Placements: what follows from them, and what is said of wrong ones."""

import numpy as np
import pytest

from skewscope.errors import UsageError
from skewscope.moe.placement import Placement, balancedness, duplicates, lint, start_layout


def test_loads_are_split_evenly_over_replicas():
    made = Placement(np.array([[0, 1, 2, 0, 0, 2]]), gpus=3, experts=3)
    assert made.slots_per_gpu == 2 and made.layers == 1
    assert made.replicas().tolist() == [[3, 1, 2]]
    assert made.gpu_loads(np.array([[30, 5, 8]])).tolist() == [[15.0, 14.0, 14.0]]
    steps = np.array([[[30, 5, 8]], [[0, 5, 0]]])
    assert made.gpu_loads(steps).tolist() == [[[15.0, 14.0, 14.0]], [[5.0, 0.0, 0.0]]]
    assert made.slot_loads(np.array([[30, 5, 8]])).tolist() == [[10.0, 5.0, 4.0, 10.0, 10.0, 4.0]]


def test_balance_is_mean_over_highest():
    assert balancedness(np.array([[4.0, 2.0], [3.0, 3.0], [0.0, 0.0]])).tolist() == [0.75, 1.0, 1.0]


def test_the_layout_engines_start_with():
    made = start_layout(256, 288, 32, layers=2)
    assert made.slots[0, :256].tolist() == list(range(256)) and made.slots[1, 256:].tolist() == list(range(32))
    with pytest.raises(UsageError, match="7 slots cannot hold 8 experts"):
        start_layout(8, 7, 1, 1)


def test_a_sound_placement_is_not_complained_about():
    assert lint(start_layout(8, 12, 4, layers=3)) == []


@pytest.mark.parametrize(
    ("placement", "said"),
    [
        (Placement(np.array([[0, 1, 0, 1]]), 2, 3), "no slot holds these experts: layer 0 expert 2"),
        (Placement(np.array([[0, 0, 1, 2]]), 2, 3),
         "1 slots are wasted on a second replica on the same GPU: layer 0 GPU 0"),
        (Placement(np.array([[0, 1, 2]]), 2, 3), "3 slots do not spread evenly over 2 GPUs"),
        (Placement(np.array([[0, 1, 3, 2]]), 2, 3), "slots outside experts 0 to 2: layer 0 slot 2"),
        (Placement(np.array([[0, 1, 2]]), 3, 3, nodes=2), "3 GPUs do not spread evenly over 2 nodes"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(placement: Placement, said: str):
    assert lint(placement) == [said]


def test_many_cases_are_counted():
    made = Placement(np.zeros((9, 2), np.int64), 2, 2)
    assert lint(made)[0].endswith("layer 3 expert 1 and 5 more")
    assert duplicates(Placement(np.zeros((1, 4), np.int64), 2, 1)).tolist() == [[1, 1]]


def test_what_cannot_be_computed_is_refused():
    two = Placement(np.array([[0, 1, 0, 1]]), 2, 3)
    with pytest.raises(UsageError, match="no slot holds expert 2"):
        two.gpu_loads(np.array([[1, 1, 1]]))
    assert two.gpu_loads(np.array([[1, 1, 0]])).tolist() == [[1.0, 1.0]]
    with pytest.raises(UsageError, match="do not fit a placement of 1 layers and 3 experts"):
        two.gpu_loads(np.array([[1, 1]]))
    with pytest.raises(UsageError, match="do not spread evenly"):
        Placement(np.array([[0, 1, 2]]), 2, 3).gpu_loads(np.ones((1, 3)))
    with pytest.raises(UsageError, match="there are experts 0 to 1"):
        Placement(np.array([[0, 2]]), 2, 2).replicas()
    with pytest.raises(UsageError, match="integers"):
        Placement(np.array([0.5]), 1, 1)
    with pytest.raises(UsageError, match="at least one GPU"):
        Placement(np.array([[0]]), 0, 1)
