from __future__ import annotations

import numpy as np
import pytest

from skewscope.errors import UsageError
from skewscope.frames import empty, frame
from skewscope.optimize import speeds
from skewscope.stats.bootstrap import block_draws, block_rounds, interval, mean_interval
from skewscope.stats.bursts import bursts, slow

S = 1_000_000_000


def tables(own_s, wait_s=None, tokens=None, planned=(), missing=(), phases=None, coordinates=None):
    """Return tables of ranks that work `own_s` [steps, ranks]; `missing` (step, rank) have no row."""
    own = np.array(own_s, dtype=float)
    step, rank = (part.ravel() for part in np.indices(own.shape))
    kept = np.array([(int(one), int(other)) not in missing for one, other in zip(step, rank, strict=True)])
    length = own.max(axis=1) + 0.1
    wait = (length[:, None] - own) if wait_s is None else np.full(own.shape, wait_s)
    rows = {
        "job": "job", "step": step, "rank": rank, "node": "", "stage": -1, "start_ns": step * 10 * S,
        "end_ns": step * 10 * S + (length[step] * S).astype(int), "work_ns": own.ravel() * S + S,
        "own_ns": own.ravel() * S,
        "compute_ns": 0.0, "input_ns": 0.0, "gc_ns": 0.0, "checkpoint_ns": 0.0, "transfer_ns": 0.0,
        "wait_ns": wait.ravel() * S, "idle_ns": 0.0, "comm_ns": 0.05 * S, "work_tokens": (
            np.full(own.size, -1) if tokens is None else np.broadcast_to(tokens, own.shape).ravel()), "source": "test",
    }  # fmt: skip
    count = len(own)
    times = frame("step_times", {
        "job": "job", "step": range(count), "start_ns": np.arange(count) * 10 * S,
        "duration_ns": length * S, "planned": [one in planned for one in range(count)],
        "ranks_count": own.shape[1], "source": "test"})  # fmt: skip
    table = frame("rank_steps", {name: value if np.isscalar(value) else np.array(value)[kept]
                                 for name, value in rows.items()})  # fmt: skip
    return {"rank_steps": table, "step_times": times, "steps": empty("steps") if phases is None else phases,
            "ranks": empty("ranks") if coordinates is None else coordinates}  # fmt: skip


def test_rounds_of_a_recording():
    made = speeds.of_tables(tables([[1.0, 2.0], [1.0, 3.0]], tokens=[64, 32]), {})
    assert made.own_s.tolist() == [[1.0, 2.0], [1.0, 3.0]]
    assert made.step_s == pytest.approx([2.1, 3.1])
    assert made.exposed_s == pytest.approx([0.1, 0.1])
    assert made.load.tolist() == [[64.0, 32.0]] * 2
    assert made.shares().tolist() == [[64 / 96, 32 / 96]] * 2
    assert made.comm_s == pytest.approx([0.05, 0.05])
    assert made.warnings == ()


def test_steps_that_are_planned_or_torn_are_left_out():
    made = speeds.of_tables(tables([[1.0, 2.0]] * 5, planned=(1,), missing=((3, 0),)), {})
    assert made.own_s.shape == (3, 2)
    assert not np.isfinite(made.load).any()
    assert made.shares().tolist() == [[0.5, 0.5]] * 3


def test_a_rank_hardly_seen_is_left_out_and_told():
    gone = tuple((step, 2) for step in range(1, 6))
    made = speeds.of_tables(tables([[1.0, 2.0, 1.0]] * 6, missing=gone), {})
    assert made.workers.tolist() == [0, 1]
    assert "left out: [2]" in made.warnings[0]


def test_ranks_of_one_replica_are_one_worker():
    own = [[1.0, 1.5, 2.0, 1.0]] * 3
    made = speeds.of_tables(tables(own), {"tp": 2})
    assert made.workers.tolist() == [0, 2]
    assert made.own_s.tolist() == [[1.5, 2.0]] * 3
    assert "2 ranks in a row" in made.warnings[0]
    apart = frame("ranks", {"job": "job", "rank": [0, 1, 2, 3], "dp": [0, 1, 0, 1]})
    made = speeds.of_tables(tables(own, coordinates=apart), {"tp": 2})
    assert made.workers.tolist() == [0, 1]
    assert made.own_s.tolist() == [[2.0, 1.5]] * 3


def test_what_cannot_be_split():
    with pytest.raises(UsageError, match="pipeline"):
        speeds.of_tables(tables([[1.0, 2.0]]), {"pp": 2})
    with pytest.raises(UsageError, match="fewer than two ranks"):
        speeds.of_tables(tables([[1.0]]), {})
    with pytest.raises(UsageError, match="no step"):
        speeds.of_tables(tables([[1.0, 2.0], [1.0, 2.0]], missing=((0, 0), (1, 1))), {})


def test_the_optimizer_is_the_fixed_part():
    phase = frame("steps", {
        "job": "job", "step": [0, 1, 0, 1], "rank": [0, 0, 1, 1], "phase": "optimizer", "start_ns": 0,
        "end_ns": [S // 10, S // 10, S // 5, 9 * S], "source": "test"})  # fmt: skip
    made = speeds.of_tables(tables([[1.0, 2.0]] * 2, phases=phase), {})
    assert made.fixed_s == pytest.approx([0.1, 1.0])  # a phase longer than half of the work waits: cut to half


def test_a_recording_without_waiting_is_doubted():
    assert "does not show waiting" in speeds.of_tables(tables([[1.0, 2.0]], wait_s=0.0), {}).warnings[0]


def test_a_worker_without_recorded_work_is_told():
    (told,) = speeds.of_tables(tables([[1.0, 0.0, 2.0]] * 3), {}).warnings
    assert "ranks [1] is recorded" in told
    assert not speeds.of_tables(tables([[0.0, 0.0]] * 3), {}).warnings


def test_blocks_keep_bursts_whole():
    rows = block_draws(20, 5, 200, seed=1)
    assert rows.shape == (200, 20)
    assert ((np.diff(rows.reshape(200, 4, 5), axis=2) % 20) == 1).all()
    assert np.bincount(rows.ravel(), minlength=20) / 200 == pytest.approx(np.ones(20), abs=0.2)
    assert block_draws(3, 50, 2).shape == (2, 3)
    assert [block_rounds(400, one) for one in (float("nan"), 1.0, 10.0, 1e6)] == [3, 3, 30, 100]


def test_intervals_cover_as_often_as_they_say():
    draw = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        low, high = mean_interval(draw.normal(1.0, 0.2, 60))
        hits += low <= 1.0 <= high
    assert 0.80 <= hits / 200 <= 0.96
    assert np.isnan(interval(np.array([np.nan]))).all()


def test_blocks_widen_the_interval_of_a_bursty_series():
    series = np.repeat(np.random.default_rng(0).normal(1.0, 0.2, 40), 10)
    short, long = mean_interval(series, 1.0), mean_interval(series, 10.0)
    assert long[1] - long[0] > 1.5 * (short[1] - short[0])


def test_bursts_are_those_of_the_chain():
    draw = np.random.default_rng(0)
    late, now = np.zeros((4000, 20), dtype=bool), np.zeros(20, dtype=bool)
    for row in range(4000):
        now = np.where(now, draw.random(20) >= 0.25, draw.random(20) < 0.01)
        late[row] = now
    seen = bursts(late)
    assert seen.mean_rounds == pytest.approx(4.0, rel=0.05)
    assert seen.share == pytest.approx(0.01 / 0.26, rel=0.1)
    assert bursts(np.zeros((3, 2), dtype=bool)).stretches == 0
    assert bursts(np.ones((3, 2), dtype=bool))[2:] == (3, 2, 2)
    assert slow(np.array([[1.0, 1.1, 1.3]])).tolist() == [[False, False, False]]
    assert slow(np.array([[1.0, 1.0, 1.3]])).tolist() == [[False, False, True]]
