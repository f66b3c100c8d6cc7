"""The pictures of expert loads on the report page: their numbers are those of the diagnosis."""

from __future__ import annotations

import numpy as np
import pytest

from skewscope.catalogue import load
from skewscope.frames import all_tables, frame

HOT = np.array([[9.0] + [1.0] * 15, [1.0] * 16])


@pytest.fixture(scope="module")
def charts():
    return load("dashboards._charts_moe")


def tables(ep=4, steps=16):
    rng = np.random.default_rng(1)
    counts = np.array([[rng.multinomial(20000, share / share.sum()) for share in HOT] for _ in range(steps)])
    step, layer, expert = np.meshgrid(*(np.arange(size) for size in counts.shape), indexing="ij")
    made = {"expert_loads": frame("expert_loads", {
        "job": "job", "step": step.ravel(), "layer": layer.ravel() + 3, "expert": expert.ravel(), "rank": -1,
        "routed_tokens": counts.ravel(), "phase": "decode",
    })}  # fmt: skip
    if ep:
        made["ranks"] = frame("ranks", {"job": "job", "rank": np.arange(ep), "ep": np.arange(ep)})
    return all_tables(made)


def test_the_ladder_shows_each_rung_by_layer(charts):
    ladder, _ = charts.moe(tables())
    drawn = {line.name: line for line in ladder.figure.data}
    assert set(drawn) == {"now", "plan, own window", "plan, later windows", "replication bound", "noise ceiling"}
    assert list(drawn["now"].x) == [3, 4] and drawn["now"].y[0] == pytest.approx(6 / 12, abs=0.01)
    assert drawn["replication bound"].y[0] == pytest.approx(6 / 9, abs=0.01)
    assert "in decode" in ladder.verdict and ladder.rows[0][0] == "now" and ladder.rows[0][-1] == "3"


def test_the_map_shows_times_the_mean(charts):
    _, heat = charts.moe(tables())
    cells = heat.figure.data[0]
    assert cells.z.shape == (2, 16) and list(cells.y) == ["3", "4"]
    assert cells.z[0, 0] == pytest.approx(np.log2(9 / 1.5), abs=0.02) and abs(cells.z[1]).max() < 0.2
    assert heat.rows[0][:2] == ("3", "0") and "expert is 0 of layer 3 with 6.0 times" in heat.verdict


def test_without_gpus_there_is_only_the_map(charts):
    (heat,) = charts.moe(tables(ep=0))
    assert heat.name == "moe-experts"


def test_without_loads_there_is_nothing(charts):
    assert charts.moe(all_tables({})) == [] and charts.moe({}) == []
