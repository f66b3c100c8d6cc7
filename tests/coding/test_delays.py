"""Delay profiles from arrays, files and tables, and what is wrong with those that are refused."""

import numpy as np
import pandas as pd
import pytest

from skewscope.coding import bursts, delay_files, delays, response
from skewscope.errors import Unreadable, UsageError
from skewscope.frames import frame

TABLE = np.array([[1.0, 2.0, 1.5], [1.1, 1.2, 3.0]])


def long_form(load=None):
    cells = [(t, w, TABLE[t, w]) for w in (2, 0, 1) for t in (1, 0)]
    rows = pd.DataFrame(cells, columns=["round", "worker", "seconds"])
    return rows if load is None else rows.assign(load=load, seconds=rows["seconds"] * (1 + load))


def write(folder, name):
    path = folder / name
    if name.endswith(".npy"):
        np.save(path, TABLE)
    elif name.endswith(".npz"):
        np.savez(path, delays=TABLE)
    elif name == "wide.parquet":
        pd.DataFrame(TABLE, columns=["w0", "w1", "w2"]).to_parquet(path)
    elif name == "long.parquet":
        long_form().to_parquet(path)
    elif name == "long.csv":
        long_form().rename(columns={"worker": "rank"}).to_csv(path, index=False)
    elif name == "ms.csv":
        rows = long_form().rename(columns={"round": "step", "seconds": "duration_ms"})
        rows.assign(duration_ms=rows["duration_ms"] * 1e3).to_csv(path, index=False)
    else:
        head = {"bare.csv": "", "named.csv": "round,worker0,worker1,worker2\n"}[name]
        lead = "7," if head else ""
        path.write_text(head + "".join(lead + ",".join(map(str, row)) + "\n" for row in TABLE))
    return path


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "wide.parquet", "long.parquet", "long.csv", "ms.csv", "bare.csv",
                                  "named.csv"])  # fmt: skip
def test_every_form_of_file_gives_the_same_profile(tmp_path, name):
    path = write(tmp_path, name)
    assert delay_files.is_profile(path)
    (profile,) = delay_files.read(path)
    assert profile.seconds == pytest.approx(TABLE) and profile.load == 1 / 3
    assert delay_files.read(path, 0.5)[0].load == 0.5


def test_a_table_of_several_loads_gives_a_profile_each(tmp_path):
    pd.concat([long_form(0.5), long_form(0.25)]).to_csv(tmp_path / "loads.csv", index=False)
    profiles = delay_files.read(tmp_path / "loads.csv")
    assert [one.load for one in profiles] == [0.25, 0.5]
    assert profiles[1].seconds == pytest.approx(1.5 * TABLE)


def test_other_recordings_are_no_profiles(tmp_path):
    (tmp_path / "log.csv").write_text("step,step_ms,forward_ms\n0,1.0,0.5\n")
    (tmp_path / "trace.json").write_text('{"traceEvents": []}')
    (tmp_path / "empty.csv").write_text("")
    assert not any(delay_files.is_profile(path) for path in (*tmp_path.iterdir(), tmp_path, tmp_path / "none"))


@pytest.mark.parametrize(("content", "words"), [
    ("1,2\n3\n", "row 1 has 1 values"), ("1,2\n3,nan\n", "round 1, worker 1 is nan"),
    ("1,2\n3,\n", "round 1, worker 1"), ("round,worker,seconds\n0,0,x\n", "cannot be read"),
    ("1,2\n3,-1\n", "not more than 0 s"), ("1,2\n3,0\n", "not more than 0 s"), ("1,2\n3,inf\n", "not a finite"),
    ("1,2\n3,x\n", "holds no numbers"), ("", "empty"), ("round\n1\n", "no column of delays"),
    ("round,worker,seconds\n0,0,1\n0,1,1\n1,0,1\n", "round 1 of worker 1 is missing"),
    ("round,worker,seconds\n0,0,1\n0,0,2\n", "is there 2 times"),
    ("round,worker,seconds,load\n0,0,1,2\n", "load 2"),
])  # fmt: skip
def test_what_is_no_profile_is_refused_with_its_place(tmp_path, content, words):
    (tmp_path / "delays.csv").write_text(content)
    with pytest.raises((UsageError, Unreadable), match=words) as raised:
        delay_files.read(tmp_path / "delays.csv")
    assert "delays.csv" in str(raised.value)


def test_workers_may_have_names(tmp_path):
    (tmp_path / "a.csv").write_text("round,worker,seconds\n0,node-b,2\n0,node-a,1\n")
    (profile,) = delay_files.read(tmp_path / "a.csv")
    assert profile.workers == ("node-a", "node-b") and profile.seconds.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(("array", "words"), [
    ([[1.0, 2.0], [3.0]], "1 to 2 workers"), (np.ones(3), "shape 3"), (np.ones((2, 0)), "2x0"), (1.0, "one number"),
    ([["a", "b"]], "no numbers"), ([[1.0, np.nan]], "worker 1"),
])  # fmt: skip
def test_arrays_that_are_no_profiles(array, words):
    with pytest.raises(UsageError, match=words):
        delays.of_array(array)


def test_damaged_files_are_unreadable(tmp_path):
    np.save(tmp_path / "a.npy", TABLE)
    (tmp_path / "torn.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-9])
    np.savez(tmp_path / "two.npz", one=TABLE, two=TABLE)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("torn.npy", "two.npz", "objects.npy"):
        with pytest.raises(Unreadable, match=name):
            delay_files.read(tmp_path / name)
    with pytest.raises(UsageError, match="no file"):
        delay_files.read(tmp_path)


def test_doubts_about_a_profile():
    together = np.repeat(np.linspace(1.0, 2.0, 30)[:, None], 4, axis=1)
    assert "steps of the job" in delays.of_array(together).warnings[0]
    assert "only 2 rounds" in delays.of_array(TABLE).warnings[0]
    assert not delays.of_array(np.random.default_rng(0).random((30, 4)) + 1).warnings


def steps(seconds, phase="step"):
    rounds, workers = seconds.shape
    start = 10**9 * np.repeat(np.arange(rounds) * 10, workers)
    return frame("steps", {
        "job": "job", "step": np.repeat(np.arange(rounds), workers), "rank": np.tile(np.arange(workers), rounds),
        "phase": phase, "start_ns": start, "end_ns": start + np.rint(seconds.ravel() * 1e9).astype(np.int64),
    })  # fmt: skip


def test_steps_of_ranks_are_delays():
    profile = delays.of_tables({"steps": pd.concat([steps(TABLE), steps(TABLE / 2, "forward")])})
    assert profile.seconds == pytest.approx(TABLE) and profile.workers == ("0", "1", "2")


def test_steps_that_a_rank_lacks_are_left_out():
    table = steps(np.vstack([TABLE, TABLE + 1]))
    short = table[~((table["step"] == 1) & (table["rank"] == 2)).to_numpy()]
    profile = delays.of_tables({"steps": short})
    assert profile.rounds == (0, 2, 3) and "1 steps" in profile.warnings[0]
    with pytest.raises(UsageError, match="only 0 of 4 steps"):
        delays.of_tables({"steps": table[(table["rank"] == table["step"] % 3).to_numpy()]})
    with pytest.raises(UsageError, match="no steps"):
        delays.of_tables({})


def test_own_work_of_ranks_and_what_is_nobodys_work():
    """Work 1.0 to 3.0 s; every step lasts 0.2 s longer than its last worker. The planned step 2 is left out."""
    work = np.vstack([TABLE, [[9.0, 9.0, 9.0]]])
    ends = np.repeat(work.max(axis=1) + 0.2, 3)
    table = frame("rank_steps", {
        "job": "job", "step": np.repeat([0, 1, 2], 3), "rank": np.tile([0, 1, 2], 3), "start_ns": 0,
        "end_ns": (ends * 1e9).astype(np.int64), "work_ns": work.ravel() * 1e9,
        **dict.fromkeys(("own_ns", "compute_ns", "input_ns", "gc_ns", "checkpoint_ns", "transfer_ns", "wait_ns",
                         "idle_ns", "comm_ns"), 0.0),
    })  # fmt: skip
    times = frame("step_times", {"job": "job", "step": [0, 1, 2], "start_ns": 0, "duration_ns": 1.0,
                                 "planned": [False, False, True], "ranks_count": 3})  # fmt: skip
    profile = delays.of_tables({"rank_steps": table, "step_times": times})
    assert profile.fixed_s == pytest.approx(0.2)
    assert profile.seconds == pytest.approx(TABLE + 0.2)


@pytest.mark.parametrize(("kind", "slope", "fixed"), [("additive", 3.0, 0.0), ("multiplicative", 0.0, 0.4)])
def test_the_kind_of_response_is_told_from_its_quantiles(kind, slope, fixed):
    draw = np.random.default_rng(3)
    truth = response.Response(kind, slope, fixed)
    base = 0.5 + 0.5 * draw.exponential(1.0, (3, 60, 30))
    found = response.fit([0.1, 0.2, 0.4], [truth.move(part, 0.1, load) for part, load in zip(base, (0.1, 0.2, 0.4),
                                                                                           strict=True)])  # fmt: skip
    assert found.kind == kind
    if kind == "additive":
        assert found.slope_s == pytest.approx(3.0, rel=0.05)
    else:
        assert found.fixed_s == pytest.approx(0.4, abs=0.08)
        assert found.slopes_s["q99"] > 2 * found.slopes_s["q50"]


def test_one_load_tells_nothing_about_another():
    for loads in ([0.1], [0.1, 0.1]):
        with pytest.raises(UsageError, match="only one load"):
            response.fit(loads, [TABLE] * len(loads))
    with pytest.raises(UsageError, match="shares of the whole batch"):
        response.fit([0.1, 2.0], [TABLE, TABLE])
    with pytest.raises(UsageError, match="load 0"):
        response.Response("multiplicative").move(TABLE, 0.0, 0.5)
    with pytest.raises(UsageError, match="not negative"):
        response.Response("additive", -1.0)
    with pytest.raises(UsageError, match="additive and multiplicative"):
        response.Response("linear")


def test_load_that_costs_nothing_has_no_negative_slope():
    assert response.fit([0.1, 0.5], [TABLE + 1, TABLE]).slope_s == 0.0


def test_bursts_are_counted():
    """Worker 0: one burst of two rounds; worker 1: late at the start and at the end; worker 2: nearly always."""
    flags = np.array([[0, 1, 1], [1, 0, 1], [1, 0, 1], [0, 0, 0], [0, 1, 1]], dtype=bool)
    found = bursts.fit(flags)
    assert found.lengths == {1: 3, 2: 1, 3: 1} and found.count == 5 and found.longest_rounds == 3
    assert found.chronic == (2,) and (found.late_least, found.late_most) == (0, 2)
    assert found.slow_ratio == pytest.approx(8 / 15) and found.late_mean == pytest.approx(8 / 5)
    assert found.start_ratio == pytest.approx(3 / 6)  # of 6 rounds in time with a next one, 3 went late
    assert found.end_ratio == pytest.approx(3 / 6) and found.mean_rounds == pytest.approx(2.0)


def test_bursts_that_never_end_and_none_at_all():
    always = bursts.fit(np.ones((4, 2), dtype=bool))
    assert always.mean_rounds == np.inf and always.chronic == (0, 1)
    never = bursts.fit(np.zeros((4, 2), dtype=bool))
    assert never.mean_rounds == 0.0 and never.count == 0 and never.start_ratio == 0.0
