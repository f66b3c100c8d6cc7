from pathlib import Path
from runpy import run_path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skewscope.acting import replay
from skewscope.acting._replay_cases import Watching
from skewscope.acting._replay_world import ACT, OWN, PEOPLE, World
from skewscope.simulate import incidents
from skewscope.simulate.week import WeekPlan

MADE = run_path(str(Path(__file__).with_name("_weeks.py")))
at, job, outage, slow, week = (MADE[name] for name in ("at", "job", "outage", "slow", "week"))


def moved(made, hour, step_s=60):
    world = World(made)
    for now_ns in range(made.start_ns + step_s * 10**9, at(hour) + 1, step_s * 10**9):
        world.advance(now_ns)
    return world


def hours(gpu_s):
    return gpu_s / 3600


def test_a_slow_node_costs_its_job_all_day():
    lost = moved(week(slow(hour=1)), 24).losses
    assert hours(lost.slowed) == pytest.approx(0.5 * 32 * 23, rel=0.01)
    assert dict(lost.by_kind) == {"slow": pytest.approx(lost.slowed), "": 0.0}
    assert not lost.restarted and not lost.waiting


def test_the_worst_trouble_counts_not_the_sum():
    both = week(slow("n1", share=0.5), slow("n2", share=0.2, kind="passing"))
    assert hours(moved(both, 24).losses.slowed) == pytest.approx(0.5 * 32 * 23, rel=0.01)


def test_a_node_without_work_hurts_nobody():
    assert not moved(week(slow("n6")), 24).losses.slowed


def test_people_drain_a_node_in_the_end_and_mend_it():
    world = moved(week(slow(hour=1, until=8, noticed_ns=at(5))), 6)
    assert world.spots["n1"].foreign == "broken: gpu-slow-silent" and "n1" not in world.runs["job"].nodes
    assert world.losses.restarts == {PEOPLE: 1}
    assert hours(world.losses.slowed) == pytest.approx(0.5 * 32 * 4, rel=0.02)
    assert not moved(week(slow(hour=1, until=8, noticed_ns=at(5))), 9).spots["n1"].foreign


@pytest.mark.parametrize("leaves", [True, False])
def test_a_fenced_node_is_mended_once_its_job_is_gone(leaves):
    world = moved(week(slow(hour=1)), 2)
    world.spots["n1"].marks["drain"] = "skewscope:x"
    if leaves:
        world.restart(world.runs["job"], ACT)
    for minute in range(1, 200):
        world.advance(at(2) + minute * 60 * 10**9)
    assert bool(world.sick("n1")) != leaves
    assert hours(world.losses.slowed) == pytest.approx(0.5 * 32 * (1 if leaves else 4.3), rel=0.02)


def test_a_ticket_brings_people_who_give_the_node_back():
    world = moved(week(slow(hour=1)), 2)
    world.spots["n1"].marks.update(drain="skewscope:x", ticket="skewscope:x", note="skewscope:x")
    for minute in range(1, 200):
        world.advance(at(2) + minute * 60 * 10**9)
    assert world.spots["n1"].marks == {"note": "skewscope:x"} and not world.spots["n1"].foreign
    assert world.losses.restarts == {PEOPLE: 1} and not world.sick("n1")


def test_a_restart_costs_its_time_and_the_work_since_the_checkpoint():
    world = moved(week(), 2)
    run = world.runs["job"]
    world.advance(at(2) + 300 * 10**9)
    assert run.since_checkpoint_s(world.now_ns) == pytest.approx(240, abs=61)
    since_s = run.since_checkpoint_s(world.now_ns)
    world.spots["n0"].marks["drain"] = "skewscope:x"
    world.restart(run, ACT)
    assert world.losses.restarted == (600 + since_s) * 32
    assert run.nodes == ("n1", "n2", "n3", "n4") and run.since_checkpoint_s(world.now_ns) == 0


def test_a_job_waits_where_nodes_are_missing():
    world = moved(week(nodes=4, outages=[outage("n0", 1, 3)], works=[job(restarts_ns=(at(2),))]), 4)
    assert world.losses.restarts == {OWN: 1}
    assert hours(world.losses.waiting) == pytest.approx(32, rel=0.02)
    assert world.runs["job"].state == "running"


def test_a_job_that_stands_is_restarted_by_its_watchdog_and_comes_back_to_the_broken_node():
    world = moved(week(slow(kind="hard", condition="gpu-off-bus", share=1.0)), 3)
    assert world.losses.restarts[OWN] >= 4 and "n1" in world.runs["job"].nodes


def test_avoided_nodes_are_taken_last():
    world = World(week(nodes=5))
    world.spots["n0"].marks["avoid"] = "skewscope:x"
    world.advance(at(0.1))
    assert world.runs["job"].nodes == ("n1", "n2", "n3", "n4")


def test_a_shared_cause_stays_with_the_jobs_that_it_met():
    made = week(slow("n1", kind="shared"))
    world = moved(made, 2)
    assert [run.work.id for run in world.hurts(made.troubles[0])] == ["job"]
    world.spots["n1"].marks["drain"] = "skewscope:x"
    world.restart(world.runs["job"], ACT)
    world.advance(at(2.5))
    assert "n1" not in world.runs["job"].nodes and world.runs["job"].share == 0.5


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 500), st.lists(st.tuples(st.integers(0, 15), st.booleans()), max_size=12))
def test_no_node_ever_has_two_jobs(seed, meddled):
    made = incidents.week(WeekPlan(nodes=16, days=0.5, slow=60, hard=60, passing=60, drains=200), seed)
    world = World(made)
    for number, now_ns in enumerate(replay.turns(made, 300)):
        world.advance(now_ns)
        for node, fence in meddled[number % 7 :: 7]:
            spot = world.spots[made.machines[node].name]
            (spot.marks.__setitem__ if fence else spot.marks.pop)("drain", "skewscope:x")
            if spot.run:
                world.restart(spot.run, ACT)
        held = [name for run in world.runs.values() for name in run.nodes]
        assert len(held) == len(set(held))
        assert {name for name, spot in world.spots.items() if spot.run} == set(held)
        assert all(len(run.nodes) == run.work.nodes for run in world.active if run.state == "running")
    assert min(world.losses.slowed, world.losses.waiting, world.losses.restarted) >= 0


def watched(made, hour, step_s=60):
    world = World(made)
    watching = Watching(world)
    cases = []
    for now_ns in range(made.start_ns + step_s * 10**9, at(hour) + 1, step_s * 10**9):
        world.advance(now_ns)
        cases = watching.cases()
    return watching, cases


def test_a_case_tells_what_the_findings_would():
    watching, (case,) = watched(week(slow(hour=1, told=0.45)), 2)
    assert (case.node, case.job, case.ranks, case.subject, case.gpu) == ("n1", "job", 32, "n1/gpu3", 3)
    assert (case.share, case.lost_gpus, case.seen_count, case.of_count) == (0.45, pytest.approx(14.4), 5, 5)
    assert case.opened_ns == at(1) and case.seen_ns == at(2) and not case.healthy and case.peers == 31
    around = watching.around()
    assert around.remaining_s["job"] == 22 * 3600 and around.since_checkpoint_s["job"] <= 600
    assert watching.steps() == {"job": 4.0}


def test_a_case_ends_some_time_after_its_trouble():
    made = week(slow(hour=1, until=2))
    assert watched(made, 2)[1][0].healthy is False
    assert watched(made, 2 + 3 / 60)[1][0].healthy is True
    assert watched(made, 2 + 8 / 60)[1] == []


def test_the_truth_is_not_told():
    (false,) = watched(week(slow(kind="false", share=0.0, told=0.3)), 2)[1]
    (true,) = watched(week(slow(kind="passing", share=0.3)), 2)[1]
    assert (false.node, false.share, false.role) == (true.node, true.share, true.role)
    (misled,) = watched(week(slow(is_misled=True)), 2)[1]
    assert misled.node == "n2"


def test_what_comes_back_much_later_is_another_incident():
    made = week(slow(hour=1, levels=((at(1), 0.5), (at(2), 0.0), (at(4), 0.3))))
    (first,), (second,) = watched(made, 1.5)[1], watched(made, 4.5)[1]
    assert [first.incident, first.share] == ["slow-n1-1", 0.5]
    assert [second.incident, second.share, second.opened_ns] == ["slow-n1-2", 0.3, at(4)]
    assert watched(made, 3)[1] == []
