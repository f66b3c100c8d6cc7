from pathlib import Path
from runpy import run_path

import pytest

from skewscope import subjects
from skewscope.bench.matching import score
from skewscope.bench.seeds import JUDGING, TUNING, seeds
from skewscope.bench.truth import Truth, truth
from skewscope.errors import UsageError
from skewscope.precedence import EXPLAINED

HERE = run_path(str(Path(__file__).with_name("conftest.py")))
make_fault, make_finding, GPU, NODE, NIC = (HERE[name] for name in ("make_fault", "make_finding", "GPU", "NODE", "NIC"))
RANK = subjects.rank("job", 6, node="n1")


def outcome(finding, *faults, natural=None):
    scored = score([finding], Truth("s", 1, faults), natural)
    return scored.outcomes[0], scored.about[0]


@pytest.mark.parametrize(
    ("subject", "natural", "right"),
    [(GPU, (), True), (RANK, (), False), (RANK, ("rank",), True), (NODE, ("gpu",), False), (NODE, ("node",), True),
     (subjects.gpu("n1", 3, rank=7), ("gpu",), False), (subjects.gpu("n2", 2), ("gpu",), False),
     (subjects.rank("job", 7, node="n1"), ("rank",), False), (subjects.node("n2"), ("node",), False),
     (subjects.link("job", 6, 9), ("link",), True), (subjects.link("job", 9, 6), ("link",), True),
     (subjects.link("job", 8, 9), ("link",), False)],
)  # fmt: skip
def test_the_subject_must_be_natural_and_right(subject, natural, right):
    found = make_finding("gpu-hot", subject)
    assert outcome(found, make_fault(), natural={"gpu-hot": natural})[0] == ("right" if right else "wrong")


def test_a_faulty_host_may_be_told_by_its_devices():
    natural = {"host-busy": ("gpu", "nic", "rank", "node")}
    fault = make_fault("host-busy", "n1", ranks=(4, 5, 6, 7))
    for subject in (GPU, NIC, RANK, NODE):
        assert outcome(make_finding("host-busy", subject), fault, natural=natural)[0] == "right"
    assert outcome(make_finding("host-busy", subjects.nic("n2", "mlx5_0")), fault, natural=natural)[0] == "wrong"


def test_an_adapter_is_no_gpu():
    fault = make_fault("nic-slow", "n1/mlx5_1")
    assert outcome(make_finding("nic-slow", NIC), fault, natural={"nic-slow": ("nic",)})[0] == "wrong"


def test_the_whole_job_holds_its_ranks():
    fault = make_fault("step-shift", "job/rank3", ranks=(3,))
    assert (
        outcome(make_finding("step-shift", subjects.job("job")), fault, natural={"step-shift": ("job",)})[0] == "right"
    )
    assert (
        outcome(make_finding("step-shift", subjects.job("other")), fault, natural={"step-shift": ("job",)})[0]
        == "wrong"
    )


def test_devices_rails_and_racks_that_a_fault_strikes():
    natural = {"odd": ("gpu", "nic", "rack", "job")}
    device = make_fault("odd", "job/rank6", devices=("n1/gpu2",), job="job")
    assert outcome(make_finding("odd", subjects.gpu("n1", 2)), device, natural=natural)[0] == "right"
    assert outcome(make_finding("odd", subjects.gpu("n1", 3)), device, natural=natural)[0] == "wrong"
    assert outcome(make_finding("odd", subjects.job("job")), device, natural=natural)[0] == "right"
    rail = make_fault("odd", "n1/mlx5_1", devices=("n1/mlx5_1", "n2/mlx5_1"), rack="r0")
    for subject, right in ((subjects.rack("rail/mlx5_1"), True), (subjects.rack("rail/gpu2"), False),
                           (subjects.nic("n2", "mlx5_1"), True), (subjects.rack("n1..n2"), True),
                           (subjects.rack("n1..n3"), False), (subjects.rack("r0"), False)):  # fmt: skip
        assert outcome(make_finding("odd", subject), rail, natural=natural)[0] == ("right" if right else "wrong")
    rack = make_fault("odd", "r0", devices=("n1/gpu0", "n2/gpu0"), rack="r0")
    assert outcome(make_finding("odd", subjects.rack("r0")), rack, natural=natural)[0] == "right"


def test_only_culprits_claim():
    found = make_finding("gpu-hot", GPU, role="context")
    scored = score([found], Truth("s", 1, (make_fault(),)))
    assert scored.outcomes == ("",) and scored.first == (-1,) and scored.seen == (True,) and scored.blamed == ("",)


def test_symptoms_are_what_precedence_explains():
    cause, symptom = "coll-late-rank", EXPLAINED["coll-late-rank"][0]
    fault = make_fault(cause, "job/rank6", victims=frozenset({"8", "job/rank9"}))
    for subject in (RANK, NODE, subjects.job("job"), subjects.group("job", "x"), subjects.rank("job", 8),
                    subjects.rank("job", 9)):  # fmt: skip
        assert outcome(make_finding(symptom, subject), fault) == ("symptom", 0)
    assert outcome(make_finding(symptom, subjects.rank("job", 10, node="n2")), fault) == ("wrong", -1)
    assert outcome(make_finding("gpu-odd", RANK), fault) == ("wrong", -1)


def test_the_first_claim_that_concerns_a_fault_is_the_root_cause():
    one, two = make_fault(), make_fault("nic-slow", "n2/mlx5_0", node="n2", ranks=(12,))
    elsewhere = make_finding("gpu-odd", subjects.gpu("n3", 0))
    other = make_finding("nic-slow", subjects.nic("n2", "mlx5_0"))
    symptom, right = make_finding("step-shift", subjects.job("job")), make_finding("gpu-hot", GPU)
    scored = score([elsewhere, other, right, symptom], Truth("s", 1, (one, two)))
    assert scored.blamed == ("gpu-hot", "nic-slow") and scored.first == (2, 1)
    assert scored.outcomes == ("wrong", "right", "right", "wrong")
    scored = score([symptom, other, right], Truth("s", 1, (one, two)))
    assert scored.blamed == ("step-shift", "step-shift")


def test_nothing_may_be_claimed_before_it_begins():
    known = Truth("s", 1, (make_fault(),))
    early, late = known.until(make_fault().onset_ns - 1), known.until(make_fault().onset_ns)
    assert early.healthy and not late.healthy
    assert score([make_finding("gpu-hot", GPU)], early).outcomes == ("wrong",)
    assert score([make_finding("gpu-hot", GPU)], late).outcomes == ("right",)


def test_truth_is_read_with_unknowns():
    fault = {"condition": "a", "subject": "n1", "node": None, "ranks": [1], "onset_ns": 5, "severity": None}
    document = {"schema": "skewscope.truth/1", "scenario": "s", "seed": 7, "faults": [fault]}
    known = truth(document)
    (one,) = known.faults
    assert (one.ranks, one.onset_ns, one.end_ns, one.node, known.healthy) == ((1,), 5, -1, "", False)
    with pytest.raises(UsageError, match="skewscope.truth/1"):
        truth({"schema": "x"})


def test_seeds_for_tuning_and_judging_never_meet():
    assert not set(TUNING) & set(JUDGING)
    assert seeds(2) == range(0, 2) and seeds(2, judge=True) == range(3_006_000, 3_006_002)
    for count in (0, len(TUNING) + 1):
        with pytest.raises(UsageError, match="--seeds"):
            seeds(count)
