from pathlib import Path
from runpy import run_path

import pytest

from skewscope.policy.budgets import budget
from skewscope.policy.ledger import Ledger

WORLD = run_path(str(Path(__file__).with_name("_world.py")))
NOW_NS, case, done, fleet, policy, record, texts, turn, undone, wanted, wide = (
    WORLD[name] for name in "NOW_NS case done fleet policy record texts turn undone wanted wide".split()
)
OUT = {"schedulable": False, "owner": "anna", "reason": "fan"}
LIMITS = {"nodes_at_once": 9, "share_at_once": 1, "nodes_per_day": 9, "share_per_day": 1, "nodes_per_rack": 9,
          "nodes_per_group": 9, "nodes_per_job": 9}  # fmt: skip


def said(limits, what=None, **more):
    return texts(budget, turn(policy(budget={**LIMITS, **limits}), **more), what or wanted())


def test_the_default_lets_one_node_out_and_counts_what_others_drained():
    assert not texts(budget, turn(), wanted())
    held = texts(budget, turn(fleet=fleet(n90=OUT)), wanted())
    assert "2 nodes would be out at once, 1 of them by others; the limit is 1 (nodes_at_once" in held
    assert not texts(budget, turn(fleet=fleet(n90=OUT)), wanted("avoid"))


@pytest.mark.parametrize(
    ("limits", "free"),
    [
        ({"nodes_at_once": 2}, True),
        ({"nodes_at_once": 1}, False),
        ({"share_at_once": 0.01}, True),
        ({"share_at_once": 0.005}, False),
    ],
)
def test_the_smaller_of_number_and_share_holds(limits, free):
    assert bool(said(limits, fleet=fleet(n90=OUT))) is not free


def test_a_small_cluster_may_lose_one_node_and_a_share_of_nothing_none():
    assert not said({"share_at_once": 0.001, "share_per_day": 0.001}, fleet=fleet(8))
    assert "the limit is 0" in said({"share_at_once": 0.0})


def test_foreign_drains_may_be_left_out_by_who_asks_for_it():
    assert not said({"nodes_at_once": 1, "nodes_per_day": 1, "count_foreign": False}, fleet=fleet(n90=OUT))


def test_ours_count_while_they_stand_are_under_way_or_are_asked_for():
    other = {"target": "n90", "incident": "other", "job": "x"}
    asked = record("proposed", "a", 60, expires_ns=NOW_NS + 1, **other)
    for lines in (done("a", 9, **other), [record("intended", "a", 9, **other)], [asked]):
        assert "at once" in said({"nodes_at_once": 1}, ledger=Ledger.of(lines))
    gone = [*done("a", 9, **other), *undone("a", 5, **other)]
    assert not said({"nodes_at_once": 1}, ledger=Ledger.of(gone))
    assert not said({"nodes_at_once": 1}, ledger=Ledger.of(done("a", 9, verb="avoid", **other)))
    late = record("proposed", "a", 60, expires_ns=NOW_NS - 1, **other)
    assert not said({"nodes_at_once": 1}, ledger=Ledger.of([late]))


def test_the_day_counts_nodes_that_are_back_already():
    def past(hours):
        lines = [*done("a", hours * 3600, target="n90"), *undone("a", hours * 3600 - 60, target="n90")]
        return said({"nodes_per_day": 1}, ledger=Ledger.of(lines))

    assert "within 24 h" in past(23) and not past(25)
    assert not said({"nodes_per_day": 1}, ledger=Ledger.of(done("a", 60, verb="exclude"))), "the same node counts once"


def test_racks_groups_and_jobs_have_limits_of_their_own():
    for key, place, near, far in (
        ("nodes_per_rack", "in rack r0", "n5", "n90"), ("nodes_per_job", "of job train", "n5", "n90"),
        ("nodes_per_group", "in gpu", "n90", ""),
    ):  # fmt: skip
        assert place in said({key: 1}, fleet=fleet(**{near: OUT}))
        assert not far or not said({key: 1}, fleet=fleet(**{far: OUT}))


def test_the_rack_of_a_case_is_asked_where_the_scheduler_knows_none():
    bare = fleet(n3={"rack": ""}, n5=OUT)
    assert "in rack r0" in said({"nodes_per_rack": 1}, wanted(one=case(rack="r0")), fleet=bare)
    assert not said({"nodes_per_rack": 1}, wanted(one=case()), fleet=bare)


def test_a_job_that_the_scheduler_does_not_know_is_counted_by_what_was_done_for_it():
    lines = done("a", 60, target="n90", job="other", incident="x")
    assert "of job other" in said(
        {"nodes_per_job": 1}, wanted(one=case(node="n100", job="other")), ledger=Ledger.of(lines)
    )


def test_what_was_granted_in_the_same_turn_counts():
    at = turn()
    at.granted.append(wanted(one=case("b", "n100", job="other")))
    assert "2 nodes would be out at once" in texts(budget, at, wanted())
    at = turn(wide(breaker={"acts": 2, "out_share": 1.0}))
    at.granted += [wanted(one=case(name, node, job=name)) for name, node in (("b", "n100"), ("c", "n101"))]
    assert "with what this turn grants already, the breaker opens: 2 fences" in texts(budget, at, wanted())
