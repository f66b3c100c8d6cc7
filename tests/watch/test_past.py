"""The past comes from the store in parts of whole metrics, and holds what the store does."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pandas as pd
import pytest

from skewscope.feeds.wanted import wanted
from skewscope.frames import concat
from skewscope.store import Store
from skewscope.watch import past

W = SimpleNamespace(**run_path(str(Path(__file__).with_name("_watched.py"))))
KEY = ["metric", "labels", "node", "device", "job", "rank", "t_ns"]


@pytest.fixture
def kept(tmp_path):
    with Store(tmp_path) as store:
        told = W.told("gpu-off-bus", -8, 4)
        for one in told:
            store.append(one.tables["windows"], one.tables["events"])
        yield store, [one.end_ns for one in told]


def rows(table):
    return table.astype(dict.fromkeys(KEY[:5], str)).sort_values(KEY).reset_index(drop=True)


def test_parts_hold_all_rows_that_are_read_and_each_metric_is_in_one(kept):
    store, ends = kept
    spans = [(ends[0], ends[2]), (ends[5], ends[-1])]
    parts = list(past.parts(store, spans))
    names = [set(part["metric"].astype(str)) for part in parts]
    assert 1 < len(parts) <= past.PARTS_COUNT and sum(map(len, names)) == len(set().union(*names)) > 20
    whole = concat("windows", [store.read(*span)["windows"] for span in spans])
    whole = whole[whole["metric"].astype(str).isin(wanted()).to_numpy()]
    pd.testing.assert_frame_equal(rows(concat("windows", parts)), rows(whole))
    assert set(whole["t_ns"]) == {*ends[:3], *ends[5:]}


def test_events_are_those_of_the_spans(kept):
    store, ends = kept
    told = past.events(store, [(ends[0], ends[2]), (ends[5], ends[-1])])
    assert len(told) == len(store.read(ends[0], ends[-1])["events"]) > 0
    assert len(past.events(store, [(ends[0], ends[2])])) == 0
