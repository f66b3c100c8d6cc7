from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from skewscope.frames import concat, frame
from skewscope.signals.impact import JobCost, costs
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


def late(*onsets, slow_s=0.2, transfer_s=0.0, transfer_onset=99, windows_count=20, ranks=6):
    """Return the cost of a job whose rank n is late by `slow_s` from window onsets[n] on; transfers grow at another."""
    at = np.arange(windows_count)
    slow = np.array([np.where(at >= onset, slow_s, 0.0) for onset in (*onsets, *[99] * (ranks - len(onsets)))]).T
    moved = np.where(at >= transfer_onset, transfer_s, 0.0)
    step_s = STEP_S + slow.max(axis=1) + moved
    waiting_s = 0.05 + slow.max(axis=1, keepdims=True) - slow + moved[:, None]
    names = np.array([f"n{rank}" for rank in range(ranks)])
    return JobCost("llm", at * 30 * 10**9, step_s, waiting_s, np.arange(ranks), names, np.full(ranks, "gpu0"))


def since(onset, windows_count=20):
    return np.arange(windows_count) >= onset


def mean_of(*parts):
    """Return the mean over steps of (windows, seconds lost, seconds a step)."""
    steps = sum(windows / step_s for windows, _, step_s in parts)
    return sum(windows / step_s * lost_s for windows, lost_s, step_s in parts) / steps


def test_of_two_late_ranks_only_what_the_other_leaves_can_be_saved():
    cost = late(8, 14)
    assert cost.lost([0], since(8))[0] == pytest.approx(mean_of((6, 0.2, 0.7), (6, 0.0, 0.7)), rel=0.02)
    assert cost.lost([1], since(14)) == (0.0, 0.0)
    assert cost.lost([0, 1], since(8))[0] == pytest.approx(0.2, rel=0.02)


def test_a_link_is_not_charged_for_a_late_rank_nor_a_rank_for_a_link():
    cost = late(14, transfer_s=0.1, transfer_onset=8)
    assert cost.lost((), since(8))[0] == pytest.approx(0.1, rel=0.02)
    assert cost.lost([3], since(8))[0] == pytest.approx(0.1, rel=0.02)  # the rank on whose link it is
    assert cost.lost([0], since(14))[0] == pytest.approx(0.2, rel=0.02)


def test_ranks_that_are_late_together_are_priced_by_the_growth_of_the_step():
    cost = late(8, 8, 8, 8)
    assert cost.lost((), since(8))[0] == pytest.approx(0.2, rel=0.02)
    assert cost.lost([0, 1, 2, 3], since(8))[0] == pytest.approx(0.2, rel=0.02)


def test_noise_between_bursts_is_no_price():
    cost = late(8)
    on = since(8) & (np.arange(20) % 4 < 2)
    noise = np.where(np.arange(20) % 2 == 0, 0.02, -0.02)
    quiet = dataclasses.replace(cost, step_s=np.where(on, cost.step_s, STEP_S) + noise)
    assert quiet.lost((), on)[0] == pytest.approx(mean_of((6, 0.2, 0.7), (4, 0.0, 0.5)), rel=0.05)
