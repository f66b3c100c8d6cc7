from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from skewscope.top import agents, samples
from skewscope.top.draw import Look, page
from skewscope.top.frame import Found, Frame, Job, Row, document, judged, matching, merged, ordered
from skewscope.top.keys import pressed, split
from skewscope.top.loop import Asking

NOW_S = 1_800_000_000.0
LATE = Found("S2", "coll-late-rank", "job/rank3", rank=3, cost_s=0.2, share=0.1, since_ns=int((NOW_S - 300) * 1e9),
             summary="rank 3 is late")  # fmt: skip
HOT = Found("S1", "gpu-hw-slowdown", "n1/gpu0", node="n1", cost_s=0.1)


PLAIN = Look()


def drawn(frame: Frame | None, look: Look = PLAIN, height: int = 0, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    console.print(page(frame, look, NOW_S, height, keys=True))
    return console.file.getvalue()


def frame(rows: int = 4, findings=(LATE,)) -> Frame:
    made = [Row(rank, f"n{rank // 4}", str(rank % 4), "job", 0.9, 600, 700, 60, work_ratio=1.0) for rank in range(rows)]
    told = Frame(
        int(NOW_S * 1e9), "here", "rank 3 is late.", (Job("job", rows, 1.5, 1.2, 0.4, 3.0),), findings, tuple(made)
    )
    return merged([told])


def test_whom_a_finding_names_stands_first_with_its_reason():
    rows = frame().rows
    assert (rows[0].rank, rows[0].state, rows[0].why) == (3, "culprit", "coll-late-rank")
    assert {row.state for row in rows[1:]} == {"ok"}


def test_a_gpu_and_a_node_may_be_named_too():
    rows = [Row(-1, "n1", "0", util_ratio=0.9), Row(-1, "n2", "0", util_ratio=0.01), Row(-1, "n3", "0", util_ratio=0.9)]
    down = Found("S1", "nic-link-down", "n3")
    assert [(row.node, row.state) for row in judged(rows, [HOT, down])] == [
        ("n1", "culprit"), ("n3", "culprit"), ("n2", "idle"),
    ]  # fmt: skip


def test_ranks_that_only_findings_know_get_a_row():
    (row,) = judged([], [Found("S2", "gpu-hw-slowdown", "n1/gpu2", rank=10, node="n1", job="a")])
    assert (row.rank, row.node, row.gpu, row.state) == (10, "n1", "2", "culprit")
    assert judged([], [Found("S4", "few-peers", "job/rank1", "context", rank=1)]) == []


def test_a_rank_that_two_sources_know_has_one_row():
    service = Row(3, "n0", "3", "job", step_s=2.0, work_ratio=1.3, wait_ratio=0.1)
    agent = Row(3, "n0", "3", "job", util_ratio=0.9, step_s=2.5)
    told = merged(
        [Frame(1, "service", rows=(service, Row(4, job="job"))), Frame(2, "agents", rows=(agent, Row(), Row()))]
    )
    assert sorted(row.rank for row in told.rows) == [-1, -1, 3, 4]
    (row,) = [row for row in told.rows if row.rank == 3]
    assert (row.util_ratio, row.step_s, row.work_ratio, row.wait_ratio, row.state) == (0.9, 2.5, 1.3, 0.1, "slow")


@pytest.mark.parametrize(
    ("column", "first"), [("", 3), ("rank", 0), ("util", 2), ("work", 1), ("node", 0), ("state", 3), ("wait", 0)]
)
def test_every_column_sorts(column, first):
    rows = [Row(0, "a"), Row(1, "b", work_ratio=1.05), Row(2, "c", util_ratio=0.5), Row(3, "d", state="culprit")]
    assert ordered(rows, column)[0].rank == first
    assert ordered(rows, column, reverse=True)[-1].rank == first


def test_the_page_says_what_a_person_looks_for():
    said = drawn(frame())
    for text in (
        "rank 3 is late.",
        "coll-late-rank",
        "culprit",
        "1.5 s",
        "1.20x",
        "5 min",
        "600/700 W",
        "q quit",
        "4 rows",
    ):
        assert text in said, text


def test_it_fits_the_terminal_however_many_ranks():
    said = drawn(frame(500), height=40)
    assert len(said.splitlines()) <= 40
    assert "of 500 rows" in said
    further = drawn(frame(500), Look(column="rank", first=490), height=40)
    assert "rank" in further and "-500 of 500 rows" in further and " 499 " in further


def test_what_does_not_answer_is_said_and_the_last_frame_stays():
    said = drawn(frame(), Look(trouble="http://w does not answer: refused", trouble_since_s=NOW_S - 30))
    assert "does not answer: refused since 30 s" in said and "the last that was heard" in said and "culprit" in said
    assert "waiting for the first answer" in drawn(None, Look(trouble="refused", trouble_since_s=NOW_S))


def test_names_from_outside_cannot_steer_the_terminal():
    nasty = Row(1, "n\x1b[31m1", "0", "job\x07", state="ok")
    said = drawn(
        merged([Frame(0, "x\x1b]0;t", "v\x1b[2J", rows=(nasty,), wrong=("w\x1b[0m",))]), Look(trouble="t\x1b[1m")
    )
    assert "\x1b" not in said and "\x07" not in said


def test_filters():
    rows = frame(8).rows
    assert [row.node for row in matching(rows, "N1/")] == ["n1"] * 4
    assert [row.rank for row in matching(rows, "late")] == [3]


def test_unknown_is_none_in_the_document():
    told = document(frame())
    row = told["rows"][0]
    assert row["wait_ratio"] is None and row["util_ratio"] == 0.9 and told["findings"][0]["lost_gpus"] is None


def test_keys():
    look = Look()
    for key, attribute, value in (
        ("right", "column", "state"), ("right", "column", "rank"), ("left", "column", "state"), ("r", "reverse", True),
        ("down", "first", 1), ("page-down", "first", 11), ("up", "first", 10), (" ", "paused", True),
        ("/", "typing", True), ("n", "filter", "n"), ("q", "filter", "nq"), ("\x7f", "filter", "n"),
        ("\r", "typing", False), ("\x1b", "filter", ""),
    ):  # fmt: skip
        look = pressed(look, key)
        assert getattr(look, attribute) == value, key
    assert pressed(look, "q") is None and pressed(look, "x") == look


def test_sequences_may_come_in_pieces():
    keys, rest = split("a\x1b[")
    assert (keys, rest) == (["a"], "\x1b[")
    assert split(rest + "B/") == (["down", "/"], "")


class Failing:
    def __init__(self) -> None:
        self.works = True

    def frame(self) -> Frame:
        if not self.works:
            raise RuntimeError("gone")
        return frame()


def test_an_error_keeps_the_last_frame_and_tells_since_when():
    clock = [100.0]
    source = Failing()
    asking = Asking([source], clock_s=lambda: clock[0])
    asking.look()
    assert asking.heard[0] is not None and asking.heard[1:] == ("", 0.0)
    source.works, clock[0] = False, 110.0
    asking.look()
    clock[0] = 120.0
    asking.look()
    kept, trouble, since_s = asking.heard
    assert kept is not None and "gone" in trouble and since_s == 110.0
    source.works = True
    asking.look()
    assert asking.heard[1:] == ("", 0.0)


def counters(steps: float, waits: list[float]) -> dict:
    return {("n1", "job", str(rank)): [steps, steps, wait * steps, 0.0] for rank, wait in enumerate(waits)}


def test_the_rank_that_waits_least_works_most():
    rows = [Row(rank, "n1", str(rank), "job") for rank in range(3)]
    made = agents.with_times(rows, counters(100, [0.4, 0.1, 0.4]), {})
    assert [round(row.work_ratio, 2) for row in made] == [1.0, 1.5, 1.0]
    assert [row.wait_ratio for row in made] == pytest.approx([0.4, 0.1, 0.4])
    now = {key: [one + 10 for one in value] for key, value in counters(100, [0.4, 0.1, 0.4]).items()}
    again = agents.with_times(rows, now, counters(100, [0.4, 0.1, 0.4]))
    assert [row.step_s for row in again] == [1.0] * 3
    restarted = agents.with_times(rows, counters(5, [0.2, 0.2, 0.2]), now)
    assert [row.wait_ratio for row in restarted] == pytest.approx([0.2] * 3)
    still = agents.with_times(rows, now, now)
    assert all(math.isnan(row.work_ratio) for row in still)


def test_only_what_is_shown_is_parsed():
    body = b'# HELP x y\nup{a="b"} nonsense\nskewscope_x{a="b\\"c"} 2.5\n'
    (one,) = samples.of(body, {"skewscope_x"})
    assert (one.labels, one.value) == ({"a": 'b"c'}, 2.5)
