from __future__ import annotations

import pandas as pd
import pytest

from skewscope.simulate import simulate
from skewscope.sources import gather
from skewscope.store import Store
from skewscope.watch.rehearsal import told_of

START_NS = 1_790_000_010 * 10**9


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Return a store's folder and the windows that it holds: a segment, and windows of their own."""
    folder = tmp_path_factory.mktemp("store") / "metrics"
    told = list(told_of(simulate("gpu-off-bus", 3), START_NS // 30_000_000_000 * 30_000_000_000, 0, 40))
    with Store(folder) as store:
        for one in told:
            store.append(one.tables["windows"], one.tables["events"], end_ns=one.end_ns)
        store.compact()
    return folder, told


def test_a_store_is_a_recording(kept):
    folder, told = kept
    recording = gather([folder])
    windows = pd.concat([one.tables["windows"] for one in told])
    assert len(recording.tables["windows"]) == len(windows)
    assert sorted(set(recording.tables["windows"]["t_ns"])) == sorted(set(windows["t_ns"]))
    assert len(recording.tables["events"]) == sum(len(one.tables["events"]) for one in told) > 0
    assert {one.status for one in recording.inputs if one.format == "store-segment"} == {"ok"}


def test_a_damaged_segment_costs_nothing_else(kept, tmp_path):
    folder, _ = kept
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    largest = max(
        (path for path in tmp_path.iterdir() if path.name.startswith("windows")), key=lambda p: p.stat().st_size
    )
    largest.write_bytes(largest.read_bytes()[:200])
    recording = gather([tmp_path])
    (bad,) = [one for one in recording.inputs if one.status == "unreadable" and one.path.endswith(largest.name)]
    assert "damaged" in bad.error and len(recording.tables["windows"])


def test_what_is_no_recording_in_the_folder_is_not_read(kept):
    assert {one.format for one in gather([kept[0]]).inputs} == {"store-segment"}
