"""Accounting before a run, ranks that begin in the middle of a host, and members that are away."""

import numpy as np
import pytest

from skewscope.errors import UsageError
from skewscope.simulate import accounting
from skewscope.simulate.fleet import build
from skewscope.simulate.scenario import parse, scenario
from skewscope.simulate.simulation import ground, simulate


def test_a_lemon_fails_more_of_what_it_is_given_and_all_is_before_the_run():
    world, (fault,) = ground(scenario("sched-lemon-node"), 3)
    rows = accounting.attempts(world)
    lemon = world.fleet.nodes[int(world.fleet.node_of(fault.gpu))]
    failed = rows["state"].isin(["failed", "node-fail"]).groupby(rows["node"], observed=True).mean()
    assert failed.idxmax() == lemon and failed[lemon] > 2 * failed.drop(lemon).median()
    assert (rows["end_ns"] < world.scenario.start_ns).all() and (rows["start_ns"] < rows["end_ns"]).all()
    assert not rows.duplicated(["submission", "attempt", "node"]).any()
    assert {one.event for one in world.events if one.t_s < 0} == {"drain"}


def test_without_a_history_nothing_is_told():
    given = {"jobs": [{"ranks": 8, "steps": 20}], "faults": [{"condition": "sched-lemon-node"}]}
    made = simulate(parse(given, "test"), 1)
    assert "attempts" not in made.tables and not len(accounting.attempts(made.world))


def test_a_first_slot_moves_all_ranks_and_costs_where_groups_are_cut():
    given = {
        "jobs": [{"ranks": 16, "steps": 60, "first_slot": 2}],
        "faults": [{"condition": "sched-topology-mismatch"}],
    }
    made = simulate(parse(given, "test"), 1)
    ranks = made.tables["ranks"]
    assert ranks["gpu"].tolist() == [2, 3, 4, 5, 6, 7, *range(8), 0, 1] and ranks["node"].nunique() == 3
    assert made.truth["faults"][0]["lost_share"] > 0.08
    whole = simulate(parse(given | {"jobs": [{"ranks": 16, "steps": 60, "first_slot": 4}]}, "test"), 1)
    assert whole.truth["faults"][0]["lost_share"] == 0


@pytest.mark.parametrize("job", [{"first_slot": -1}, {"first_slot": 1, "kind": "serving"}])
def test_a_first_slot_that_cannot_be_is_refused(job):
    with pytest.raises(UsageError, match="first_slot"):
        parse({"jobs": [job]}, "test")


def test_a_history_that_cannot_be_is_refused():
    with pytest.raises(UsageError, match="history_days"):
        parse({"fleet": {"history_days": 91}}, "test")
    assert build(parse({"fleet": {"history_days": 1.5}}, "test")).nodes


def test_who_is_away_tells_nothing_and_the_price_is_by_the_clock():
    made = simulate("peer-churn", 2)
    world, (fault,) = made.world, made.faults
    steps = made.tables["windows"]
    steps = steps[(steps["metric"] == "skewscope_steps_total").to_numpy()]
    told = steps.groupby("rank").size()
    begin_s, end_s, ranks = world.courses[0].away[0]
    window = world.scenario.start_ns + (int(begin_s // 30) + 2) * 30 * 10**9
    there = steps[(steps["t_ns"] == window).to_numpy()]["rank"]
    assert not set(there) & set(ranks) and len(there) == 32 - len(ranks) and told.min() < told.max()
    run = made.runs[0]
    gaps = sum(min(end, run.end_s) - begin for begin, end, _ in world.courses[0].away if begin < run.end_s)
    since = run.start_s[-1] + run.seconds[-1] - run.start_s[np.searchsorted(run.start_s, fault.onset_s) - 1]
    assert made.truth["faults"][0]["lost_share"] == pytest.approx(gaps / since, rel=0.05)
