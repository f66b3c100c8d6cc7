import json
from pathlib import Path
from runpy import run_path

import pytest

from skewscope.acting.cases import Known, Sightings, of_incident, of_report, parts
from skewscope.reports.json_schema import schema

W = run_path(str(Path(__file__).parents[1] / "watch" / "_incidents.py"))


def subject(kind, name, node="n3", rank=None):
    return {"kind": kind, "id": name, "rank": rank, "peer": None, "node": node, "stage": None, "layer": None}


def finding(name="f1", role="culprit", kind="gpu", where="n3/gpu5", rank=21, **changed):
    told = {
        "id": name, "condition": "gpu-slow-silent", "subject": subject(kind, where, rank=rank), "role": role,
        "severity": "S2", "confidence": 0.9, "window": {"start_ns": 0, "end_ns": 300 * 10**9, "first_step": None,
                                                        "last_step": None},
        "cost": {"seconds_per_step": 0.3, "share": 0.25, "gpu_hours": 2.0}, "evidence": [], "explains": [],
        "also_seen": [], "runbook": "gpu-slow-silent",
    }  # fmt: skip
    return {**told, **changed}


def report(*findings, **inputs):
    return {
        "schema": "skewscope.report/1", "findings": list(findings),
        "inputs": [{"path": "a", "format": "x", "rank": 21, "events": 1, "status": "ok", "error": None, **inputs}],
        "job": {"ranks": 64, "steps": 600, "start_ns": 0, "end_ns": 300 * 10**9, "parallelism": {}},
    }  # fmt: skip


def test_a_culprit_of_a_report_is_a_case():
    (case,) = of_report(report(finding(), finding("f2", "victim"), finding("f3", "context")), 7, job="42")
    assert (case.node, case.gpu, case.job, case.ranks, case.peers) == ("n3", 5, "42", 64, 63)
    assert case.lost_gpus == 16.0 and case.seen_ns == 7 and (case.seen_count, case.of_count) == (5, 5)
    assert case.steps == 600 and case.doubt == ""
    assert of_report(report(finding("f2")), 9, job="42")[0].incident == case.incident


@pytest.mark.parametrize(
    ("kind", "name", "node", "rack"),
    [("rank", "job/rank7", "n3", ""), ("node", "n3", "n3", ""), ("nic", "n3/mlx5_0", "n3", ""),
     ("rack", "r7", "", "r7"),
     ("link", "job/rank1->job/rank2", "", ""), ("job", "job", "", ""), ("expert", "job/expert3", "", ""),
     ("group", "job/group:a", "", ""), ("stage", "job/stage3", "", "")],
)  # fmt: skip
def test_only_what_is_one_node_blames_a_node(kind, name, node, rack):
    (case,) = of_report(report(finding(kind=kind, where=name)), 7)
    assert (case.node, case.rack) == (node, rack)


def test_only_the_findings_that_are_wanted():
    assert [
        one.subject for one in of_report(report(finding(), finding("f2", where="n4/gpu0")), 7, findings=("f2",))
    ] == ["n4/gpu0"]


def test_a_damaged_recording_of_the_culprit_is_doubted():
    (case,) = of_report(report(finding(), status="partial"), 7)
    assert case.doubt == "the recording of rank 21 is partial"
    assert of_report(report(finding(rank=3), status="partial"), 7)[0].doubt == ""


@pytest.mark.parametrize(
    ("first", "last", "steps", "seen"),
    [(0, 599, 600, 5), (590, 599, 600, 1), (570, 599, 600, 3), (0, 100, 600, 0), (10, 43, 34, 5), (36, 43, 34, 2)],
)
def test_of_steps_the_last_looks_count(first, last, steps, seen):
    assert parts({"first_step": first, "last_step": last}, {"steps": steps}) == (seen, 5)


def test_of_nothing_nothing_can_be_said():
    assert parts({}, {}) == (0, 0)


def test_an_incident_is_a_case_and_says_what_it_does_not_know():
    told = W["incident"]("a1")
    known = Known(seen_ns=9, seen_count=4, of_count=5, ranks=16, step_s=0.5, doubt="it does not tell")
    case = of_incident(told, known)
    assert case.incident == "a1" and case.ranks == 16 and case.peers == 15 and case.doubt == "it does not tell"
    assert (case.seen_ns, case.seen_count, case.of_count) == (9, 4, 5) and not case.healthy
    assert of_incident(W["incident"]("a1", state="closed"), known).healthy
    unknown = of_incident(told | {"cost": {**told["cost"], "lost_gpus": None}}, Known(9, 1, 1))
    assert unknown.ranks == 0 and unknown.peers == -1 and unknown.steps == -1


def test_the_report_of_the_tests_is_one():
    import jsonschema

    made = report(finding())
    made |= {"summary": {}, "recommendations": []}
    check = schema("report")
    check["required"] = [name for name in check["required"] if name != "summary"]
    check["properties"].pop("summary")
    jsonschema.Draft202012Validator(check).validate(json.loads(json.dumps(made)))


def test_an_incident_that_ended_begins_to_be_counted_anew():
    sightings = Sightings()
    for seen in ({"a": True}, {"a": True, "b": True}, {"b": False}, {"a": True, "b": True}):
        sightings.note(seen)
    assert sightings.counts("a") == (1, 1) and sightings.counts("b") == (2, 3) and sightings.counts("c") == (0, 0)
    for _ in range(9):
        sightings.note({"a": True})
    assert sightings.counts("a") == (5, 5)
