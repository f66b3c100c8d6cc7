"""Weeks that `watch` recorded: its own board of incidents and its own files, played again."""

import json
from dataclasses import replace

import pytest

from skewscope import subjects
from skewscope.acting._replay_history import Guess, documents, recorded
from skewscope.acting._replay_presets import policy
from skewscope.acting.replay import Settings, nobody, play
from skewscope.contracts import Finding, Window
from skewscope.errors import UsageError
from skewscope.watch.history import History
from skewscope.watch.incident_document import Documents
from skewscope.watch.incidents import WINDOW_NS, Board, Seen, advance

START_NS = 1_767_600_000 * 10**9
WINDOWS = 600  # five hours
GPU = subjects.gpu("n3", 1, rank=25)


def found(share, end_ns, subject=GPU, condition="gpu-slow-silent", confidence=0.95):
    window = Window(START_NS, end_ns, 10, 400)
    return Finding(condition, subject, "culprit", "S2", confidence, window, 1.0, share, (), "it is slow")


def watched(folder, shares, job="train", ranks=32, **more):
    """Let watch see findings, window by window (0: none), and keep its history in a folder."""
    board, history, made = Board(), History([folder / "history.jsonl", folder / ".history.jsonl"]), Documents()
    for number, share in enumerate(shares, 1):
        end_ns = START_NS + number * WINDOW_NS
        seen = [Seen(found(share, end_ns, **more), job=job, ranks=ranks)] if share else []
        board = advance(board, end_ns, seen)
        history.note(made.of(board))
    return board


def test_an_incident_is_played_as_it_was_recorded(tmp_path):
    board = watched(tmp_path, [0.4] * WINDOWS + [0.0] * 20)
    week = recorded([tmp_path])
    (trouble,), (work,) = week.troubles, week.works
    assert (trouble.id, trouble.nodes, trouble.gpu, trouble.job) == (board.incidents[0].id, ("n3",), 1, "train")
    assert (work.ranks, work.nodes, work.on) == (32, 4, ("n3",)) and len(week.machines) == 6 and not week.is_known
    lost = board.incidents[0].lost_gpu_s / 3600
    assert f"{lost:.0f} GPU-h lost" in week.about
    assert nobody(week).slowed_gpu_hours == pytest.approx(lost, rel=0.02)


def test_acting_on_it_would_have_saved_most(tmp_path):
    watched(tmp_path, [0.4] * WINDOWS + [0.0] * 20)
    week = recorded([tmp_path])
    one = play("bold", policy("bold"), week, Settings(scheduler="kubernetes"))
    assert [(deed.target, deed.right) for deed in one.deeds] == [("n3", None)]
    assert one.slowed_gpu_hours < 0.1 * nobody(week).slowed_gpu_hours


def test_levels_follow_the_changes(tmp_path):
    watched(tmp_path, [0.1] * 40 + [0.4] * 40 + [0.1] * 40 + [0.0] * 20)
    (trouble,) = recorded([tmp_path]).troubles
    at = [START_NS + number * WINDOW_NS for number in (20, 60, 100)]
    assert [trouble.share_at(time_ns) for time_ns in at] == pytest.approx([0.1, 0.4, 0.1])
    assert trouble.share_at(trouble.end_ns) == 0


def test_what_blames_no_node_is_a_trouble_of_its_job(tmp_path):
    watched(tmp_path, [0.3] * 60, subject=subjects.job("train"), condition="data-loader-stall")
    (trouble,) = recorded([tmp_path]).troubles
    assert (trouble.kind, trouble.nodes, trouble.job, trouble.end_ns) == (
        "job",
        (),
        "train",
        recorded([tmp_path]).end_ns,
    )


def test_what_is_broken_is_told_apart_and_a_job_that_nobody_knows_is_none(tmp_path):
    watched(tmp_path, [1.0] * 60, condition="gpu-off-bus", job="")
    week = recorded([tmp_path], Guess(nodes=20))
    assert [one.kind for one in week.troubles] == ["hard"] and not week.works and len(week.machines) == 20


def test_files_and_folders_with_a_former_part(tmp_path):
    watched(tmp_path, [0.4] * 60)
    told = list(documents([tmp_path / "history.jsonl"]))
    (tmp_path / "history.1.jsonl").write_text(json.dumps({**told[0], "id": "older"}) + "\n")
    assert [one["id"] for one in documents([tmp_path])][0] == "older"
    assert {one.id for one in recorded([tmp_path / "history.jsonl"]).troubles} == {told[0]["id"]}


def test_lines_of_others_and_half_lines_are_passed_over(tmp_path):
    watched(tmp_path, [0.4] * 60)
    whole = (tmp_path / "history.jsonl").read_text()
    noise = ['{"schema": "skewscope.incident/1"}', "[]", "", '{"schema": "skewscope.action/1"}', whole[:40]]
    (tmp_path / ".history.jsonl").unlink()
    (tmp_path / "history.jsonl").write_text("\n".join([*noise, whole, whole[:40]]))
    assert len(recorded([tmp_path]).troubles) == 1


def test_no_history_is_told(tmp_path):
    with pytest.raises(UsageError, match="watch --state DIR"):
        recorded([tmp_path])
    with pytest.raises(UsageError, match="cannot be read"):
        recorded([tmp_path / "missing.jsonl"])


def test_two_jobs_at_once_have_nodes_for_both(tmp_path):
    watched(tmp_path, [0.4] * 60, job="one")
    text = (tmp_path / "history.jsonl").read_text()
    told = [json.loads(line) for line in text.splitlines()]
    for one in told:
        other = {**one, "id": "other", "job": "two"}
        other["subject"] = {**one["subject"], "id": "n9/gpu0", "node": "n9"}
        text += json.dumps(other) + "\n"
    (tmp_path / "history.jsonl").write_text(text)
    week = recorded([tmp_path], Guess(spares=1))
    assert [work.on for work in week.works] == [("n3",), ("n9",)] and len(week.machines) == 9
    assert nobody(week).slowed_gpu_hours == pytest.approx(
        2 * nobody(replace(week, troubles=week.troubles[:1])).slowed_gpu_hours, rel=0.05
    )
