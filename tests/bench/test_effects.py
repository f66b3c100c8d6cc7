from __future__ import annotations

import pytest

from skewscope.bench.effects import strengthened
from skewscope.simulate import scenario, simulate

EFFECT = 0.15


def share(plan, seed):
    return simulate(plan, seed, detail=False).truth["faults"][0]["lost_share"]


def test_a_weak_fault_grows_until_it_costs_what_is_asked_for():
    plan = scenario("pcie-error-replay")
    assert share(plan, 1) < EFFECT
    strong = strengthened(plan, 1, EFFECT)
    assert EFFECT <= share(strong, 1) < 2 * EFFECT
    assert strengthened(strong, 1, EFFECT) == strong


@pytest.mark.parametrize("name", ["gpu-off-bus", "gpu-row-remap", "overlap-link-and-contention", "healthy-training"])
def test_what_stops_its_job_costs_nothing_or_is_not_alone_stays(name):
    plan = scenario(name)
    assert strengthened(plan, 1, EFFECT) == plan
