"""Rooms about placement, membership and bad hosts: prices, subjects, and thresholds that matter."""

import dataclasses

import pytest

from skewscope.catalogue import load, room

placed = load("detectors._placement_worlds").placed


def find(name, tables, **thresholds):
    return list(dataclasses.replace(room("detectors", name).load(), **thresholds).detect(tables))


def one(name, tables, **thresholds):
    (found,) = find(name, tables, **thresholds)
    return found


MISMATCH = "sched-topology-mismatch"


def test_groups_across_hosts_cost_what_they_take_longer():
    found = one(MISMATCH, placed(1, 0.1))
    assert found.role == "culprit" and found.subject.id == "llm" and found.severity == "S3"
    assert found.lost_s == pytest.approx(0.1, rel=0.01) and found.lost_share == pytest.approx(0.1 / 0.62, rel=0.05)
    assert found.evidence[0].value == 4 and "4 of 8 tp groups of 2" in found.summary


def test_the_advice_says_whether_numbering_anew_is_enough():
    tables = placed(2, 0.1, tp=4)
    fewer = tables["ranks"][(tables["ranks"]["dp"] < 3).to_numpy()]
    assert "these hold 2 of 3 groups whole" in one(MISMATCH, tables | {"ranks": fewer}).advice
    assert "number the ranks anew" in one(MISMATCH, placed(1, 0.1)).advice


def test_what_costs_little_or_began_later_is_context():
    for tables in (placed(1, 0.02), placed(1, 0.1, since=12)):
        found = one(MISMATCH, tables)
        assert found.role == "context" and found.lost_s == 0 and found.severity == "S4"
    assert one(MISMATCH, placed(1, 0.1, since=3)).role == "culprit"
    assert one(MISMATCH, placed(1, 0.1, since=4)).role == "context"


def test_where_all_lie_badly_the_bytes_say_what_is_usual():
    found = one(MISMATCH, placed(1, 0.1, tp=4))
    assert found.role == "culprit" and found.lost_s == pytest.approx(0.12 - 2 * 3 / 4 * 2e9 / 2e11, rel=0.01)


MISMATCH_MUTATIONS = [  # shift, slow_s, thresholds, whether it is a culprit
    (1, 0.1, {"excess_ratio": 0.2}, False), (1, 0.02, {"excess_ratio": 0.02}, True),
    (1, 0.1, {"held_count": 21, "of_count": 21}, False), (1, 0.033, {}, True), (1, 0.027, {}, False),
]  # fmt: skip


@pytest.mark.parametrize(("shift", "slow_s", "thresholds", "blamed"), MISMATCH_MUTATIONS)
def test_thresholds_of_a_mismatch_are_felt(shift, slow_s, thresholds, blamed):
    assert (one(MISMATCH, placed(shift, slow_s), **thresholds).role == "culprit") is blamed


def test_near_links_that_carry_less_leave_less_to_win():
    assert one(MISMATCH, placed(1, 0.1, tp=4), inside_bytes_per_s=2.5e10).role == "context"


def test_without_metrics_or_coordinates_little_is_said():
    tables = placed(1, 0.1)
    bare = tables | {"windows": tables["windows"].iloc[:0]}
    assert one(MISMATCH, bare).role == "context"
    unknown = tables["ranks"].assign(tp=-1)
    assert not find(MISMATCH, tables | {"ranks": unknown})
    half = tables["ranks"].assign(dp=-1)
    assert not find(MISMATCH, tables | {"ranks": half})


LEMON = "sched-lemon-node"
attempts = load("detectors._attempts")


def test_a_lemon_is_told_with_its_shares_and_lost_work():
    found = one(LEMON, attempts.week({"n3": 9}))
    assert (found.subject.id, found.role, found.severity) == ("n3", "culprit", "S2")
    assert found.evidence[0].value == pytest.approx(9 / 16) and found.evidence[0].baseline == pytest.approx(8 / 122)
    assert found.lost_once_s == pytest.approx(9 * 4 * 3600 * (1 - (8 / 122) / (9 / 16)))
    assert found.lost_s == found.lost_share == 0


LEMON_MUTATIONS = [  # tables, thresholds, whether a host is blamed
    (attempts.week({"n3": 4}), {}, False), (attempts.week({"n3": 7}), {}, True),
    (attempts.week({"n3": 4}), {"chance_ratio": 0.9}, True), (attempts.week({"n3": 9}), {"chance_ratio": 1e-9}, False),
    (attempts.week({"n3": 9}), {"failures_count": 10}, False), (attempts.week({"n3": 9}), {"failures_count": 9}, True),
    (attempts.week({"n3": 9}), {"users_count": 5}, False), (attempts.week({"n3": 9}), {"users_count": 4}, True),
    (attempts.week({"n3": 9}, users=1), {"users_count": 1}, True),
    (attempts.week({"n3": 9}), {"week_s": 3600.0}, False),
    (attempts.repaired(5), {"repairs_count": 6}, False), (attempts.repaired(5, every_s=3500.0), {}, False),
    (attempts.repaired(5, every_s=3700.0), {}, True), (attempts.repaired(5), {"week_s": 3.9 * 86400}, False),
    (attempts.xids(5), {"fatal_count": 6}, False), (attempts.xids(5), {"day_s": 12 * 3600.0}, False),
]  # fmt: skip


@pytest.mark.parametrize(("tables", "thresholds", "blamed"), LEMON_MUTATIONS)
def test_thresholds_of_a_lemon_are_felt(tables, thresholds, blamed):
    assert [found.subject.id for found in find(LEMON, tables, **thresholds)] == ["n3"] * blamed


def test_all_that_speaks_against_a_host_is_one_finding():
    both = attempts.week({"n3": 9}) | {"events": attempts.repaired(6)["events"]}
    found = one(LEMON, both)
    assert len(found.evidence) == 2 and found.confidence == 0.95 and "repaired 6 times" in found.summary


CHURN = "peer-churn"
churn = load("detectors._membership_worlds").churn
TWICE = ((8, 11, 1), (20, 23, 2))


def test_churn_costs_the_time_without_steps():
    found = one(CHURN, churn(TWICE))
    assert (found.subject.id, found.role, found.severity) == ("llm", "culprit", "S3")
    assert found.lost_share == pytest.approx(6 / 33) and found.lost_s == pytest.approx(6 * 0.5 / 27)
    assert found.evidence[0].value == 4 and "left 2 times" in found.summary and "2 hosts" in found.summary


def test_whole_rounds_are_priced_until_the_job_lasts():
    late = churn(((8, 11, 1), (28, 31, 2)))
    assert one(CHURN, late).lost_share == pytest.approx(3 / 20)
    assert one(CHURN, churn(((8, 11, 1), (23, 26, 2)))).lost_share == pytest.approx(6 / 33)


def test_a_host_that_leaves_each_time_is_the_culprit():
    found = one(CHURN, churn(((8, 11, 1), (20, 23, 1))))
    assert found.subject.id == "n1" and found.advice == "take n1 out of the job"


CHURN_MUTATIONS = [  # absences, more of the world, thresholds, role or ""
    (TWICE, {}, {"changes_count": 4}, "culprit"), (TWICE, {}, {"changes_count": 4, "lost_ratio": 0.2}, ""),
    (TWICE, {}, {"changes_count": 3, "lost_ratio": 0.2}, "culprit"), (TWICE, {}, {"departures_count": 3}, ""),
    (TWICE, {}, {"hour_s": 600.0}, ""), (TWICE, {}, {"cost_ratio": 0.2}, "context"),
    (TWICE, {"stops": False}, {}, "context"), (TWICE, {"stops": False}, {"changes_count": 4}, ""),
    (TWICE, {"stops": False}, {"cost_ratio": 0.0}, "culprit"), (((8, 11, 1),), {}, {"departures_count": 1}, "culprit"),
    (TWICE, {"end": 30}, {}, "culprit"), (((8, 11, 1), (20, 40, 2)), {}, {}, "culprit"),
]  # fmt: skip


@pytest.mark.parametrize(("absences", "more", "thresholds", "role"), CHURN_MUTATIONS)
def test_thresholds_of_churn_are_felt(absences, more, thresholds, role):
    assert [found.role for found in find(CHURN, churn(absences, **more), **thresholds)] == [role] * bool(role)


def test_an_hour_is_looked_back_and_no_more():
    assert not find(CHURN, churn(TWICE), hour_s=30.0 * 31)
    assert find(CHURN, churn(TWICE), hour_s=30.0 * 32)


def test_two_silent_windows_are_an_absence_and_one_is_none():
    assert not find(CHURN, churn(((8, 9, 1), (20, 21, 2)), silent=True))
    assert find(CHURN, churn(((8, 10, 1), (20, 22, 2)), silent=True))
