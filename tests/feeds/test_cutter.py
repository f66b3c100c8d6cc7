"""Samples become windows whatever the clock does."""

from __future__ import annotations

import numpy as np
import pytest

from skewscope.feeds import _cutter
from skewscope.feeds._cutter import Cutter
from skewscope.feeds.contract import WINDOW_NS, ends, lines
from skewscope.sources._telemetry_series import Meaning, Series

END = 1000 * WINDOW_NS
STEPS, WATTS = "skewscope_steps_total", "skewscope_gpu_power_watts"


def made():
    cutter = Cutter()
    steps = cutter.number([Series(Meaning(STEPS), "gpu0", "j", 3, "n1")])
    watts = cutter.number([Series(Meaning(WATTS, "kind=instant"), "gpu0", "", -1, "n1")])
    return cutter, steps, watts


def add(cutter, number, value, t_ns):
    cutter.add(np.array([number]), np.array([float(value)]), t_ns)


def grown(cutter, end_ns):
    table = cutter.cut(end_ns).tables["windows"]
    return table[(table["metric"] == STEPS).to_numpy()]["increase_value"].tolist()


def test_a_clock_that_is_set_back_costs_no_growth():
    cutter, steps, _ = made()
    add(cutter, steps, 10, END)
    assert grown(cutter, END) == [0]
    back = END - 100 * WINDOW_NS
    add(cutter, steps, 12, back)
    assert grown(cutter, back) == [2]


def test_samples_of_before_a_window_say_where_counters_stood():
    cutter, steps, _ = made()
    add(cutter, steps, 10, END - WINDOW_NS)
    add(cutter, steps, 13, END)
    assert grown(cutter, END) == [3]


def test_samples_of_after_a_window_wait():
    cutter, steps, _ = made()
    add(cutter, steps, 10, END + 1)
    add(cutter, steps, 9, END)
    assert (grown(cutter, END), grown(cutter, END + WINDOW_NS), grown(cutter, END + 2 * WINDOW_NS)) == ([0], [1], [])


def test_what_is_no_number_and_what_repeats_a_time_is_left_out():
    cutter, _, watts = made()
    for value in (5.0, float("nan"), float("inf")):
        add(cutter, watts, value, END - 1)
    add(cutter, watts, 7.0, END - 1)
    (row,) = cutter.cut(END).tables["windows"].to_dict("records")
    assert (row["mean_value"], row["samples_count"]) == (5.0, 1)


def test_a_counter_that_wraps_in_its_32_bits_has_grown():
    cutter, steps, _ = made()
    add(cutter, steps, 2**32 - 5, END - 1)
    add(cutter, steps, 5, END)
    assert grown(cutter, END) == [10]


def test_nobody_who_cuts_costs_no_memory_without_end(monkeypatch):
    monkeypatch.setattr(_cutter, "MOST_WAITING", 10)
    cutter, steps, _ = made()
    for at in range(25):
        add(cutter, steps, at, END - 100 + at)
    assert cutter.lost == 15 and cutter.cut(END).samples == 10


def test_the_same_series_has_the_same_number_and_what_nobody_reads_none():
    cutter, steps, _ = made()
    assert cutter.number([Series(Meaning(STEPS), "gpu0", "j", 3, "n1")]) == steps
    assert cutter.number([Series(Meaning("skewscope_host_cpus"), node="n1")]) == -1


def test_series_that_are_gone_are_forgotten_and_others_renumbered(monkeypatch):
    monkeypatch.setattr(_cutter, "FORGET_MORE", 0)
    moves = []
    cutter = Cutter(lambda renumbered: moves.append(renumbered(np.array([0, 1, 2, -1]))))
    gone, stays, other = (cutter.number([Series(Meaning(STEPS), "", "j", rank, "n1")]) for rank in range(3))
    add(cutter, gone, 1, END)
    add(cutter, stays, 10, END)
    add(cutter, other, 20, END)
    cutter.cut(END)
    later = END + _cutter.FORGET_NS + WINDOW_NS
    add(cutter, stays, 11, later)
    add(cutter, other, 22, later)
    add(cutter, stays, 15, later + WINDOW_NS)  # waits while numbers change
    assert grown(cutter, later) == [1, 2]
    assert [move.tolist() for move in moves] == [[-1, 0, 1, -1]]
    assert grown(cutter, later + WINDOW_NS) == [4]


@pytest.mark.parametrize(("begin", "end", "want"), [(0, 30, [30]), (1, 29, []), (30, 90, [60, 90]), (31, 91, [60, 90])])
def test_ends_of_windows(begin, end, want):
    assert [one // 10**9 for one in ends(begin * 10**9, end * 10**9)] == want


def test_errors_are_few_and_short():
    told = lines([f"e{at}" for at in range(50)] + ["x" * 5000])
    assert len(told) == 20 and told[-1] == "... and 32 more" and max(map(len, lines(["x" * 5000]))) == 300
