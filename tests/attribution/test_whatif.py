"""What-if analysis: the published traces with their published results, and synthetic pipelines with known truth."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest

from skewscope.attribution.pipeline_graph import pipelines
from skewscope.attribution.whatif import (
    attribute_ops,
    is_operation_trace,
    last_stage_share,
    whatif,
    worst_workers_share,
)
from skewscope.frames import check, concat, empty, frame
from skewscope.sources.whatif_parquet import WhatifParquet

_spec = importlib.util.spec_from_file_location("pipelines", Path(__file__).with_name("_pipelines.py"))
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
trace = _module.trace

DATA = Path(__file__).parents[2] / "../shared/data/bytedance-straggler-whatif"
recorded = pytest.mark.skipif(not DATA.exists(), reason="the published traces are not here")


def load(name, folder=DATA):
    batches = WhatifParquet().read(folder / f"trace-{name}.parquet").batches
    return {table: concat(table, [frame(table, columns) for kind, columns in batches if kind == table])
            for table in ("ops", "ranks")}  # fmt: skip


def blamed(found, kind, cause):
    """Return the rows of a kind and cause that cost at least 1 % of the step, subject -> share."""
    rows = found.blame[((found.blame["kind"] == kind) & (found.blame["cause"] == cause)).to_numpy()]
    return {row.subject: row.lost_share_ratio for row in rows.itertuples() if row.lost_share_ratio >= 0.01}


@pytest.fixture(scope="module", params=["AR", "SE"])
def published(request):
    if not DATA.exists():
        pytest.skip("the published traces are not here")
    name = request.param
    read = {key: json.loads((DATA / f"{key}-{name}.json").read_text()) for key in ("result", "mw", "ms")}
    return whatif(**load(name)), read


@recorded
def test_steps_and_slowdown_are_the_published_ones(published):
    found, read = published
    for key, values in (("base", found.base_ns), ("nodelay", found.replay_ns), ("noblk", found.ideal_ns)):
        expected = [read["result"][f"step_t_{key}"][str(step)] for step in found.steps]
        assert np.allclose(values / 1e9, expected, rtol=1e-5), key
    assert math.isclose(found.slowdown, read["result"]["blocking_slowdown"], rel_tol=1e-5)
    per_step = read["result"]["blocking_step_slowdown"]
    assert np.allclose(found.replay_ns / found.ideal_ns, [per_step[str(step)] for step in found.steps], rtol=1e-5)


@recorded
def test_worker_and_stage_metrics_are_the_published_ones(published):
    found, read = published
    assert math.isclose(worst_workers_share(found), read["mw"]["Mw"], abs_tol=1e-3)
    assert math.isclose(last_stage_share(found), read["ms"]["Ms"], abs_tol=1e-3)


@recorded
def test_one_slow_worker_and_nothing_else():
    found = whatif(**load("AR"))
    assert [int(found.work.rank[one]) for one in found.verdict.slow] == [0]
    assert found.verdict.heavy_stage == -1 and not found.verdict.sequence
    assert list(blamed(found, "rank", "own")) == ["job/rank0"]
    assert not blamed(found, "stage", "stage") and not blamed(found, "job", "sequence")
    assert not blamed(found, "job", "skew") and not blamed(found, "job", "rest")
    culprit = found.blame[((found.blame["rank"] == 0) & (found.blame["cause"] == "compute")).to_numpy()].iloc[0]
    assert math.isclose(culprit["rate_ratio"], 2.37, rel_tol=0.01) and culprit["hit_share_ratio"] == 1.0
    assert culprit["confidence_ratio"] > 0.99 and culprit["peers_count"] == 3


@recorded
def test_sequences_and_last_stage_but_no_rank():
    found = whatif(**load("SE"))
    assert not found.verdict.slow and found.verdict.sequence and found.verdict.heavy_stage == 1
    assert not blamed(found, "rank", "own")
    assert blamed(found, "job", "sequence")["job"] > 0.2 and blamed(found, "stage", "stage")["job/stage1"] > 0.05
    ideal = float((found.replay_ns - found.ideal_ns).mean()) / float(found.base_ns.mean())
    causes = found.blame[found.blame["cause"].isin(["sequence", "stage", "rest"])]["lost_share_ratio"].sum()
    assert math.isclose(causes, ideal, rel_tol=0.02)


@recorded
@pytest.mark.parametrize("name", ["AR", "SE"])
def test_derived_tables_hold_together(name):
    tables = load(name)
    made, _ = attribute_ops(tables)
    for table, rows in made.items():
        assert len(check(table, rows)) == len(rows) > 0
    steps = made["rank_steps"]
    parts = steps["own_ns"] + steps["transfer_ns"] + steps["wait_ns"] + steps["idle_ns"]
    assert np.allclose(parts, steps["end_ns"] - steps["start_ns"], rtol=1e-3)
    arrivals = made["arrivals"]
    assert (arrivals["wait_ns"] >= 0).all() and (arrivals["members_count"] >= 2).all()
    assert not arrivals.duplicated(["group", "op_class", "seq", "rank"]).any()
    assert (arrivals.groupby("call")["last"].sum() >= 1).all()
    assert (arrivals["rank"].isin(tables["ranks"]["rank"])).all()


def slow(*workers, from_step=0, factor=1.5):
    """Return a cost: the workers (replica, stage) take `factor` as long from a step on."""
    return lambda _phase, replica, stage, _batch, step: (
        factor if (replica, stage) in workers and step >= from_step else 1.0
    )


def lengths(seed=0, sigma=0.4):
    """Return a cost: the work of each replica's microbatch is drawn, in every step anew."""
    factors = np.exp(np.random.default_rng(seed).normal(0, sigma, (16, 64, 64)))
    return lambda _phase, replica, _stage, batch, step: float(factors[replica, batch, step])


@pytest.mark.parametrize("shape", [
    {"stages": 1}, {"stages": 2}, {"stages": 4, "batches": 12}, {"stages": 4, "batches": 2}, {"replicas": 1},
    {"stages": 4, "chunks": 2}, {"stages": 2, "chunks": 3, "batches": 6},
])  # fmt: skip
@pytest.mark.parametrize("cost", [lambda *_: 1.0, lengths()])
def test_replay_gives_the_recorded_steps_back(shape, cost):
    tables = trace(cost, **shape)
    found = whatif(**tables)
    assert np.allclose(found.replay_ns, found.base_ns, rtol=1e-9) and not found.warnings
    assert found.slowdown >= 1 - 1e-9


@pytest.mark.parametrize("chunks", [1, 2])
def test_a_repaired_worker_saves_what_the_repaired_job_takes_less(chunks):
    found = whatif(**trace(slow((2, 1)), stages=2, chunks=chunks))
    assert found.verdict.slow == ((1, 2),)
    row = found.blame[((found.blame["kind"] == "rank") & (found.blame["rank"] == 6)).to_numpy()].iloc[0]
    quiet = whatif(**trace(stages=2, chunks=chunks))
    truth = float(found.base_ns.mean() - quiet.base_ns.mean()) / 1e9
    assert math.isclose(row["lost_s"], truth, rel_tol=0.2) and math.isclose(row["rate_ratio"], 1.5, rel_tol=1e-6)


def test_two_equally_slow_workers_are_both_found():
    found = whatif(**trace(slow((2, 1), (3, 1)), replicas=8))
    assert set(blamed(found, "rank", "own")) == {"job/rank10", "job/rank11"}


def test_a_worker_that_becomes_slow_is_priced_from_then_on():
    found = whatif(**trace(slow((2, 1), from_step=12), steps=24))
    row = found.blame[((found.blame["kind"] == "rank") & (found.blame["rank"] == 6)).to_numpy()].iloc[0]
    assert (row["first_step"], row["last_step"]) == (12, 23) and row["hit_share_ratio"] == 1.0


def test_a_heavy_stage_is_no_slow_worker():
    found = whatif(**trace(lambda _p, _r, stage, _b, _s: 1.5 if stage == 3 else 1.0, stages=4))
    assert found.verdict.heavy_stage == 3 and not found.verdict.slow
    assert list(blamed(found, "stage", "stage")) == ["job/stage3"] and not blamed(found, "rank", "own")


@pytest.mark.parametrize("seed", range(3))
def test_drawn_lengths_are_sequence_skew_and_no_rank(seed):
    found = whatif(**trace(lengths(seed), replicas=8, steps=12))
    assert found.verdict.sequence and not found.verdict.slow and found.verdict.heavy_stage == -1
    assert blamed(found, "job", "sequence")["job"] > 0.1


def test_a_slow_worker_is_seen_through_drawn_lengths():
    draw, late = lengths(1, 0.2), slow((2, 1), factor=2.0)
    found = whatif(**trace(lambda *where: draw(*where) * late(*where), replicas=8, steps=12))
    assert found.verdict.slow == ((1, 2),)


def test_few_peers_are_said_to_be_few():
    found = whatif(**trace(slow((1, 1)), replicas=2))
    rows = found.blame[((found.blame["kind"] == "rank") & (found.blame["cause"] == "own")).to_numpy()]
    assert found.verdict.few_peers and (rows["peers_count"] == 1).all()
    assert not len(blamed(whatif(**trace(replicas=1)), "rank", "own"))


def test_steps_with_fewer_microbatches_get_their_own_graph():
    tables = trace(lengths(), batches_of={3: 4, 5: 6})
    made, warnings = pipelines(**tables)
    assert sorted(len(one.lattice.step) for one in made) == [1, 1, 6] and not warnings
    found = whatif(**tables)
    assert np.allclose(found.replay_ns, found.base_ns, rtol=1e-9)


def damaged():
    """Return (what is missing or strange, ops) of a quiet trace."""
    ops = trace()["ops"]
    kinds = sorted(ops["op"].unique())
    yield from ((f"no {kind}", ops[(ops["op"] != kind).to_numpy()]) for kind in kinds)
    yield "no rank 3", ops[(ops["rank"] != 3).to_numpy()]
    yield "rank 3 gone after step 4", ops[((ops["rank"] != 3) | (ops["step"] < 4)).to_numpy()]
    yield "no stage 0", ops[(ops["stage"] != 0).to_numpy()]
    yield "one rank", ops[(ops["rank"] == 0).to_numpy()]
    yield "one row", ops.iloc[:1]
    yield "some rows", ops.sample(frac=0.7, random_state=1)
    yield "an unknown kind", ops.assign(op=ops["op"].astype(str).replace("optimizer", "ema_update").astype("category"))
    yield "no numbers", ops.assign(seq=-1, microbatch=-1, chunk=-1)
    yield "no stages", ops.assign(stage=-1)
    yield "reversed rows", ops.iloc[::-1]


@pytest.mark.parametrize(("what", "ops"), list(damaged()), ids=[what for what, _ in damaged()])
def test_damage_never_raises_and_blames_nobody(what, ops):
    for ranks in (trace()["ranks"], empty("ranks")):
        made, _ = attribute_ops({"ops": ops, "ranks": ranks})
        rows = made["blame"]
        own = rows[((rows["cause"] == "own") & (rows["confidence_ratio"] >= 0.9)).to_numpy()]
        assert not (own["lost_share_ratio"] >= 0.05).any(), what


def test_input_without_steps_or_operations():
    assert not is_operation_trace(empty("ops"))
    assert attribute_ops({"ops": empty("ops"), "ranks": empty("ranks")}) == ({}, [])
    assert is_operation_trace(trace()["ops"])
