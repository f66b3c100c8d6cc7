"""Appending, joining, reading and letting go."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from _told import STEP_NS, in_words, numbers_of, window

from skewscope.errors import SchemaError
from skewscope.frames import check, concat, empty
from skewscope.store import Reader, Store, StoreError, StoreTaken
from skewscope.store.series import ordered

ALL = (0, 1 << 62)
SCRIPT = Path(__file__).parent / "_told.py"
FIVE_MINUTES_S = 300  # ten windows


def filled(directory, count, **more):
    store = Store(directory, segment_s=FIVE_MINUTES_S, **more)
    for number in range(1, count + 1):
        store.append(window(number))
    return store


def files(directory, kind="windows"):
    return sorted(path.name for path in directory.glob(f"{kind}-*"))


def test_a_simulated_fleet_is_kept(each, tmp_path):
    with Store(tmp_path) as store:
        for at, one in enumerate(each):
            store.append(one)
            if at % 20 == 0:
                store.compact()
        found = store.read(*store.span())["windows"]
        assert store.span() == (each[0]["t_ns"][0], each[-1]["t_ns"][0])
        assert store.size_bytes() < 2.5 * len(found) and not store.damaged
    told = ordered(concat("windows", each))
    for name in ("metric", "labels", "node", "device", "job", "rank", "t_ns", "samples_count"):
        assert (found[name].astype(str).to_numpy() == told[name].astype(str).to_numpy()).all(), name
    for name in ("mean_value", "low_value", "high_value", "last_value", "increase_value"):
        np.testing.assert_allclose(found[name], told[name], rtol=1.6e-5, err_msg=name)
    assert check("windows", found).equals(found)


def test_joining_changes_nothing_but_the_files(each, tmp_path):
    with Store(tmp_path) as store:
        for one in each:
            store.append(one)
        before, bytes_before = store.read(*ALL)["windows"], store.size_bytes()
        assert len(files(tmp_path)) == len(each)
        store.compact()
        assert len(files(tmp_path)) < len(each) // 2
        after = store.read(*ALL)["windows"]
        assert store.size_bytes() < bytes_before
    pd.testing.assert_frame_equal(in_words(before), in_words(after))


def test_one_asks_for_a_time_some_metrics_or_some_nodes(tmp_path):
    with filled(tmp_path, 25) as store:
        store.compact()
        found = store.read(5 * STEP_NS, 23 * STEP_NS)["windows"]
        assert numbers_of(found) == list(range(5, 24))
        some = store.read(*ALL, metrics=["skewscope_metric_1"], nodes=["n2", "n3", "nobody"])["windows"]
        assert len(some) and set(some["metric"]) == {"skewscope_metric_1"} and set(some["node"]) == {"n2", "n3"}
        whole = store.read(*ALL)["windows"]
        assert len(some) == (whole["metric"].isin(["skewscope_metric_1"]) & whole["node"].isin(["n2", "n3"])).sum()
        assert not len(store.read(*ALL, metrics=["other"])["windows"]) and not len(store.read(0, 1)["windows"])


def test_events_come_with_the_window_that_told_them(events, tmp_path):
    with Store(tmp_path, segment_s=FIVE_MINUTES_S) as store:
        for number in range(1, 13):
            store.append(window(number), events if number in (1, 4) else None)
        assert len(files(tmp_path, "events")) == 2
        store.compact()
        assert len(files(tmp_path, "events")) == 1
        found = store.read(4 * STEP_NS, 9 * STEP_NS)["events"]
        pd.testing.assert_frame_equal(in_words(found), in_words(events))
        assert len(store.read(*ALL)["events"]) == 4
        assert store.read(*ALL, nodes=["n0"])["events"]["message"].tolist() == ["GPU has fallen off the bus"] * 2


def test_events_can_come_alone(events, tmp_path):
    with Store(tmp_path) as store:
        store.append(empty("windows"), events)
        store.append(empty("windows"), events, end_ns=5 * STEP_NS)
        assert len(store.read(STEP_NS, STEP_NS)["events"]) == 2 and len(store.read(*ALL)["events"]) == 4
        assert store.span() == (-1, -1)
        store.append(empty("windows"))
        with pytest.raises(StoreError, match="end of the window"):
            store.append(empty("windows"), events.iloc[1:])


def test_a_window_can_be_told_again_until_it_is_joined(tmp_path):
    with filled(tmp_path, 12) as store:
        store.append(window(3))
        assert numbers_of(store.read(*ALL)["windows"]) == list(range(1, 13))
        store.compact()
        with pytest.raises(StoreError, match="segment"):
            store.append(window(3))
        assert numbers_of(store.read(*ALL)["windows"]) == list(range(1, 13))


def test_a_late_window_joins_its_stretch(tmp_path):
    with Store(tmp_path, segment_s=FIVE_MINUTES_S) as store:
        for number in (1, 2, 3, 4, 12):
            store.append(window(number))
        store.compact()
        assert len(files(tmp_path)) == 2
        store.append(window(9))
        assert numbers_of(store.read(*ALL)["windows"]) == [1, 2, 3, 4, 9, 12]
        store.compact()
        assert len(files(tmp_path)) == 2
        assert numbers_of(store.read(*ALL)["windows"]) == [1, 2, 3, 4, 9, 12]


def test_what_is_no_window_is_refused(tmp_path):
    with Store(tmp_path) as store:
        with pytest.raises(StoreError, match="2 windows at once"):
            store.append(concat("windows", [window(1), window(2)]))
        with pytest.raises(StoreError, match="not at"):
            store.append(window(1), end_ns=7)
        with pytest.raises(SchemaError, match="samples_count"):
            store.append(window(1).drop(columns="samples_count"))
    assert files(tmp_path) == []
    with pytest.raises(StoreError, match="closed"):
        store.append(window(1))


def test_old_segments_go(tmp_path):
    with filled(tmp_path, 60, keep_s=900) as store:
        store.compact()
        begin_ns, end_ns = store.span()
        assert end_ns == 60 * STEP_NS
        assert 900e9 <= end_ns - begin_ns <= 900e9 + FIVE_MINUTES_S * 1e9


def test_too_many_bytes_cost_the_oldest(tmp_path):
    with filled(tmp_path, 40) as store:
        store.compact()
        most = store.size_bytes() // 2
        sizes = {path.name: path.stat().st_size for path in tmp_path.glob("windows-*")}
    with Store(tmp_path, segment_s=FIVE_MINUTES_S, keep_bytes=most) as store:
        store.append(window(41))
        assert most - max(sizes.values()) < store.size_bytes() <= most
        left = numbers_of(store.read(*ALL)["windows"])
        assert left == list(range(left[0], 42)) and 1 < left[0]


def test_the_newest_window_stays_whatever_its_size(tmp_path):
    with filled(tmp_path, 3, keep_bytes=1) as store:
        assert numbers_of(store.read(*ALL)["windows"]) == [3]


def test_a_clock_that_jumps_ahead_is_what_it_says(tmp_path):
    """The store knows no clock of its own: what is kept is measured from the newest window."""
    with filled(tmp_path, 3, keep_s=3600) as store:
        store.append(window(10_000))
        assert numbers_of(store.read(*ALL)["windows"]) == [10_000]


def test_a_newer_format_is_refused(tmp_path):
    filled(tmp_path, 1).close()
    about = json.loads((tmp_path / ".store.json").read_text())
    (tmp_path / ".store.json").write_text(json.dumps(about | {"version": 2}))
    for kind in (Store, Reader):
        with pytest.raises(StoreError, match="format 2, .* up to 1: use a newer skewscope"):
            kind(tmp_path)
    assert files(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "skewscope.store"}', '{"format": "x", "version": 1}'])
def test_a_strange_description_is_refused(tmp_path, text):
    filled(tmp_path, 1).close()
    (tmp_path / ".store.json").write_text(text)
    with pytest.raises(StoreError, match="store"):
        Store(tmp_path)


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / ".thesis.tmp").write_text("mine")
    with pytest.raises(StoreError, match="not empty"):
        Store(tmp_path)
    with pytest.raises(StoreError, match="no store"):
        Reader(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".thesis.tmp"]


def test_a_second_writer_is_refused_and_readers_are_not(tmp_path):
    with subprocess.Popen(
        [sys.executable, SCRIPT, "hold", tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StoreTaken, match=f"another process .id {process.pid}"):
            Store(tmp_path)
        assert numbers_of(Reader(tmp_path).read(*ALL)["windows"]) == [1]
        process.stdin.close()
        assert process.wait(60) == 0
    with Store(tmp_path) as store:
        store.append(window(2))
        assert numbers_of(Reader(tmp_path).read(*ALL)["windows"]) == [1, 2]


def test_a_store_is_written_once_in_a_process_too(tmp_path):
    with Store(tmp_path), pytest.raises(StoreTaken):
        Store(tmp_path)
    Store(tmp_path).close()
