from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from skewscope.frames import empty, frame
from skewscope.watch.rank_times import rank_times

WINDOW_NS = 30 * 10**9
FAMILIES = ("steps", "step_seconds", "collective_seconds")


def windows(*told: tuple[int, int, float, float, float]) -> pd.DataFrame:
    """Return windows of one job: (window, rank, steps, seconds in steps, seconds in collectives)."""
    rows = [
        {"t_ns": at * WINDOW_NS, "rank": rank, "metric": f"skewscope_{name}_total", "increase_value": value}
        for at, rank, *values in told
        for name, value in zip(FAMILIES, values, strict=True)
    ]
    columns = pd.DataFrame(rows).to_dict("list")
    places = [f"gpu{rank}" for rank in columns["rank"]]
    whole = {"window_ns": WINDOW_NS, "labels": "", "node": "n1", "device": places, "job": "llm", "samples_count": 2}
    unknown = dict.fromkeys(("mean_value", "low_value", "high_value", "last_value"), np.nan)
    return frame("windows", {**columns, **whole, **unknown})


def test_each_rank_is_told_as_of_the_last_window_in_which_it_made_steps():
    told = rank_times({"windows": windows(
        (1, 0, 10, 30.0, 10.0), (1, 1, 10, 30.0, 20.0), (2, 0, 15, 30.0, 15.0), (2, 1, 0, 0.0, 0.0),
    )})  # fmt: skip
    assert told.rank.tolist() == [0, 1] and told.device.tolist() == ["gpu0", "gpu1"]
    assert told.step_s.tolist() == [2.0, 3.0]
    assert told.wait_s.tolist() == [1.0, 2.0]


def test_who_made_no_step_for_long_has_no_time():
    told = rank_times({"windows": windows(
        (1, 1, 10, 30.0, 20.0), *((at, 0, 10, 30.0, 3.0) for at in range(1, 7))
    )})  # fmt: skip
    rows = told.document(9)["ranks"]
    assert [one["step_s"] for one in rows] == [3.0, None]
    assert rows[1] == {"job": "llm", "rank": 1, "node": "n1", "gpu": "1", "step_s": None, "work_ratio": None,
                       "wait_ratio": None}  # fmt: skip


@pytest.mark.parametrize("names", [FAMILIES[:1], ()])
def test_without_the_counters_there_is_no_rank(names):
    rows = windows((1, 0, 10, 30.0, 10.0)) if names else empty("windows")
    some = rows[rows["metric"].isin([f"skewscope_{name}_total" for name in names])].reset_index(drop=True)
    assert rank_times({"windows": some}).document(7) == {
        "schema": "skewscope.rank-times/1", "time_ns": 7, "ranks": [],
    }  # fmt: skip
