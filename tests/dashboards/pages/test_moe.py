"""The page of experts on a recording of an engine: ladder, maps before and after, drift, against numbers by hand."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from skewscope.catalogue import load
from skewscope.frames import all_tables, frame
from skewscope.moe.placement import balancedness, start_layout
from skewscope.sources import gather

TINY = Path(__file__).parents[3] / "sample_data" / "moe-tiny"
NAMES = ["loads", "gap", "placed", "drift", "ladder"]


@pytest.fixture(scope="module")
def tiny():
    tables = gather([TINY / "vllm_eplb_load_stats.jsonl"], workers=1).tables
    return load("dashboards._view").View(id="tiny", tables=all_tables(tables))


@pytest.fixture
def blocks(page, tiny, chosen):
    return {one.name: one for one in page("moe").blocks(tiny, chosen(""))}


def counts():
    return np.load(TINY / "counts.npz", allow_pickle=False)["counts"]


def test_the_page_tells_what_limits_the_balance(blocks):
    assert list(blocks) == NAMES
    gap = blocks["gap"]
    start = start_layout(16, 20, 4, 4)
    now = balancedness(start.gpu_loads(counts().reshape(2, 6, 4, 16).sum(1))).mean()  # two windows of six steps
    assert gap.verdict.startswith(f"GPUs are balanced to {now:.3f} of 1 now; what limits it is the running placement")
    rungs = {row[0]: float(row[1]) for row in gap.rows}
    assert rungs["now"] == pytest.approx(now, abs=5e-4)
    assert rungs["now"] < rungs["plan, next window"] < rungs["plan"] <= rungs["replication bound"] == 1
    assert "20 slots on 4 GPUs" in gap.note and [trace.name for trace in gap.figure.data] == [
        "mean over layers", "worst layer",
    ]  # fmt: skip


def test_the_maps_are_the_loads_before_and_after(blocks):
    loads = start_layout(16, 20, 4, 4).gpu_loads(counts().sum(0))
    now, anew = (np.asarray(trace.z) for trace in blocks["placed"].figure.data)
    assert now == pytest.approx(loads / loads.mean(1, keepdims=True), rel=1e-6)
    assert now.max() > 1.5 > 1.05 > anew.max()
    assert blocks["placed"].rows[0][0] == str(int((loads.mean(1) / loads.max(1)).argmin()))


def test_drift_is_told_between_windows(blocks, page, tiny, chosen):
    assert "below the 0.05 bits of another workload" in blocks["drift"].verdict
    one = {block.name: block for block in page("moe").blocks(tiny, chosen("?begin=3&end=3"))}
    assert "one window only" in one["drift"].verdict and one["drift"].advice


def test_a_change_of_the_workload_is_named(page, chosen):
    chance = np.random.default_rng(0)
    first, second = (chance.dirichlet(np.ones(64)) for _ in range(2))
    rows = [chance.multinomial(9_000, first if step < 16 else second) for step in range(32)]
    step, expert = (part.ravel() for part in np.indices((32, 64)))
    table = frame("expert_loads", {"job": "job", "step": step, "layer": 0, "expert": expert, "rank": -1,
                                   "routed_tokens": np.concatenate(rows)})  # fmt: skip
    view = load("dashboards._view").View(id="changed", tables=all_tables({"expert_loads": table}))
    found = {block.name: block for block in page("moe").blocks(view, chosen(""))}
    assert found["drift"].verdict.startswith("The workload became another one at step 16")
    assert "how many GPUs share the experts is not known" in found["gap"].verdict and found["gap"].advice


def test_what_was_worked_out_is_kept_for_the_view(page, tiny, chosen, monkeypatch):
    experts = load("dashboards._experts")
    before = page("moe").blocks(tiny, chosen(""))
    monkeypatch.setattr(experts, "diagnose", lambda tables: pytest.fail("worked out again"))
    assert page("moe").blocks(tiny, chosen(""))[1] is before[1]
    with pytest.raises(pytest.fail.Exception):
        page("moe").blocks(dataclasses.replace(tiny, id="newer"), chosen(""))


def test_a_large_plan_is_not_made_while_a_page_waits(page, tiny, chosen, monkeypatch):
    monkeypatch.setattr(load("dashboards._experts"), "MOST_PLANNED", 10)
    found = {block.name: block for block in page("moe").blocks(dataclasses.replace(tiny, id="large"), chosen(""))}
    assert "skewscope plan moe" in found["gap"].advice and found["placed"].figure is None
