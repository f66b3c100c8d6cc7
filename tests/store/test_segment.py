"""A file of windows, written and read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from _told import in_words

from skewscope.contracts import Coded
from skewscope.frames import check, concat, frame
from skewscope.store import numbers, segment
from skewscope.store.segment import LEAST_ROWS, MOST_ROWS, Segment
from skewscope.store.series import ordered

NAMES = ("metric", "labels", "node", "device", "job")


def kept(path, *tables):
    with open(path, "wb") as file:
        rows = segment.write(file, tables)
    assert rows == sum(map(len, tables))
    with Segment(str(path)) as found:
        return concat("windows", [found.rows(group) for group in found.groups]), found.groups


def assert_alike(found: pd.DataFrame, told: pd.DataFrame):
    """Names and whole numbers are equal, values within the precision that is promised."""
    check("windows", found)
    for name in NAMES:
        assert found[name].astype(str).tolist() == told[name].astype(str).tolist(), name
    for name in ("t_ns", "window_ns", "rank", "samples_count"):
        assert found[name].tolist() == told[name].tolist(), name
    for name in numbers.VALUES:
        np.testing.assert_allclose(found[name], told[name], rtol=1.6e-5, err_msg=name)


def test_a_simulated_fleet_comes_back(fleet, tmp_path):
    told = ordered(fleet["windows"])
    found, _ = kept(tmp_path / "one", told)
    assert_alike(found, told)


def test_a_small_table_comes_back_exactly(tmp_path):
    told = frame("windows", {
        "t_ns": [60, 90, 60, 150], "window_ns": 30, "node": ["a", "a", "b", "b"], "metric": "skewscope_x",
        "labels": "k=v", "job": ["", "", "j", "j"], "rank": [-1, -1, 3, 3], "last_value": [1.0, 2.0, np.nan, 4.0],
        "low_value": [0.5, 2.0, np.nan, 3.0], "high_value": [1.0, 2.0, np.nan, 8.0],
        "mean_value": [0.75, 2.0, np.nan, 5.0], "samples_count": [2, 1, 0, 3],
    })  # fmt: skip
    found, groups = kept(tmp_path / "one", told)
    pd.testing.assert_frame_equal(in_words(found), in_words(told))
    assert [(group.first, group.last, group.rows) for group in groups] == [("skewscope_x", "skewscope_x", 4)]


def test_rows_are_brought_into_the_order_of_series():
    table = frame("windows", {
        "t_ns": [60, 30, 30], "window_ns": 30, "node": ["b", "b", "a"], "metric": ["m", "m", "z"], "samples_count": 1,
    })  # fmt: skip
    found = ordered(table)
    assert list(zip(found["metric"], found["node"], found["t_ns"], strict=True)) == [
        ("m", "b", 30),
        ("m", "b", 60),
        ("z", "a", 30),
    ]


def wide(series, metrics, windows=1):
    number = np.repeat(np.arange(series), windows)
    return frame("windows", {
        "t_ns": np.tile((np.arange(windows) + 1) * 30, series), "window_ns": 30, "samples_count": 2,
        "node": "n", "rank": number, "last_value": number * 1.0,
        "metric": Coded(number * metrics // series, [f"m{at + 100}" for at in range(metrics)]),
    })  # fmt: skip


def test_row_groups_hold_whole_metrics(tmp_path):
    series = 3 * LEAST_ROWS
    found, groups = kept(tmp_path / "one", wide(series, 9))
    assert [group.rows for group in groups] == [series // 3] * 3
    assert [(group.first, group.last) for group in groups] == [("m100", "m102"), ("m103", "m105"), ("m106", "m108")]
    assert found["last_value"].equals(pd.Series(np.arange(series) * 1.0))


def test_a_large_metric_is_cut_between_series(tmp_path):
    told = wide(MOST_ROWS // 7 + 2000, 1, windows=10)
    found, groups = kept(tmp_path / "one", told)
    assert len(groups) == 2 and groups[0].rows <= MOST_ROWS and groups[0].rows % 10 == 0
    assert found["last_value"].equals(told["last_value"]) and found["t_ns"].equals(told["t_ns"])


def test_only_row_groups_with_the_metric_are_asked(tmp_path):
    told = wide(3 * LEAST_ROWS, 9)
    with open(tmp_path / "one", "wb") as file:
        segment.write(file, [told])
    with Segment(str(tmp_path / "one")) as found:
        rows = found.rows(found.groups[1], {"m104", "m900"})
    assert rows["metric"].astype(str).unique().tolist() == ["m104"]


def test_other_parquet_is_no_segment(tmp_path):
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "one")
    with pytest.raises(segment.BROKEN, match="columns"):
        Segment(str(tmp_path / "one"))
