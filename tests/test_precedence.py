from __future__ import annotations

import pytest

from skewscope import precedence, subjects
from skewscope.catalogue import rooms
from skewscope.contracts import Finding, Window
from skewscope.subjects import Subject

ALL = Window(0, 1000)


def finding(condition: str, subject: Subject, window: Window = ALL, lost_s: float = 0.1) -> Finding:
    return Finding(condition, subject, "culprit", "S3", 0.9, window, lost_s, 0.1, (), "")


def roles(*found: Finding) -> dict[str, str]:
    return {one.condition: one.role for one in precedence.explain(found).findings}


GPU, RANK = subjects.gpu("n1", 3, rank=11), subjects.rank("llm", 11, node="n1")


def test_all_names_are_conditions():
    known = {room.id for room in rooms("detectors")}
    named = set().union(*precedence.CLASSES, precedence.EXPLAINED, *precedence.EXPLAINED.values())
    assert named <= known, named - known


def test_a_throttled_gpu_explains_its_late_rank_and_its_silent_slowness():
    told = roles(finding("gpu-hw-slowdown", GPU), finding("coll-late-rank", RANK), finding("gpu-slow-silent", GPU))
    assert told == {"gpu-hw-slowdown": "culprit", "coll-late-rank": "context", "gpu-slow-silent": "context"}


def test_another_gpu_explains_nothing():
    told = roles(finding("gpu-hw-slowdown", subjects.gpu("n1", 2, rank=10)), finding("coll-late-rank", RANK))
    assert set(told.values()) == {"culprit"}
    elsewhere = roles(finding("host-cpu-contention", subjects.node("n2")), finding("coll-late-rank", RANK))
    assert set(elsewhere.values()) == {"culprit"}


def test_a_host_explains_all_its_ranks():
    told = roles(finding("host-cpu-contention", subjects.node("n1")), finding("coll-late-rank", RANK))
    assert told["coll-late-rank"] == "context"


@pytest.mark.parametrize(("window", "role"), [(Window(200, 1000), "context"), (Window(600, 1000), "culprit")])
def test_a_cause_must_be_there_while_the_effect_is(window, role):
    assert roles(finding("pcie-link-degraded", GPU, window), finding("gpu-slow-silent", GPU))["gpu-slow-silent"] == role


def test_a_hard_event_lasts():
    def told(window):
        found = roles(finding("gpu-ecc-uncorrectable", GPU, window), finding("pcie-link-degraded", GPU))
        return found["pcie-link-degraded"]

    assert told(Window(90, 120)) == "context" and told(Window(900, 930)) == "culprit"


def test_what_slows_everybody_is_explained_wherever_its_cause_sits():
    told = roles(finding("pfc-storm", subjects.nic("n4", "mlx5_0")), finding("ecmp-collision", subjects.job("llm")))
    assert told == {"pfc-storm": "culprit", "ecmp-collision": "context"}


def test_what_a_culprit_explains_is_named_with_it():
    made = precedence.explain([finding("coll-late-rank", RANK), finding("gpu-hw-slowdown", GPU)])
    first = next(place for place, one in enumerate(made.findings) if one.role == "culprit")
    assert made.findings[first].also_seen == ("coll-late-rank",) and len(made.explains[first]) == 1


def test_the_ranks_of_one_job_explain_nothing_of_another():
    late = finding("coll-late-rank", subjects.rank("a", 3, node="n1"))
    assert roles(late, finding("step-shift", subjects.job("a")))["step-shift"] == "context"
    assert roles(late, finding("step-shift", subjects.job("b")))["step-shift"] == "culprit"
    hot = finding("gpu-hw-slowdown", GPU)  # whose job it is stands nowhere in its name
    assert roles(hot, finding("step-shift", subjects.job("b")))["step-shift"] == "context"


def test_a_full_kv_cache_explains_that_requests_push_each_other_out_there_only():
    here, there = subjects.replica("n1", "127.0.0.1:8000"), subjects.replica("n1", "127.0.0.1:8001")
    told = roles(finding("kv-pressure", here), finding("srv-preempt-thrash", here))
    assert told == {"kv-pressure": "culprit", "srv-preempt-thrash": "context"}
    assert set(roles(finding("kv-pressure", here), finding("srv-preempt-thrash", there)).values()) == {"culprit"}


def test_a_sick_port_explains_slow_transfers_to_the_replicas_of_its_host():
    replica, port = subjects.replica("n1", "127.0.0.1:8000"), subjects.nic("n1", "mlx5_0")
    told = roles(finding("nic-link-down", port), finding("kv-transfer-slow", replica))
    assert told == {"nic-link-down": "culprit", "kv-transfer-slow": "context"}
    elsewhere = subjects.nic("n2", "mlx5_0")
    assert set(roles(finding("nic-link-down", elsewhere), finding("kv-transfer-slow", replica)).values()) == {"culprit"}
