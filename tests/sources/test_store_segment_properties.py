"""What a store was told comes back from its files, each row once: before they are joined, after, and in between."""

from __future__ import annotations

from math import inf, isclose, nan
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.frames import concat, frame
from skewscope.sources.store_segment import StoreSegment
from skewscope.store import Store

WINDOW_NS = 30 * 10**9
NAMES = ("metric", "labels", "node", "device", "job")
VALUES = ("mean_value", "low_value", "high_value", "last_value", "increase_value")
EXACT = "skewscope_step_last_timestamp_seconds"
METRICS = (EXACT, "skewscope_gpu_power_watts", "skewscope_gpu_pcie_replays_total", "mine ü")
PRECISION = 2.0**-16  # of the largest value of a row
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
Row = dict[str, Any]


def window(chance: Random, end_ns: int, row: int, text: str) -> Row:
    """Return a row of `windows`, of a gauge or of a counter, some of whose values are unknown, whole or odd ones."""
    one = chance.choice
    last = one([0.0, -0.0, 1.0, -3.0, 2.0**24 - 1, 0.1, 1e-300, 1e300, inf, nan, chance.uniform(-1e6, 1e6)])
    low, high = one([last, last - 2.0, nan]), one([last, last, last + 4.0, nan])
    mean = one([last, (low + high) / 2, last + 1.0, nan])
    return {
        "t_ns": end_ns, "window_ns": one([WINDOW_NS, 1, 0]), "node": one(["n0", text]), "device": one(["", "gpu0"]),
        "metric": one(METRICS), "labels": one(["", f"k={text}"]), "job": one(["", "j"]),
        "rank": one([-1, 0, 2**31 - 1]),
        "mean_value": mean, "low_value": low, "high_value": high, "last_value": last,
        "increase_value": one([nan, nan, 0.0, 7.0, 1e12, 0.3]), "samples_count": row,
    }  # fmt: skip


def event(chance: Random, row: int, text: str) -> Row:
    one = chance.choice
    return {"t_ns": one([-1, 0, 2**62, row]), "node": one(["n0", text]), "device": one(["", "gpu0"]), "event": one(
        ["xid", text]), "code": one([-1, 79, 2**31 - 1]), "message": one(["", f"it said {text!r}"])}  # fmt: skip


def told(table: str, rows: list[Row]) -> pd.DataFrame:
    return frame(table, {name: [row[name] for row in rows] for name in rows[0]} if rows else {"t_ns": []})


def near(found: float, wanted: float, metric: str, largest: float) -> bool:
    """Return whether a value is kept as the store promises: whole numbers below 2**24 and time stamps exactly."""
    if wanted != wanted or abs(wanted) == inf or wanted == 0:
        return str(found + 0.0) == str(wanted + 0.0)
    if metric == EXACT or (wanted == int(wanted) and abs(wanted) < 2**24):
        return abs(found - wanted) <= 2e-15 * largest  # a mean in the middle is made again
    return isclose(found, wanted, rel_tol=PRECISION, abs_tol=PRECISION * largest)


def same(found: pd.DataFrame, wanted: list[Row]) -> None:
    """Assert that the rows are the same; `samples_count` tells which is which."""
    assert len(found) == len(wanted)
    for row, want in zip(found.sort_values("samples_count").to_dict("records"), wanted, strict=True):
        plain = [name for name in want if name not in VALUES]
        assert {name: row[name] for name in plain} == {name: want[name] for name in plain}
        known = [abs(want[name]) for name in ("low_value", "high_value") if abs(want[name]) < inf]
        for name in VALUES:
            largest = max(known, default=0.0) if name == "mean_value" else 0.0
            assert near(row[name], want[name], want["metric"], largest), (name, row, want)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=7),
    st.randoms(use_true_random=True), st.integers(1, 2**61 // WINDOW_NS), st.booleans(), st.booleans(), texts,
)  # fmt: skip
def test_each_row_comes_back_once(
    tmp_path_factory: Any, sizes: list[Any], chance: Random, first: int, joined: bool, died: bool, text: str
) -> None:
    """A process that dies while it joins files leaves both these and the segment: what both hold counts once."""
    directory = Path(tmp_path_factory.mktemp("s")) / "store"
    windows: list[Row] = []
    events: list[Row] = []
    with Store(directory, keep_s=1e12, segment_s=90) as store:
        for turn, (rows, happened) in enumerate(sizes):
            end_ns = (first + turn) * WINDOW_NS
            new = [window(chance, end_ns, len(windows) + at, text) for at in range(rows)]
            came = [event(chance, turn, text) for _ in range(happened)]
            shuffled = chance.sample(new, len(new))
            store.append(told("windows", shuffled), told("events", came), end_ns=end_ns)
            windows, events = windows + new, events + came
        before = {path.name: path.read_bytes() for path in directory.glob("*.segment")}
        if joined:
            store.compact()
    gone = {name: raw for name, raw in before.items() if not (directory / name).exists()}
    for name, raw in gone.items() if died else ():
        (directory / name).write_bytes(raw)
    readings = {path.name: StoreSegment().read(path) for path in directory.glob("*.segment")}
    assert all(StoreSegment().sniff((directory / name).read_bytes(), name) > 0.8 for name in readings)
    assert {name for name, one in readings.items() if not one.batches} == (set(gone) if died else set())
    assert all("longer segment" in one.error if name in gone else not one.error for name, one in readings.items())
    assert sum(one.events for one in readings.values()) == len(windows) + len(events)
    batches = [batch for one in readings.values() for batch in one.batches]
    parts = {name: concat(name, [frame(name, columns) for table, columns in batches if table == name])
             for name in ("windows", "events")}  # fmt: skip
    same(parts["windows"], windows)
    found = [tuple(row.values()) for row in parts["events"].to_dict("records")]
    assert sorted(found) == sorted(tuple(row.values()) for row in events)
