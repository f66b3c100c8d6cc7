from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

from skewscope import subjects
from skewscope.watch.incidents import (
    CLOSED,
    GROWING,
    MITIGATED,
    OPEN,
    Board,
    Patience,
    Seen,
    advance,
    changes,
    is_active,
    rewound,
)  # fmt: skip

F = SimpleNamespace(**run_path(str(Path(__file__).with_name("_findings.py"))))
GPU, HOST, RACK = F.GPU, subjects.node("n3"), subjects.rack("r1")
CLEAR = 6  # windows: 180 s
REOPEN = 30  # windows: 900 s


def states(story) -> list[str]:
    """Return the states that the only incident had, without repeats."""
    found: list[str] = []
    for board in story.boards[1:]:
        for one in board.incidents:
            if not found or found[-1] != one.state:
                found.append(one.state)
    return found


def test_one_trouble_is_one_incident_and_told_once():
    story = F.Story()
    story.go(F.seen(), windows=20)
    one = story.one
    assert (one.state, one.opened_ns, one.changed_ns, one.seen_ns) == (OPEN, F.at(1), F.at(1), F.at(20))
    assert one.lost_gpu_s == pytest.approx(0.2 * 16 * 19 * 30)
    assert [len(changes(before, after)) for before, after in zip(story.boards, story.boards[1:], strict=False)] == [
        1
    ] + 19 * [0]


def test_two_troubles_are_two():
    story = F.Story()
    story.go(F.seen(), F.seen(subject=subjects.gpu("n4", 1)), windows=3)
    assert {one.root.subject.id for one in story.board.incidents} == {"n3/gpu1", "n4/gpu1"}
    assert len({one.id for one in story.board.incidents}) == 2


def test_it_opens_grows_eases_ends_and_comes_back_as_itself():
    story = F.Story()
    story.go(F.seen(share=0.2), windows=2)
    story.go(F.seen(share=0.23))  # not a quarter more
    story.go(F.seen(share=0.4), windows=2)
    assert (story.one.state, story.one.changed_ns, story.one.peak_share) == (GROWING, F.at(4), 0.4)
    story.go(F.seen(share=0.15))  # less than half of the peak
    story.go(F.seen(share=0.3))
    name = story.one.id
    story.go(windows=CLEAR)
    assert (story.one.state, story.one.closed_ns) == (CLOSED, F.at(13))
    story.go(windows=3)
    story.go(F.seen(share=0.05))  # what it cost before it ended counts no more
    assert states(story) == [OPEN, GROWING, MITIGATED, OPEN, MITIGATED, CLOSED, OPEN]
    assert (story.one.id, story.one.flaps, story.one.closed_ns, story.one.peak_share) == (name, 1, -1, 0.05)


def test_growth_of_what_is_small_is_not_told():
    story = F.Story()
    story.go(F.seen(share=0.01))
    story.go(F.seen(share=0.025))
    assert (story.one.state, story.one.changed_ns) == (OPEN, F.at(1))


def test_it_is_told_again_each_time_it_grows():
    story = F.Story()
    for share in (0.1, 0.2, 0.2, 0.3):
        story.go(F.seen(share=share))
    assert [one.changed_ns for board in story.boards[1:] for one in board.incidents] == [
        F.at(1), F.at(2), F.at(2), F.at(4)
    ]  # fmt: skip


def test_what_was_told_before_is_no_growth():
    story = F.Story()
    for share in (0.4, 0.1, 0.4, 0.45, 0.6):
        story.go(F.seen(share=share))
    assert states(story) == [OPEN, MITIGATED, OPEN, GROWING]
    assert story.one.changed_ns == F.at(5)


def test_what_comes_back_late_is_another_incident():
    story = F.Story()
    story.go(F.seen())
    story.go(windows=CLEAR + REOPEN)
    story.go(F.seen())
    assert [(one.state, one.flaps) for one in story.board.incidents] == [(OPEN, 0), (CLOSED, 0)]


def test_evidence_on_more_devices_moves_the_place_up_and_down_again():
    story = F.Story()
    for place in (GPU, HOST, RACK, HOST, GPU):
        story.go(F.seen(subject=place), windows=2)
        assert story.one.root.subject == place
    assert (story.one.opened_ns, story.one.changed_ns) == (F.at(1), F.at(9))


def test_what_a_rack_was_made_of_is_not_confused_when_the_rack_is_over():
    story = F.Story()
    first, second = F.seen(subject=subjects.node("n3")), F.seen(subject=subjects.node("n4"))
    story.go(first, second, windows=2)
    names = {one.root.subject.id: one.id for one in story.board.incidents}
    story.go(F.seen(subject=RACK))
    assert len(story.board.incidents) == 2
    story.go(first, second, windows=2)
    assert {one.root.subject.id: one.id for one in story.board.incidents} == names


def test_of_a_host_and_its_gpu_the_one_that_stood_for_it_stays():
    story = F.Story()
    story.go(F.seen(subject=HOST))
    story.go(F.seen(subject=GPU), F.seen(subject=HOST), windows=3)
    assert (story.one.root.subject, story.one.changed_ns) == (HOST, F.at(1))
    assert [other.subject for other in story.one.seen.others] == [GPU]


def test_racks_of_one_condition_are_one_trouble():
    story = F.Story()
    story.go(F.seen(subject=RACK))
    story.go(F.seen(subject=subjects.rack("r2")))
    assert story.one.root.subject.id == "r2"


def test_a_cause_found_later_takes_the_incident_over():
    story = F.Story()
    rank = subjects.rank("llm", 7, node="n3")
    story.go(F.seen(F.LATE, rank), windows=2)
    name = story.one.id
    story.go(F.seen(F.HOT, GPU, others=[F.finding(F.LATE, rank, role="victim")]))
    assert (story.one.id, story.one.root.condition, story.one.changed_ns) == (name, F.HOT, F.at(3))
    assert [other.condition for other in story.one.seen.others] == [F.LATE]
    story.go(F.seen(F.LATE, rank))  # the cause is hidden for a window
    assert (story.one.id, story.one.root.condition) == (name, F.LATE)


def test_the_cause_stands_where_both_are_culprits():
    story = F.Story()
    rank = subjects.rank("llm", 7, node="n3")
    story.go(F.seen(F.LATE, rank), F.seen(F.HOT, GPU))
    assert (story.one.root.condition, [other.condition for other in story.one.seen.others]) == (F.HOT, [F.LATE])


def test_the_cause_of_another_job_takes_nothing_over():
    story = F.Story()
    story.go(F.seen(F.HOT, GPU, job="llm"), F.seen("step-shift", subjects.job("other"), job="other"), windows=2)
    assert {one.root.condition for one in story.board.incidents} == {F.HOT, "step-shift"}
    story.go(F.seen(F.HOT, subjects.gpu("n9", 1, rank=7), job="other"), F.seen(F.HOT, GPU, job="llm"))
    assert len(story.board.live) == 2
    assert {one.root.subject.id for one in story.board.live} == {"n3/gpu1", "n9/gpu1"}


def test_jobs_that_are_slow_alike_are_apart():
    story = F.Story()
    story.go(F.seen("step-shift", subjects.job("a"), job="a"), F.seen("step-shift", subjects.job("b"), job="b"))
    story.go(F.seen("step-shift", subjects.node("n9"), job="c"))
    assert len(story.board.incidents) == 3


def test_a_host_keeps_its_trouble_when_another_job_runs_there():
    story = F.Story()
    story.go(F.seen(subject=GPU, job="a"))
    story.go(F.seen(subject=HOST, job="b"))
    assert story.one.seen.job == "b"


def test_a_worse_severity_is_told_and_a_better_one_waits_for_the_end():
    story = F.Story()
    for severity in ("S3", "S2", "S3", "S4"):
        story.go(F.seen(severity=severity))
    told = [board.incidents[0] for board in story.boards[1:]]
    assert [one.root.severity for one in told] == ["S3", "S2", "S2", "S2"]
    assert told[-1].changed_ns == F.at(2)
    story.go(windows=CLEAR)
    story.go(F.seen(severity="S4"))
    assert story.one.root.severity == "S4"


def test_silent_hosts_freeze_their_incidents():
    story = F.Story()
    story.go(F.seen(), F.seen(subject=subjects.gpu("n4", 1)))
    story.go(windows=20, silent={"n3"})
    assert {one.root.subject.node: one.state for one in story.board.incidents} == {"n3": OPEN, "n4": CLOSED}
    assert story.board.incidents[-1].changed_ns == F.at(1)
    story.go(windows=CLEAR - 1)
    assert [one.state for one in story.board.live] == [MITIGATED]
    story.go()
    assert not story.board.live


def test_what_could_not_be_looked_for_is_not_over():
    story = F.Story()
    story.go(F.seen(), F.seen(F.LOST, subjects.gpu("n9", 0)))
    story.go(windows=20, failed={F.HOT: ValueError()})
    assert {one.root.condition: one.state for one in story.board.incidents} == {F.HOT: OPEN, F.LOST: CLOSED}


@pytest.mark.parametrize("silent", [(), ("n3",)])
def test_a_time_in_which_nobody_looked_is_no_silence(silent):
    story = F.Story()
    story.go(F.seen())
    story.go(skip=100, silent=silent)
    assert story.one.state == (OPEN if silent else MITIGATED)
    assert story.one.seen_ns <= story.board.time_ns
    story.go(windows=CLEAR - 2)
    assert story.board.live
    story.go(windows=2)
    assert not story.board.live


def test_a_long_time_between_windows_costs_no_more_than_until_it_would_have_closed():
    story = F.Story()
    story.go(F.seen())
    story.go(F.seen(), skip=1000)
    assert story.one.lost_gpu_s == pytest.approx(0.2 * 16 * 180)


def test_old_windows_of_the_horizon_open_nothing_but_what_broke_stays_broken():
    now, patience = F.at(100), Patience()

    def ago(condition: str, start_s: float, end_s: float, **kw):
        start_ns, end_ns = (now - int(s * F.SECOND_NS) for s in (start_s, end_s))
        return F.finding(condition, start_ns=start_ns, end_ns=end_ns, **kw)

    assert is_active(ago(F.HOT, 900, 89), now, patience)
    assert not is_active(ago(F.HOT, 120, 90), now, patience)
    assert is_active(ago(F.LOST, 599, 590), now, patience)
    assert not is_active(ago(F.LOST, 600, 90), now, patience)
    assert is_active(ago(F.LOST, 6000, 0), now, patience)
    assert is_active(F.finding(end_ns=-1), now, patience)
    old, broken = ago(F.HOT, 500, 400), ago(F.LOST, 500, 400, subject=subjects.gpu("n5", 0))
    board = advance(Board(), now, [Seen(old), Seen(broken)])
    assert [one.root.condition for one in board.incidents] == [F.LOST]


def test_a_job_that_stands_still_for_what_broke_loses_all_of_its_gpus():
    assert F.seen(F.LOST, share=0.0, stopped=True).lost_gpus == 16.0
    assert F.seen(F.HOT, share=0.25, stopped=True).lost_gpus == 4.0
    assert F.seen(share=1.5).lost_gpus == 16.0
    assert F.seen(share=-0.5).lost_gpus == 0.0
    assert F.seen(share=float("nan")).lost_gpus == 0.0


def test_a_window_that_is_not_later_changes_nothing():
    story = F.Story()
    board = story.go(F.seen(), windows=2)
    assert advance(board, F.at(2), []) is board
    assert advance(board, F.at(1), [F.seen(F.LOST)]) is board


def test_after_the_clock_went_back_life_goes_on():
    story = F.Story()
    story.go(F.seen(), F.seen(subject=subjects.gpu("n4", 1)), windows=100)
    story.go(F.seen(), windows=CLEAR)
    back = rewound(story.board, F.at(10))
    assert back.time_ns == F.at(10)
    assert all(max(one.opened_ns, one.changed_ns, one.seen_ns, one.closed_ns) <= F.at(10) for one in back.incidents)
    assert {one.id: one.state for one in back.incidents} == {one.id: one.state for one in story.board.incidents}
    again = F.Story(back)
    again.window = 10
    again.go(windows=CLEAR - 1)
    assert len(again.board.live) == 1
    again.go()
    assert not again.board.live


def test_no_two_incidents_have_one_name_though_the_clock_went_back():
    story = F.Story()
    story.go(F.seen())
    moved = replace(story.one, seen=F.seen(F.LOST, subjects.gpu("n9", 0)))
    board = advance(Board((moved,), -1), F.at(1), [F.seen()])
    assert len({one.id for one in board.incidents}) == len(board.incidents) == 2
