from __future__ import annotations

import json
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skewscope import subjects
from skewscope.watch.incident_document import Documents, restored
from skewscope.watch.incidents import CLOSED, GROWING, MITIGATED, OPEN, Board, Patience, Seen, advance, changes, is_same

F = SimpleNamespace(**run_path(str(Path(__file__).with_name("_findings.py"))))
GPU, HOST, RACK = F.GPU, subjects.node("n3"), subjects.rack("r1")
CLEAR = 6  # windows: 180 s


def test_closed_incidents_are_forgotten_by_age_and_number_and_live_ones_never():
    patience = Patience(keep_s=3600, most_kept=3)
    hosts = [F.seen(subject=subjects.node(f"n{at}")) for at in range(6)]
    story = F.Story(patience=patience)
    story.go(*hosts)
    assert len(story.board.incidents) == 6
    story.go(hosts[0], windows=CLEAR)
    assert [one.state for one in story.board.incidents].count(CLOSED) == 2
    assert len(story.board.live) == 1
    story.go(hosts[0], windows=121)
    assert [one.root.subject.id for one in story.board.incidents] == ["n0"]


def test_the_newest_change_is_first_and_changes_are_told_oldest_first():
    story = F.Story()
    before = story.go(F.seen())
    after = story.go(F.seen(), F.seen(subject=subjects.node("n8")))
    assert [one.root.subject.id for one in after.incidents] == ["n8", "n3/gpu1"]
    final = story.go(F.seen(share=0.5))
    assert [one.root.subject.id for one in changes(before, after)] == ["n8"]
    assert {one.root.subject.id for one in changes(after, final)} == {"n3/gpu1", "n8"}


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (GPU, GPU, True), (GPU, HOST, True), (HOST, RACK, True), (GPU, subjects.gpu("n3", 2, rank=8), False),
        (GPU, subjects.rank("llm", 7, node="n3"), True), (HOST, subjects.node("n4"), False),
        (subjects.job("a"), subjects.job("b"), False), (HOST, subjects.job("a"), True),
    ],
)  # fmt: skip
def test_places_that_are_one(first, second, same):
    assert is_same(F.finding(subject=first), F.finding(subject=second)) is same
    assert is_same(F.finding(subject=second), F.finding(subject=first)) is same
    assert not is_same(F.finding(subject=first), F.finding(F.SLOW, subject=second))


PLACES = [
    GPU, subjects.gpu("n3", 2, rank=8), HOST, subjects.node("n4"), subjects.nic("n4", "mlx5_0"), RACK,
    subjects.rack("r2"), subjects.job("llm"), subjects.rank("llm", 7, node="n3"), subjects.rank("other", 7),
]  # fmt: skip
ONE = st.tuples(
    st.sampled_from([F.HOT, F.SLOW, F.LATE, F.LOST, "step-shift"]), st.sampled_from(PLACES),
    st.sampled_from([0.0, 0.01, 0.1, 0.3, 0.9]), st.sampled_from(["S1", "S2", "S3", "S4"]),
    st.sampled_from(["", "llm", "other"]), st.booleans(),
)  # fmt: skip
WINDOW = st.tuples(
    st.lists(ONE, max_size=4, unique_by=lambda one: (one[0], one[1].id)),
    st.sets(st.sampled_from(["n3", "n4"])), st.sampled_from([1, 1, 1, 1, 2, 3, 40]),
)  # fmt: skip
NEXT = {
    OPEN: {OPEN, GROWING, MITIGATED, CLOSED}, GROWING: {GROWING, MITIGATED, CLOSED},
    MITIGATED: {OPEN, GROWING, MITIGATED, CLOSED}, CLOSED: {OPEN, CLOSED},
}  # fmt: skip


def told(found) -> list[Seen]:
    return [
        F.seen(condition, place, share, severity=severity, job=job, stopped=stopped)
        for condition, place, share, severity, job, stopped in found
    ]


@settings(max_examples=150, deadline=None)
@given(st.lists(WINDOW, max_size=25))
def test_whatever_comes_boards_make_sense(history):
    board, time_ns = Board(), F.START_NS
    for found, silent, windows in history:
        time_ns += windows * F.WINDOW_NS
        before, board = board, advance(board, time_ns, told(found), silent=silent)
        places = [(one.root.condition, one.root.subject.id) for one in board.live]
        assert len(set(places)) == len(places)
        assert len({one.id for one in board.incidents}) == len(board.incidents)
        known = {one.id: one for one in before.incidents}
        for one in board.incidents:
            check(known.get(one.id), one, time_ns)
        homes = {(one.root.condition, one.root.subject.id) for one in board.live} | {
            (other.condition, other.subject.id) for one in board.live for other in one.seen.others
        }
        assert {(condition, place.id) for condition, place, *_ in found} <= homes
        assert restored(json.loads(msgspec.json.encode(Documents().saved(board)))) == board
        assert changes(before, board) == [
            one for one in sorted(board.incidents, key=lambda one: (one.changed_ns, one.id))
            if one.changed_ns == time_ns
        ]  # fmt: skip


def check(before, now, time_ns: int) -> None:
    """Check one step of an incident."""
    assert now.opened_ns <= now.changed_ns <= time_ns
    assert now.seen_ns <= time_ns
    assert (now.closed_ns >= 0) == (now.state == CLOSED)
    assert now.peak_share >= 0
    if before is None:
        assert (now.state, now.opened_ns, now.flaps) == (OPEN, time_ns, 0)
        return
    assert now.state in NEXT[before.state]
    assert now.changed_ns >= before.changed_ns
    assert now.opened_ns == before.opened_ns
    assert now.lost_gpu_s >= before.lost_gpu_s
    assert now.flaps == before.flaps + (before.state == CLOSED != now.state)
    if (now.state, now.root.condition, now.root.subject) != (before.state, before.root.condition, before.root.subject):
        assert now.changed_ns == time_ns
    if now.root.severity != before.root.severity and now.root.condition == before.root.condition:
        assert before.state == CLOSED or now.root.severity < before.root.severity
