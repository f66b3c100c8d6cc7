import json

import jsonschema
import pytest

from skewscope.plans import plain
from skewscope.reports.document import document
from skewscope.reports.json_schema import report


def test_every_report_fits_its_schema(make_world):
    for world in (make_world(), make_world(quiet=True)):
        made = document(world)
        jsonschema.Draft202012Validator(report()).validate(json.loads(json.dumps(made, allow_nan=False)))


def test_findings_come_by_severity_and_cost_with_ids(make_world):
    made = document(make_world())["findings"]
    assert [found["id"] for found in made] == ["f1", "f2", "f3"]
    assert [found["role"] for found in made] == ["culprit", "victim", "context"]
    assert made[0]["explains"] == ["f2"]
    assert made[0]["runbook"] == made[0]["condition"] == "gpu-slow-silent"


def test_gpu_hours_are_lost_seconds_times_steps_times_ranks(make_world):
    cost = document(make_world())["findings"][0]["cost"]
    assert cost["gpu_hours"] == pytest.approx(0.375 * 30 * 8 / 3600)  # 30 steps in its window
    assert cost["share"] == 0.25


def test_unknown_is_null(make_world):
    made = document(make_world())
    assert made["summary"]["step_time_s"]["p99"] is None
    assert made["findings"][0]["subject"]["peer"] is None
    assert made["findings"][0]["evidence"][1]["threshold"] is None


def test_only_culprits_are_answered(make_world):
    made = document(make_world())
    assert [one["for"] for one in made["recommendations"]] == [["f1"]]
    predicted = made["recommendations"][0]["predicted"]
    assert predicted["step_time_ratio"] == 0.75
    assert predicted["confidence"] < made["findings"][0]["confidence"]


def test_broken_text_becomes_plain_text():
    assert plain("a\udc80b") == "a\\udc80b"
    assert plain({"x": float("inf"), 3: None}) == {"x": None, "3": None}
