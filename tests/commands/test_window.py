import argparse

import pytest

from skewscope.commands._window import Window, cut, window
from skewscope.errors import UsageError
from skewscope.frames import frame


@pytest.mark.parametrize(
    ("text", "first", "last", "unit"),
    [
        ("3:9", 3, 9, "step"),
        (":9", -(2**62), 9, "step"),
        ("3:", 3, 2**62, "step"),
        ("1700000000000000000:1700000001000000000", 1700000000000000000, 1700000001000000000, "time"),
        ("1970-01-13T00:00:00Z:1970-01-14", 12 * 86400 * 10**9, 13 * 86400 * 10**9, "time"),
        ("1970-01-13:1970-01-13T00:00:01+00:00", 12 * 86400 * 10**9, (12 * 86400 + 1) * 10**9, "time"),
    ],
)
def test_ends(text, first, last, unit):
    assert window(text) == Window(first, last, unit)


@pytest.mark.parametrize("text", ["", ":", "9", "9:3", "a:b", "3:1700000000000000000"])
def test_wrong_ends(text):
    with pytest.raises(argparse.ArgumentTypeError):
        window(text)


def test_cut_keeps_both_ends(make_world):
    tables = make_world().tables
    assert sorted(cut(tables, window("3:5"))["rank_steps"]["step"].unique()) == [3, 4, 5]
    start = int(tables["step_times"]["start_ns"][4])
    assert cut(tables, Window(start, 2**62, "time"))["step_times"]["step"].min() == 4


def test_rows_without_a_step_are_kept_by_their_time():
    steps = {
        "job": "j",
        "step": [0, 1, 2],
        "rank": 0,
        "phase": "step",
        "start_ns": [10, 20, 30],
        "end_ns": [20, 30, 40],
    }
    ops = {
        "job": "j",
        "rank": 0,
        "step": -1,
        "op": "kernel",
        "stream": 7,
        "start_ns": [12, 22, 32],
        "end_ns": [13, 23, 33],
    }
    made = cut({"steps": frame("steps", steps), "ops": frame("ops", ops)}, window("1:1"))
    assert made["steps"]["step"].tolist() == [1]
    assert made["ops"]["start_ns"].tolist() == [22]


def test_an_empty_window_says_what_there_is(make_world):
    with pytest.raises(UsageError, match="holds steps 0 to 39"):
        cut(make_world().tables, window("100:200"))
