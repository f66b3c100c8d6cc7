from pathlib import Path
from runpy import run_path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skewscope.policy.economics import cost_gpu_hours, economics, gain_gpu_hours

WORLD = run_path(str(Path(__file__).with_name("_world.py")))
JOB, around, case, texts, turn, wanted = (WORLD[name] for name in "JOB around case texts turn wanted".split())


def test_gain_is_what_waiting_costs_times_how_sure_it_is():
    assert gain_gpu_hours(turn(), case(lost_gpus=10.0, confidence=0.9)) == pytest.approx(10 * 8 * 0.9 * 0.8)
    near = turn(around=around(remaining_s={JOB: 1800.0}, trust={"gpu-slow-silent": 0.5}))
    assert gain_gpu_hours(near, case(lost_gpus=10.0, confidence=0.9)) == pytest.approx(10 * 0.5 * 0.9 * 0.5)
    assert gain_gpu_hours(turn(around=around(remaining_s={JOB: -5.0})), case()) == 0


def test_cost_is_a_restart_and_lost_work_of_all_ranks():
    assert cost_gpu_hours(turn(), case(ranks=64), True) == pytest.approx(64 * 2400 / 3600)
    known = turn(around=around(since_checkpoint_s={JOB: 0.0}))
    assert cost_gpu_hours(known, case(ranks=64), True) == pytest.approx(64 * 600 / 3600)
    assert cost_gpu_hours(turn(), case(), False) == 0


@pytest.mark.parametrize(
    ("verb", "restarts", "more", "free"),
    [
        ("exclude", True, {"lost_gpus": 20.0}, True),  # 121.6 > 2 x 42.7
        ("exclude", True, {"lost_gpus": 14.0}, False),  # 85.12 < 85.33
        ("exclude", False, {"lost_gpus": 0.1}, True),
        ("exclude", False, {"lost_gpus": 0.0}, False),
        ("exclude", False, {"lost_gpus": float("nan")}, False),
        ("note", False, {"lost_gpus": 0.0}, True),
        ("drain", False, {"lost_gpus": 0.0, "condition": "gpu-off-bus"}, True),
        ("drain", True, {"lost_gpus": 0.0, "condition": "gpu-off-bus"}, False),
        ("advise", False, {"lost_gpus": 0.0}, False),
    ],
)
def test_acting_must_pay(verb, restarts, more, free):
    held = texts(economics, turn(), wanted(verb, case(**more), restarts=restarts))
    assert bool(held) is not free


@given(st.floats(0, 100), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1e5))
def test_more_trust_never_speaks_against_an_act(lost, confidence, trust, since_s):
    def held(share):
        at = turn(around=around(trust={"gpu-slow-silent": share}, since_checkpoint_s={JOB: since_s}))
        return bool(texts(economics, at, wanted("exclude", case(lost_gpus=lost, confidence=confidence), restarts=True)))

    assert held(trust * 0.5) >= held(trust)
