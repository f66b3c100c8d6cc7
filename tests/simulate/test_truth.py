import json

import pytest

from skewscope.simulate import simulate
from skewscope.simulate.scenario import parse


def small(*faults):
    return parse({"jobs": [{"ranks": 32, "steps": 200, "tp": 1}], "faults": list(faults)}, "small")


def test_the_document_of_a_healthy_run():
    assert simulate(small(), 3).truth == {
        "schema": "skewscope.truth/1", "scenario": "small", "seed": 3, "healthy": True, "faults": [],
    }  # fmt: skip


def test_the_document_of_a_fault_can_be_written():
    found = json.loads(json.dumps(simulate(small({"condition": "gpu-power-cap"}), 3).truth))
    fault = found["faults"][0]
    assert not found["healthy"] and fault["onset_ns"] < fault["end_ns"]
    assert 0 < fault["onset_step"] < fault["last_step"] < 200
    assert 0 < fault["lost_share"] < 0.3 and not fault["stops"]


def test_faults_that_overlap_are_priced_one_by_one():
    fast = {"condition": "gpu-slow-silent", "target": "job/rank3", "severity": 0.1, "shape": "steady"}
    slow = {"condition": "gpu-slow-silent", "target": "job/rank9", "severity": 0.3, "shape": "steady"}
    both = simulate(small(fast, slow), 5).truth["faults"]
    alone = simulate(small(slow), 5).truth["faults"][0]
    assert both[0]["lost_s_per_step"] == pytest.approx(0.0, abs=0.002)  # the other one is later anyway
    assert 0 < both[1]["lost_s_per_step"] < alone["lost_s_per_step"]


def test_a_fault_that_ends_has_its_steps_only():
    ended = simulate(small({"condition": "gpu-slow-silent", "shape": "steady", "onset": 0.3, "end": 0.6}), 5)
    fault = ended.truth["faults"][0]
    assert 50 < fault["onset_step"] < 70 and 100 < fault["last_step"] < 125
    usual = simulate(small(), 5).runs[0]
    assert ended.runs[0].seconds[150:].sum() == pytest.approx(usual.seconds[150:].sum(), rel=1e-6)


def test_what_stops_a_job_says_so():
    fault = simulate(small({"condition": "nic-link-down"}), 5).truth["faults"][0]
    assert fault["stops"] and fault["lost_share"] == 1.0 and len(fault["victims"]) == 31


def test_a_fault_on_a_spare_host_costs_nothing():
    fault = simulate(small({"condition": "gpu-slow-silent", "target": "n004/gpu0"}), 5).truth["faults"][0]
    assert fault["ranks"] == [] and fault["lost_s_per_step"] == 0.0 and fault["job"] == ""
