from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from skewscope.frames import concat, frame
from skewscope.signals.impact import costs
from skewscope.signals.windows import windows

WINDOW_S, STEP_S = 30, 0.5


def job(waits_s, *, windows_count=10, onset=5, slow_s=0.2, name="llm"):
    """Return windows of a job whose rank 2 is late by `slow_s` from a window on, the others by their own wait."""
    parts = []
    t_s = 1_700_000_010.0 + WINDOW_S * np.arange(windows_count + 1)
    late = np.concatenate(([0], np.where(np.arange(windows_count) >= onset, slow_s, 0.0)))
    step_s = STEP_S + late
    count = WINDOW_S / step_s
    for rank, wait_s in enumerate(waits_s):
        waited = np.where(rank == 2, wait_s, wait_s + late)
        series = {"skewscope_steps_total": count, "skewscope_step_seconds_total": count * step_s,
                  "skewscope_collective_seconds_total": count * waited}  # fmt: skip
        for metric, growth in series.items():
            parts.append(frame("samples", {
                "t_ns": (t_s * 1e9).astype(np.int64), "node": f"n{rank // 4}", "device": f"gpu{rank % 4}",
                "metric": metric, "value": np.cumsum(growth), "job": name, "rank": rank,
            }))  # fmt: skip
    return {"windows": windows(concat("samples", parts))}


def test_a_late_rank_costs_what_the_job_lost_against_its_own_past():
    cost, ranks = costs(job([0.05, 0.06, 0.05, 0.04])).of_device("n0", "gpu2")
    assert ranks == [2]
    lost_s, share = cost.lost(ranks, np.arange(len(cost.t_ns)) >= len(cost.t_ns) - 5)
    assert lost_s == pytest.approx(0.2, rel=0.02) and share == pytest.approx(0.2 / 0.7, rel=0.02)


def test_without_a_past_it_is_measured_against_the_next_late_rank():
    cost, ranks = costs(job([0.05, 0.06, 0.05, 0.04], onset=0)).of_device("n0", "gpu2")
    lost_s, _ = cost.lost(ranks, np.ones(len(cost.t_ns), dtype=bool))
    assert lost_s == pytest.approx(0.19, rel=0.02)


def test_what_no_rank_causes_is_the_shift_and_a_quiet_job_loses_nothing():
    tables = job([0.05] * 8)
    cost, ranks = costs(tables).of_device("n1", "mlx5_0")
    assert ranks == [4, 5, 6, 7]
    late = np.arange(len(cost.t_ns)) >= len(cost.t_ns) - 5
    assert cost.lost((), late)[0] == pytest.approx(0.2, rel=0.02)
    assert cost.lost([1], ~late) == (0.0, 0.0)
    assert costs(tables).of_device("n9", "gpu0") == (None, [])
    assert costs(tables) is costs(tables)  # worked out once


def test_a_job_without_step_times_costs_nothing():
    tables = job([0.05] * 4)
    table = tables["windows"]
    tables["windows"] = table[(table["metric"] != "skewscope_step_seconds_total").to_numpy()]
    assert costs(tables).jobs == {}


def test_what_comes_in_bursts_costs_its_mean_over_the_whole_time():
    tables = job([0.05] * 4, windows_count=20, onset=8)
    cost, ranks = costs(tables).of_device("n0", "gpu2")
    late = np.arange(len(cost.t_ns)) >= len(cost.t_ns) - 12
    assert cost.lost(ranks, late)[0] == pytest.approx(0.2, rel=0.02)
    ends = late & (np.cumsum(late) % 6 == 0)  # seen now and then, though it is always there
    assert cost.lost(ranks, ends)[0] == pytest.approx(0.2, rel=0.02)
    only_at_times = np.where(np.cumsum(late) % 3 == 0, cost.step_s, STEP_S)
    bursts = dataclasses.replace(cost, step_s=only_at_times)
    seen = late & (np.cumsum(late) % 3 == 0)
    assert bursts.lost((), seen)[0] == pytest.approx(0.2 * 4 / 10 * 0.5 / 0.58, rel=0.1)


def test_moments_that_stall_the_job_are_priced_since_the_first_of_them():
    cost, _ = costs(job([0.05] * 4, windows_count=20, onset=20)).of_device("n0", "")
    stalled = np.array(cost.step_s)
    stalled[[11, 15]] *= 3  # a window after the cause
    moments = np.zeros(len(stalled), dtype=bool)
    moments[[10, 14]] = True
    lost_s, share = dataclasses.replace(cost, step_s=stalled).stalled(moments)
    assert lost_s == pytest.approx(STEP_S * (6 / (4 + 2 / 3) - 1), rel=0.01) and 0 < share < 1
    assert cost.stalled(moments)[0] == pytest.approx(0.0, abs=1e-9)
    assert cost.stalled(np.arange(len(stalled)) < 2) == (0.0, 0.0)  # nothing is known of before
