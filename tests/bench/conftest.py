from dataclasses import replace

import pytest

from skewscope import subjects
from skewscope.bench.results import Case, Result
from skewscope.bench.truth import Fault
from skewscope.bench.watching import Alarm, Caught, Watched
from skewscope.contracts import Finding, Window

EPOCH_NS = 1_700_000_010_000_000_000


def make_finding(condition, subject, role="culprit", lost_s=0.1):
    return Finding(condition, subject, role, "S3", 0.9, Window(), lost_s, 0.1, (), "n 1")


def make_fault(condition="gpu-hot", subject="n1/gpu2", **more):
    given = {
        "node": "n1",
        "ranks": (6,),
        "onset_ns": EPOCH_NS,
        "severity": 0.2,
        "lost_s_per_step": 0.1,
        "lost_share": 0.05,
    }
    return Fault(condition, subject, **{**given, **more})


GPU, NODE, NIC = subjects.gpu("n1", 2, rank=6), subjects.node("n1"), subjects.nic("n1", "mlx5_0")


@pytest.fixture
def results():
    """Return the results of two conditions and a healthy fleet, three seeds each."""
    made = []
    for seed in range(3):
        fault = make_fault(lost_s_per_step=0.2)
        hit = Caught(fault, True, False, 60.0 + seed, 30.0, 0.1, "gpu-hot")
        made.append(Result(Case("hot", seed), Watched((hit,), (Alarm("gpu-hot", "n1/gpu2", "right"),), 4, 1200.0)))
        miss = Caught(make_fault("nic-slow", "n1/mlx5_0"), seed == 0, True, 30.0 if seed == 0 else float("nan"),
                      float("nan"), 0.1 if seed == 0 else float("nan"), "gpu-hot" if seed else "nic-slow")  # fmt: skip
        alarms = (Alarm("gpu-hot", "n1/gpu2", "wrong"), Alarm("step-shift", "job", "symptom"))
        made.append(Result(Case("slow", seed), Watched((miss,), alarms, 4, 1200.0)))
        alarm = (Alarm("gpu-hot", "n0/gpu0", "wrong"),) if seed == 2 else ()
        made.append(Result(Case("healthy", seed), Watched((), alarm, 4, 1200.0)))
    return [*made, Result(Case("hot", 3), None, "ValueError: odd")]


@pytest.fixture
def swept(results):
    """Return the first condition again in other severities: found from 0.12 on."""
    made = []
    for result in results[:9:3]:
        for factor in (0.1, 0.2, 0.35, 0.6, 1.7):
            (hit,) = result.watched.caught
            severity = hit.fault.severity * factor
            again = replace(hit, fault=replace(hit.fault, severity=severity), found=factor >= 0.6)
            made.append(Result(replace(result.case, severity=severity), replace(result.watched, caught=(again,))))
    return made
