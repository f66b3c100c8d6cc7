"""What-if traces: the published ones to the nanosecond, and Parquet that is something else."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources.whatif_parquet import WhatifParquet

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

DATA = Path(__file__).parents[2] / "../shared/data/bytedance-straggler-whatif"


@pytest.mark.parametrize(("name", "dp", "pp", "tp", "rows"), [("AR", 4, 4, 4, 117_216), ("SE", 32, 2, 2, 107_328)])
def test_published_traces(name, dp, pp, tp, rows):
    path = DATA / f"trace-{name}.parquet"
    if not path.exists():
        pytest.skip("no shared data")
    reading = WhatifParquet().read(path)
    ops, ranks = (frame(*batch) for batch in reading.batches)
    assert reading.events == len(ops) == rows
    assert reading.job["parallelism"] == {"dp": dp, "pp": pp, "tp": tp}
    assert reading.world_size == dp * pp * tp
    assert len(ranks) == dp * pp
    source = pd.read_parquet(path)
    assert np.array_equal(ops["op"].astype(str), source["optype"].astype(str).str.replace("-", "_"))
    exact = np.rint(source["duration"].to_numpy().astype(float) * 1e9)
    assert np.array_equal(ops["end_ns"] - ops["start_ns"], exact)
    spans = ops.groupby("step").agg(start=("start_ns", "min"), end=("end_ns", "max"))
    assert np.array_equal(spans["start"].to_numpy()[1:], spans["end"].to_numpy()[:-1])
    measured = (source["start_ts"].astype(float) + source["duration"].astype(float)).groupby(source["step"]).max()
    assert np.allclose((spans["end"] - spans["start"]) / 1e9, measured, atol=1e-6)


def small(**columns):
    given = dict.fromkeys(("dp_rank", "stage", "rank", "step", "seq_id", "mc", "mb_id"), [0, 0]) | {
        "optype": ["forward-compute", "gc"],
        "start_ts": np.array([0, 1], dtype=np.float32),
        "duration": np.array([1, 0.5], dtype=np.float32),
    }
    return pd.DataFrame(given | columns)


def test_rows_without_times_are_left_out(tmp_path):
    path = tmp_path / "trace.parquet"
    small(duration=[1.0, float("nan")]).to_parquet(path)
    reading = WhatifParquet().read(path)
    assert (reading.status, reading.events) == ("partial", 1)


def test_other_parquet_and_damage_are_told(tmp_path):
    path = tmp_path / "trace.parquet"
    small().drop(columns="mb_id").to_parquet(path)
    assert 0 < WhatifParquet().sniff(path.read_bytes()[:64], path.name) < 0.9
    with pytest.raises(Unreadable, match="mb_id"):
        WhatifParquet().read(path)
    small().to_parquet(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(Unreadable, match="damaged"):
        WhatifParquet().read(path)
    small(start_ts=["a", "b"]).to_parquet(path)
    with pytest.raises(Unreadable, match="start_ts"):
        WhatifParquet().read(path)


numbers = st.integers(0, 5)
trace_rows = st.tuples(numbers, numbers, numbers, numbers, st.sampled_from(["forward-compute", "gc", "ü"]),
                       st.integers(0, 10**6), st.integers(0, 10**6))  # fmt: skip


@drawn
@given(st.lists(trace_rows, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_rows_come_back_and_each_step_follows_the_one_before(tmp_path, told, chance):
    """Times are whole eighths of a second, which a float holds; a step is as long as its last row."""
    heads = ["stage", "rank", "step", "mb_id", "optype", "start_ts", "duration"]
    columns = {name: [row[at] for row in told] for at, name in enumerate(heads)}
    columns |= {name: [part / 8 for part in columns[name]] for name in ("start_ts", "duration")}
    columns |= {name: [0] * len(told) for name in ("dp_rank", "seq_id", "mc")}
    order = list(columns)
    chance.shuffle(order)
    path = tmp_path / "trace.parquet"
    pd.DataFrame({name: columns[name] for name in order}).to_parquet(path)
    begin, at = {}, 0
    for step in sorted(set(columns["step"])):
        begin[step] = at
        at += max(start + took for _, _, of, _, _, start, took in told if of == step)
    found = frame(*WhatifParquet().read(path).batches[0])
    found = found[["stage", "rank", "step", "microbatch", "op", "start_ns", "end_ns"]]
    assert list(found.itertuples(index=False, name=None)) == [
        (stage, rank, step, batch, kind.replace("-", "_"), (begin[step] + start) * 125_000_000,
         (begin[step] + start + took) * 125_000_000)
        for stage, rank, step, batch, kind, start, took in told
    ]  # fmt: skip
