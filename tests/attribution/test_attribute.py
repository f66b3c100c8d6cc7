"""From tables to prices on jobs whose truth is known by construction."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from skewscope.attribution import attribute
from skewscope.frames import all_tables

_spec = importlib.util.spec_from_file_location("jobs", Path(__file__).with_name("_jobs.py"))
jobs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(jobs)


def price(derived, kind, cause, rank=-1):
    blame = derived.tables["blame"]
    rows = blame[(blame["kind"] == kind) & (blame["cause"] == cause) & (blame["rank"] == rank)]
    return rows.iloc[0] if len(rows) else None


def test_empty_tables_give_empty_tables():
    derived = attribute(all_tables({}))
    assert all(len(table) == 0 for table in derived.tables.values())


def test_one_slow_rank_is_priced_at_what_it_adds():
    own = jobs.even()
    own[:, :, 4] *= 1.5
    row = price(attribute(jobs.data_parallel(own)), "rank", "own", 4)
    assert row["lost_s"] == pytest.approx(0.015, rel=0.08)
    assert row["hit_share_ratio"] == 1.0 and row["confidence_ratio"] > 0.99
    assert row["rate_ratio"] == pytest.approx(1.5, rel=0.03)


def test_without_activity_the_order_of_arrivals_prices_the_same_rank():
    own = jobs.even()
    own[:, :, 4] *= 1.5
    row = price(attribute(jobs.data_parallel(own, with_ops=False)), "rank", "own", 4)
    assert row["lost_s"] == pytest.approx(0.015, rel=0.2)


def test_equal_ranks_cost_nothing():
    derived = attribute(jobs.data_parallel(jobs.even()))
    blame = derived.tables["blame"]
    assert (blame.loc[blame["kind"] == "rank", "lost_share_ratio"] < 0.02).all()


def test_replay_without_repair_gives_the_recorded_steps():
    derived = attribute(jobs.data_parallel(jobs.even()))
    times = derived.tables["step_times"]
    np.testing.assert_allclose(times["replay_ns"][1:], times["duration_ns"][1:], rtol=0.02)


def test_an_effect_that_begins_late_is_priced_over_its_own_window():
    own = jobs.even(steps=20)
    own[12:, :, 1] *= 1.6
    row = price(attribute(jobs.data_parallel(own)), "rank", "own", 1)
    assert (row["first_step"], row["last_step"]) == (12, 19)
    assert row["lost_s"] == pytest.approx(0.018, rel=0.1)


def test_late_input_is_told_from_slow_compute():
    steps, ranks = 12, 6
    late = np.full((steps, ranks), 1.0)
    late[:, 2] = 21.0
    derived = attribute(jobs.data_parallel(jobs.even(), input_ms=late))
    assert price(derived, "rank", "input", 2)["lost_s"] == pytest.approx(0.020, rel=0.05)
    steps_table = derived.tables["rank_steps"]
    assert steps_table.groupby("rank")["input_ns"].median()[2] == pytest.approx(21e6)


def test_the_slowest_rank_that_changes_is_priced_for_the_job_not_for_a_rank():
    own = jobs.even()
    own[np.arange(12), :, (5 * np.arange(12)) % 6] *= 2.0
    derived = attribute(jobs.data_parallel(own))
    assert price(derived, "job", "skew")["lost_s"] == pytest.approx(0.030, rel=0.1)
    ranks = derived.tables["blame"].query("kind == 'rank' and cause == 'own'")
    assert (ranks["hit_share_ratio"] < 0.5).all()


def test_waiting_is_not_guilt():
    own = jobs.even()
    own[:, :, 4] *= 1.5
    steps = attribute(jobs.data_parallel(own)).tables["rank_steps"].groupby("rank")[["own_ns", "wait_ns"]].median()
    assert steps["own_ns"].idxmax() == 4
    assert steps["wait_ns"].idxmin() == 4
    waited_for = attribute(jobs.data_parallel(own)).tables["rank_steps"].query("rank != 4")["wait_for_rank"]
    assert (waited_for == 4).mean() > 0.9


def test_clocks_that_disagree_are_aligned_and_the_verdict_stays():
    own = jobs.even()
    own[:, :, 4] *= 1.5
    tables = jobs.data_parallel(own)
    for name, columns in (("collectives", ["ready_ns", "start_ns", "end_ns"]), ("ops", ["start_ns", "end_ns"]),
                          ("steps", ["start_ns", "end_ns"])):  # fmt: skip
        moved = tables[name].copy()
        moved.loc[moved["rank"] == 2, columns] += 3_000_000_000
        tables[name] = moved
    derived = attribute(tables)
    clocks = derived.tables["clocks"].set_index("node")
    assert clocks.loc["n2", "offset_ns"] == pytest.approx(3e9, abs=1e5)
    assert clocks["aligned"].tolist() == [name == "n2" for name in clocks.index]
    assert price(derived, "rank", "own", 4)["lost_s"] == pytest.approx(0.015, rel=0.08)
    assert price(derived, "rank", "own", 2) is None


def test_a_heavy_stage_is_priced_against_the_mean_and_no_rank_is_blamed():
    derived = attribute(jobs.pipeline([2.0, 2.0, 4.0, 2.0]))
    blame = derived.tables["blame"]
    stage = blame[blame["kind"] == "stage"]
    assert stage["stage"].tolist() == [2]
    assert stage["rate_ratio"].iloc[0] == pytest.approx(2.0, rel=0.05)
    assert stage["lost_s"].iloc[0] > 0.015
    assert not (blame["kind"] == "rank").any()
    assert derived.tables["rank_steps"].groupby("stage")["wait_ns"].median().idxmin() == 2


def test_two_ranks_are_too_few_to_be_sure():
    own = jobs.even(ranks=2)
    own[:, :, 1] *= 1.5
    row = price(attribute(jobs.data_parallel(own)), "rank", "own", 1)
    assert row["peers_count"] == 1


def test_one_member_collectives_and_zero_length_steps_are_harmless():
    tables = jobs.data_parallel(jobs.even(ranks=1))
    steps = tables["steps"].copy()
    steps["end_ns"] = steps["start_ns"]
    derived = attribute({**tables, "steps": steps})
    assert not derived.tables["arrivals"]["last"].any()


def test_calls_that_cannot_belong_together_are_counted_not_blamed():
    tables = jobs.data_parallel(jobs.even())
    calls = tables["collectives"].copy()
    odd = (calls["rank"] % 2 == 1) & (calls["op_class"] == "all_reduce[1]")
    calls.loc[odd, ["ready_ns", "start_ns", "end_ns"]] += 13_000_000 * (calls.loc[odd, "step"].to_numpy()[:, None] % 5)
    derived = attribute({**tables, "collectives": calls})
    assert any("could not be matched" in warning for warning in derived.warnings)


PAIRS = [(0, 1), (2, 3), (4, 5), (6, 7)]
ACROSS = [(0, 2, 4, 6), (1, 3, 5, 7)]
EXPERTS = [(0, 1, 2, 3), (4, 5, 6, 7)]


@pytest.mark.parametrize("inner", [PAIRS, EXPERTS], ids=["tensor", "expert"])
def test_a_slow_shard_is_told_from_the_partner_that_waits_for_it(inner):
    own = jobs.even(steps=10, buckets=5, ranks=8, ms=6.0)
    own[:, :, 3] *= 1.4
    derived = attribute(jobs.meeting(own, [inner] * 4 + [ACROSS]))
    row = price(derived, "rank", "own", 3)
    assert row["lost_s"] == pytest.approx(5 * 6 * 0.4e-3, rel=0.15)
    assert row["hit_share_ratio"] == 1.0
    partner = price(derived, "rank", "own", 2)
    assert partner is None or partner["lost_share_ratio"] < 0.02
    waits = derived.tables["rank_steps"].groupby("rank")["wait_ns"].median()
    assert waits.idxmin() == 3


def test_calls_without_a_pattern_have_no_steps():
    tables = jobs.data_parallel(jobs.even(steps=1, buckets=2), with_ops=False)
    bare = tables["collectives"].assign(step=-1)
    derived = attribute(all_tables({"collectives": bare}))
    assert not len(derived.tables["step_times"]) and len(derived.tables["arrivals"])


@pytest.mark.parametrize("buckets", [1, 3])
def test_rounds_of_calls_last_from_one_to_the_next(buckets):
    bare = jobs.data_parallel(jobs.even(buckets=buckets), with_ops=False)["collectives"]
    bare = bare.assign(step=-1, message_bytes=4000 * (1 + bare["seq"] % 100))
    times = attribute(all_tables({"collectives": bare})).tables["step_times"]
    assert len(times) == 12
    expected_ns = buckets * 10e6 + 2e6  # work, and a last transfer that all wait for
    np.testing.assert_allclose(times["duration_ns"][1:], expected_ns, rtol=0.05)


def test_clocks_of_a_pipeline_are_timed_both_ways():
    tables = jobs.pipeline([2.0, 2.0, 4.0, 2.0])
    for name, columns in (("collectives", ["ready_ns", "start_ns", "end_ns"]), ("ops", ["start_ns", "end_ns"]),
                          ("steps", ["start_ns", "end_ns"])):  # fmt: skip
        moved = tables[name].copy()
        for rank, off_ms in ((1, 700), (2, -90), (3, 5000)):
            moved.loc[moved["rank"] == rank, columns] += off_ms * jobs.MS
        tables[name] = moved
    derived = attribute(tables)
    clocks = derived.tables["clocks"].set_index("node")["offset_ns"]
    assert (clocks - clocks["rank0"]).tolist() == pytest.approx([0, 700e6, -90e6, 5000e6], abs=1e6)
    stage = derived.tables["blame"].query("kind == 'stage'")
    assert stage["stage"].tolist() == [2]
    assert stage["rate_ratio"].iloc[0] == pytest.approx(2.0, rel=0.05)


def test_two_ranks_of_one_slow_host_are_both_found():
    own = jobs.even(ranks=8)
    own[:, :, 4:6] *= 1.5
    derived = attribute(jobs.data_parallel(own))
    for rank in (4, 5):
        row = price(derived, "rank", "own", rank)
        assert row["hit_share_ratio"] > 0.9 and row["confidence_ratio"] > 0.95
        assert row["lost_s"] == pytest.approx(0.015, rel=0.1)
