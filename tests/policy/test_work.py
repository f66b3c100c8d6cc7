from pathlib import Path
from runpy import run_path

import pytest

from skewscope.policy.work import params, work

WORLD = run_path(str(Path(__file__).with_name("_world.py")))
JOB, ago, around, case, policy, texts, turn, wanted = (
    WORLD[name] for name in "JOB ago around case policy texts turn wanted".split()
)


def test_nothing_is_restarted_unless_asked_for():
    assert params(turn(), case(), "exclude") == params(turn(), case(), "drain") == {}
    bold = turn(policy(work={"requeue": True, "evict": True}))
    assert params(bold, case(), "exclude") == {"requeue": True} and params(bold, case(), "drain") == {"evict": True}
    assert params(bold, case(job="unknown"), "exclude") == params(bold, case(), "note") == {}
    assert params(turn(), case(hint={"weights": [1]}), "advise") == {"hint": {"weights": [1]}}


def said(since_s, told=None, restarts=True, **more):
    at = turn(policy(work=told or {}), around=around(since_checkpoint_s={} if since_s is None else {JOB: since_s}))
    return texts(work, at, wanted(one=case(**{"opened_ns": ago(600), "lost_gpus": 1.0, **more}), restarts=restarts))


def test_a_restart_waits_for_the_next_checkpoint():
    old = "the last checkpoint of job train is 30 min old"
    assert said(1800) == f"{old}: a restart loses 32.0 GPU-h, waiting at most 0.8 (work.wait_checkpoint)"


@pytest.mark.parametrize("more", [{"since_s": 299}, {"since_s": None}, {"since_s": 1800, "opened_ns": ago(3601)},
                                  {"since_s": 1800, "lost_gpus": 60.0}, {"since_s": 1800, "restarts": False},
                                  {"since_s": 1800, "told": {"wait_checkpoint": False}}])  # fmt: skip
def test_it_does_not_wait_in_vain(more):
    assert not said(**more)
