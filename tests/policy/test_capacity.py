from pathlib import Path
from runpy import run_path

import pytest

from skewscope.acts import Fleet, JobState
from skewscope.policy.capacity import capacity

WORLD = run_path(str(Path(__file__).with_name("_world.py")))
JOB, SLURM, ago, case, fleet, policy, texts, turn, wanted = (
    WORLD[name] for name in "JOB SLURM ago case fleet policy texts turn wanted".split()
)


def said(number=9, told=None, verb="drain", granted=(), **changed):
    at = turn(policy(capacity=told or {}), fleet=fleet(number, **changed))
    at.granted += granted
    return texts(capacity, at, wanted(verb))


def test_one_free_node_will_do_and_none_will_not():
    assert not said(9)
    assert said(8) == "0 free nodes, wants 1 (capacity.spare_nodes): advise only"


@pytest.mark.parametrize("n8", [{"schedulable": False}, {"idle": False}, {"owner": "anna"}, {"reservation": "tests"},
                                {"groups": ("cpu",)}, {"jobs": ("other",)}])  # fmt: skip
def test_a_node_that_cannot_stand_in_is_not_free(n8):
    assert said(9, n8=n8)


def test_what_it_does_not_concern():
    assert not said(8, verb="avoid") and not said(8, told={"spare_nodes": 0})
    assert not said(9, told={"same_group": False}, n8={"groups": ("cpu",)})


def test_each_node_taken_in_a_turn_wants_another():
    granted = [wanted(one=case("b", "n5"))]
    assert said(9, granted=granted) and not said(10, granted=granted)


def test_a_job_wants_its_own_number():
    nodes = fleet(10).nodes
    small = Fleet(SLURM, nodes, {JOB: JobState(JOB, nodes=("n3",), wants_nodes=4)}, ago(1))
    assert "job train wants 4 nodes, 2 would be left" in texts(capacity, turn(fleet=small), wanted())


def test_an_idle_node_needs_nobody_in_its_place():
    at = turn(fleet=fleet(9, n8={"schedulable": True}))
    assert not texts(capacity, at, wanted(one=case(node="n8")))
