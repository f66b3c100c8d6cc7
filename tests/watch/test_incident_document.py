from __future__ import annotations

import json
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import jsonschema
import msgspec
import pytest

from skewscope import subjects
from skewscope.contracts import Evidence
from skewscope.reports.json_schema import schema
from skewscope.watch.incident_document import Documents, document, restored
from skewscope.watch.incidents import Board

F = SimpleNamespace(**run_path(str(Path(__file__).with_name("_findings.py"))))


def kept(board):
    return json.loads(msgspec.json.encode(Documents().saved(board)))


def boards():
    story = F.Story()
    rank = subjects.rank("llm", 7, node="n3")
    story.go(
        F.seen(others=[F.finding(F.LATE, rank, role="victim", also_seen=("x",))]),
        F.seen(F.LOST, subjects.gpu("n9", 0), share=0.0),
    )
    story.go(F.seen(share=0.5), F.seen("step-shift", subjects.job("o"), job=""))
    story.go(F.seen(share=0.1), windows=7)
    return story.boards


def test_documents_keep_to_their_schema():
    validator = jsonschema.Draft202012Validator(schema("incident"))
    states = set()
    for board in boards():
        for one in board.incidents:
            made = json.loads(json.dumps(document(one), allow_nan=False))
            validator.validate(made)
            states.add(made["state"])
            assert (made["closed_ns"] is None) == (made["state"] != "closed")
            assert (made["cost"]["lost_gpus"] is None) == (one.seen.job == "")
            assert [found["condition"] for found in made["findings"]][0] == made["condition"] == made["runbook"]
    assert states == {"open", "growing", "mitigated", "closed"}


def test_what_is_not_known_is_null_or_zero_and_never_out_of_bounds():
    validator = jsonschema.Draft202012Validator(schema("incident"))
    nan = float("nan")
    for share, lost_s, sure in ((nan, nan, nan), (1.7, -1.0, 2.0)):
        story = F.Story()
        story.go(F.seen(share=share, lost_s=lost_s, confidence=sure, evidence=(Evidence("x", nan, nan, None, ""),)))
        made = json.loads(json.dumps(document(story.one), allow_nan=False))
        validator.validate(made)
        assert made["cost"]["seconds_per_step"] == 0.0
        assert made["cost"]["share"] == min(max(0.0, share), 1.0)


def test_gpu_hours_add_up():
    story = F.Story()
    story.go(F.seen(share=0.5, ranks=240), windows=3)
    cost = document(story.one)["cost"]
    assert (cost["lost_gpus"], cost["gpu_hours"]) == (120.0, pytest.approx(120 * 60 / 3600))


def test_a_board_comes_back_as_it_was():
    for board in boards():
        assert restored(kept(board)) == board
    assert restored(kept(Board())) == Board()


def test_numbers_that_are_not_known_come_back_as_such():
    story = F.Story()
    story.go(F.seen(share=float("nan"), lost_s=float("nan"), evidence=(Evidence("x", float("nan"), None, 2.0, ""),)))
    (one,) = restored(kept(story.board)).incidents
    assert one.root.lost_share != one.root.lost_share
    assert one.root.evidence[0].value != one.root.evidence[0].value
    assert one.root.evidence[0].threshold == 2.0


@pytest.mark.parametrize(
    "damage",
    [
        {}, {"incidents": [{}], "time_ns": 1}, {"incidents": 3, "time_ns": 1}, {"incidents": [], "time_ns": None},
        {"incidents": [None], "time_ns": 1},
    ],
)  # fmt: skip
def test_anything_else_is_refused(damage):
    with pytest.raises((KeyError, TypeError, ValueError)):
        restored(damage)


def test_fields_of_another_version_are_refused():
    strange = kept(boards()[-1])
    strange["incidents"][0]["mood"] = "good"
    with pytest.raises(TypeError):
        restored(strange)


def test_a_document_is_made_once_for_each_change(monkeypatch):
    made = []

    def noted(one):
        made.append(one.id)
        return document(one)

    monkeypatch.setattr("skewscope.watch.incident_document.document", noted)
    documents, before = Documents(), Board()
    for board in boards():
        made.clear()
        assert documents.of(board) == documents.of(board) == tuple(document(one) for one in board.incidents)
        told = documents.saved(board)
        assert restored(json.loads(msgspec.json.encode(told))) == board
        same = {one.id for one in board.incidents if any(one is other for other in before.incidents)}
        assert sorted(made) == sorted({one.id for one in board.incidents} - same)
        before = board
    assert same, "the last board has an incident that was closed before"
