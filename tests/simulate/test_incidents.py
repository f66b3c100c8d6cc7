from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skewscope.errors import UsageError
from skewscope.simulate.incidents import week
from skewscope.simulate.week import DAY_NS, KINDS, Trouble, WeekPlan

SMALL = WeekPlan(nodes=16, days=2)


def test_a_seed_gives_a_week():
    assert week(SMALL, 4) == week(SMALL, 4) != week(SMALL, 5)


def test_the_rates_are_those_of_the_plan():
    plan, weeks = WeekPlan(), 60
    made = [week(plan, seed) for seed in range(weeks)]
    node_days = plan.nodes * plan.days * weeks / 1000
    for kind in ("slow", "passing", "hard", "false"):
        wanted = getattr(plan, kind) * node_days
        assert sum(one.counts[kind] for one in made) == pytest.approx(wanted, abs=4 * wanted**0.5), kind
    assert sum(len(one.outages) for one in made) == pytest.approx(plan.drains * node_days, rel=0.2)
    shared = sum(one.counts["shared"] for one in made)
    assert shared == pytest.approx(plan.shared_per_week * weeks, abs=4 * (plan.shared_per_week * weeks) ** 0.5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 100), st.floats(0.1, 10), st.integers(1, 16), st.floats(0.1, 1))
def test_a_week_makes_sense(seed, nodes, days, rack, filled):
    plan = WeekPlan(nodes=nodes, days=days, nodes_per_rack=rack, filled=filled)
    made = week(plan, seed)
    names = {one.name for one in made.machines}
    assert len(names) == nodes and {one.id for one in made.works} >= {one.job for one in made.troubles} - {""}
    assert len({one.id for one in made.troubles}) == len(made.troubles)
    assert [one.onset_ns for one in made.troubles] == sorted(one.onset_ns for one in made.troubles)
    for one in made.troubles:
        assert set(one.nodes) <= names and made.start_ns <= one.onset_ns < made.end_ns and one.onset_ns <= one.end_ns
        assert 0 <= one.share <= 1 and 0 < one.told <= 1 and 0 < one.confidence <= 1
        assert bool(one.share) == (one.kind != "false")
        assert bool(one.nodes) != bool(one.job)
    for one in made.works:
        assert made.start_ns <= one.start_ns < one.end_ns <= made.end_ns and one.ranks == one.nodes * 8
        assert all(one.start_ns <= at < one.end_ns for at in one.restarts_ns)
    for at in made.works:
        assert sum(one.nodes for one in made.works if one.start_ns <= at.start_ns < one.end_ns) <= nodes * filled


def test_only_a_rate_that_is_there_brings_trouble():
    quiet = replace(SMALL, slow=0, passing=0, hard=0, false=0, drains=0, shared_per_week=0, job_share=0)
    assert week(quiet, 1).troubles == week(quiet, 1).outages == ()
    assert set(week(replace(quiet, slow=500), 1).counts) == set(KINDS)
    assert {one.kind for one in week(replace(quiet, slow=500), 1).troubles} == {"slow"}


def test_people_notice_and_mend():
    for one in week(WeekPlan(), 1).troubles:
        assert (one.noticed_ns >= 0) == (one.kind in ("slow", "hard"))
        if one.noticed_ns >= 0:
            assert one.onset_ns <= one.noticed_ns < one.end_ns and one.repair_s > 0


@pytest.mark.parametrize(
    "plan", [WeekPlan(nodes=3), WeekPlan(days=0), WeekPlan(days=400), WeekPlan(filled=0), WeekPlan(nodes_per_rack=0)]
)
def test_a_plan_that_cannot_be_meant(plan):
    with pytest.raises(UsageError):
        week(plan)


def test_a_trouble_knows_its_kind_and_its_levels():
    with pytest.raises(ValueError, match="no kind is called 'odd'"):
        Trouble("a", "odd", "x", 0, 1, 0.1, 0.1)
    moving = Trouble("a", "slow", "x", 0, DAY_NS, 0.2, 0.2, levels=((10, 0.1), (20, 0.3), (30, 0.0)))
    assert [moving.share_at(at) for at in (5, 10, 25, 30)] == [0.0, 0.1, 0.3, 0.0]
    assert [moving.is_of_node, replace(moving, kind="shared").is_of_node] == [True, False]
