import pytest

from skewscope.catalogue import rooms
from skewscope.reports.recommend import recommend

PLANNERS = {
    "none",
    "gradient-coding",
    "backup-workers",
    "moe",
    "batch",
    "sequence",
    "pipeline",
    "placement",
    "checkpoint",
    "power",
}


def found(condition, role="culprit"):
    subject = {"kind": "rank", "id": "job/rank3", "rank": 3, "peer": None, "node": "n0", "stage": None, "layer": None}
    cost = {"seconds_per_step": 1.0, "share": 0.2, "gpu_hours": 5.0}
    return {"id": "f1", "condition": condition, "role": role, "subject": subject, "cost": cost, "confidence": 0.9}


@pytest.mark.parametrize("room", rooms("detectors"), ids=lambda room: room.id)
def test_victims_and_context_are_never_acted_on(room):
    assert recommend([found(room.id, "victim"), found(room.id, "context")]) == []
    for one in recommend([found(room.id)]):
        assert one["planner"] in PLANNERS and one["action"] and one["cost"] and one["risk"]


@pytest.mark.parametrize(
    ("condition", "planner", "action"),
    [
        ("coll-late-rank", "batch", "reweight"),
        ("data-sequence-skew", "sequence", "repack-sequences"),
        ("pp-stage-imbalance", "pipeline", "move-layers"),
        ("data-loader-stall", "none", "fix-input"),
        ("coll-slow-link", "none", "validate-link"),
        ("nic-phy-degraded", "none", "validate-link"),
        ("kv-pressure", "none", "admit-limit"),
        ("srv-prefill-decode-interference", "none", "engine-setting"),
    ],
)
def test_the_action_fits_the_condition(condition, planner, action):
    (one,) = recommend([found(condition)])
    assert (one["planner"], one["action"]) == (planner, action)
    assert one["params"] == {"subject": "job/rank3", "rank": 3, "node": "n0"}
    assert one["predicted"] == {"step_time_ratio": 0.8, "gpu_hours_saved": 5.0, "confidence": 0.72}


def test_what_nobody_can_plan_gets_no_recommendation():
    assert recommend([found("step-shift")]) == []
