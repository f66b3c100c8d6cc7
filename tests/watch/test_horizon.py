from __future__ import annotations

from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pandas as pd
import pytest

from skewscope import frames
from skewscope.frames import concat
from skewscope.simulate import scenario, simulate
from skewscope.watch.horizon import Cut, Horizon
from skewscope.watch.rehearsal import told_of

F = SimpleNamespace(**run_path(str(Path(__file__).with_name("_findings.py"))))


@pytest.fixture(scope="module")
def cuts() -> list[Cut]:
    made = simulate(scenario("gpu-off-bus").sized(8, 0), 3)
    told = [one for one in told_of(made, F.START_NS, 0, 24) if len(one.tables["windows"])]
    return [
        Cut(one.end_ns, {name: table.groupby("node").head(40) if name == "windows" else table
                         for name, table in one.tables.items()}) for one in told
    ]  # fmt: skip


def filled(cuts, length: int = 10, before: int = 3) -> Horizon:
    horizon = Horizon(length, before)
    for cut in cuts:
        assert horizon.add(cut.end_ns, cut.tables)
    return horizon


def ends(horizon: Horizon) -> list[int]:
    """Return the ends of windows, counted from the beginning."""
    return [(end - F.START_NS) // F.WINDOW_NS for end in sorted(set(horizon.tables()["windows"]["t_ns"].tolist()))]


def test_it_keeps_the_last_windows(cuts):
    horizon = filled(cuts[:15])
    assert (len(horizon), horizon.end_ns) == (10, cuts[14].end_ns)
    assert ends(horizon) == [*range(6, 16)]


def test_before_the_first_window_there_is_nothing():
    horizon = Horizon()
    assert (len(horizon), horizon.end_ns) == (0, -1)
    assert {name: len(table) for name, table in horizon.tables().items()} == {"windows": 0, "events": 0}


def test_tables_are_canonical_and_metrics_stand_together(cuts):
    tables = filled(cuts[:15]).tables()
    for name, table in tables.items():
        frames.check(name, table)
    metric = tables["windows"]["metric"].astype(str)
    assert (metric != metric.shift()).sum() == metric.nunique()
    assert len(tables["ranks"]) == 8
    assert sum(len(cut.tables["events"]) for cut in cuts[5:15]) == len(tables["events"])


def test_a_window_that_is_not_later_is_not_taken(cuts):
    horizon = filled(cuts[:5])
    assert not horizon.add(cuts[4].end_ns, cuts[4].tables)
    assert not horizon.add(cuts[1].end_ns, cuts[1].tables)
    assert ends(horizon) == [1, 2, 3, 4, 5]


def test_a_gap_longer_than_itself_begins_anew_and_a_shorter_one_does_not(cuts):
    horizon = filled(cuts[:5])
    horizon.add(cuts[14].end_ns, cuts[14].tables)
    assert ends(horizon) == [1, 2, 3, 4, 5, 15]
    horizon = filled(cuts[:5])
    horizon.anchor(cuts[3].end_ns)
    horizon.add(cuts[15].end_ns, cuts[15].tables)
    assert ends(horizon) == [16]


def test_ranks_stay_known_while_nobody_tells_them(cuts):
    horizon = filled(cuts[:3])
    horizon.add(cuts[3].end_ns, {"windows": cuts[3].tables["windows"]})
    assert len(horizon.tables()["ranks"]) == 8


def test_an_anchor_holds_the_windows_right_before_an_onset(cuts):
    horizon = filled(cuts[:8])
    horizon.anchor(cuts[4].end_ns)
    for cut in cuts[8:20]:
        horizon.add(cut.end_ns, cut.tables)
    assert ends(horizon) == [3, 4, 5, *range(11, 21)]
    horizon.anchor(cuts[10].end_ns)  # a later one changes nothing
    assert ends(horizon)[:3] == [3, 4, 5]
    horizon.anchor(-1)
    assert ends(horizon) == [*range(11, 21)]


def test_an_earlier_onset_replaces_a_later_one(cuts):
    horizon = filled(cuts[:8])
    horizon.anchor(cuts[6].end_ns)
    horizon.anchor(cuts[2].end_ns)
    for cut in cuts[8:20]:
        horizon.add(cut.end_ns, cut.tables)
    assert ends(horizon)[:3] == [1, 2, 3]


def test_an_onset_seen_in_what_is_held_on_to_does_not_push_it_away(cuts):
    horizon = filled(cuts[:8])
    horizon.anchor(cuts[4].end_ns)
    for cut in cuts[8:20]:
        horizon.add(cut.end_ns, cut.tables)
    for earlier in (3, 2, 0):
        horizon.anchor(cuts[earlier].end_ns)
    assert (ends(horizon)[:3], horizon.onset_ns) == ([3, 4, 5], cuts[4].end_ns)


def test_windows_inside_the_horizon_are_not_told_twice(cuts):
    horizon = filled(cuts[:8])
    rows = len(horizon.tables()["windows"])
    horizon.anchor(cuts[4].end_ns)
    assert len(horizon.tables()["windows"]) == rows


def test_an_anchor_takes_older_windows_that_somebody_kept(cuts):
    horizon = Horizon(10, 3)
    assert horizon.before(cuts[7].end_ns) == cuts[4].end_ns
    horizon.anchor(cuts[7].end_ns, cuts[:12])
    for cut in cuts[12:16]:
        horizon.add(cut.end_ns, cut.tables)
    assert ends(horizon) == [6, 7, 8, 13, 14, 15, 16]


def by_metric(table):
    """Return rows as text and numbers, each metric's as they stand."""
    names = ["metric", "labels", "node", "device", "job"]
    rows = table.astype(dict.fromkeys((name for name in names if name in table), str))
    return rows.sort_values("metric", kind="stable").reset_index(drop=True) if "metric" in table else rows


@pytest.mark.parametrize("count", [1, 3, 7])
def test_filled_at_once_it_is_as_if_windows_came_one_by_one(cuts, count):
    one_by_one, at_once = filled(cuts[:15]), Horizon(10, 3)
    whole = {name: concat(name, [cut.tables[name] for cut in cuts[:15]]) for name in ("windows", "events")}
    metric = whole["windows"]["metric"].astype(str)
    names = sorted(metric.unique())
    parts = [whole["windows"][metric.isin(names[at::count]).to_numpy()] for at in range(count)]
    parts = [part.sort_values("t_ns", ascending=False, kind="stable") for part in parts]
    at_once.fill(parts, whole["events"])
    assert len(at_once) == 10 and ends(at_once) == [*range(1, 16)]
    at_once.anchor(-1)
    for cut in (None, *cuts[15:18]):
        for horizon in (one_by_one, at_once) if cut else ():
            assert horizon.add(cut.end_ns, cut.tables)
        for name in ("windows", "events"):
            told, expected = at_once.tables()[name], one_by_one.tables()[name]
            pd.testing.assert_frame_equal(by_metric(told), by_metric(expected))
            frames.check(name, told)
        metric = at_once.tables()["windows"]["metric"].astype(str)
        assert (metric != metric.shift()).sum() == metric.nunique()
        assert at_once.end_ns == one_by_one.end_ns


def test_what_was_before_an_onset_is_filled_in_too(cuts):
    horizon = Horizon(10, 3)
    old, new = cuts[:5], cuts[14:20]
    rows = concat("windows", [cut.tables["windows"] for cut in (*old, *new)])
    horizon.fill([rows], cuts[0].tables["events"])
    assert len(horizon) == 6
    horizon.anchor(cuts[4].end_ns)
    assert ends(horizon) == [3, 4, 5, *range(15, 21)] and horizon.onset_ns == cuts[4].end_ns


def test_filled_with_nothing_it_is_empty(cuts):
    horizon = Horizon()
    horizon.fill([frames.empty("windows")], frames.empty("events"))
    assert (len(horizon), horizon.end_ns) == (0, -1)
    horizon.add(cuts[0].end_ns, cuts[0].tables)
    assert ends(horizon) == [1]
