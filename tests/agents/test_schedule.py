from __future__ import annotations

from skewscope.catalogue import load

schedule, crew = load("agents.schedule"), load("agents.crew")
BLOCK = {"skewscope_nvml_hung": ("x", "x")}


def watched(interval_s=1.0):
    return schedule.Watched("rdma", "fast", "host", interval_s)


def outcome(state, seconds=0.001):
    return crew.Outcome("rdma", state, seconds, "why", BLOCK if state == crew.OK else {})


def test_runs_keep_their_step_even_after_a_pause():
    one = watched()
    one.plan(10.0)
    assert one.due_s == 11.0
    one.plan(11.02)
    assert one.due_s == 12.0
    one.plan(15.5)  # three runs were missed: they are not made up for
    assert one.due_s == 16.0


def test_samples_live_for_two_periods():
    one = watched()
    one.take(outcome(crew.OK), 100.0, 1e9)
    assert one.fresh(102.4) is BLOCK and one.fresh(102.6) is None


def test_failures_back_off_and_a_success_ends_it():
    one = watched()
    waits = []
    for _ in range(12):
        one.take(outcome(crew.FAILED), 100.0, 1e9)
        waits.append(one.due_s - 100.0)
    assert waits[:4] == [2.0, 4.0, 8.0, 16.0] and waits[-1] == 256.0 and one.broken
    one.take(outcome(crew.OK), 100.0, 1e9)
    assert one.failures == 0 and not one.broken and one.success_s == 1e9


def test_nothing_there_is_no_failure_and_is_looked_for_again():
    one = watched()
    one.take(outcome(crew.OK), 99.0, 1e9)
    one.take(outcome(crew.NO_DATA), 100.0, 1e9)
    assert not one.broken and one.fresh(100.0) is None and one.due_s == 160.0


def test_a_run_longer_than_the_interval_is_counted():
    one = watched()
    one.take(outcome(crew.OK, seconds=1.5), 100.0, 1e9)
    assert one.overruns == 1


def test_the_lane_follows_the_process_then_the_group():
    assert watched().lane == "fast"
    assert schedule.Watched("x", "slow", "host", 1.0).lane == "slow"
    assert schedule.Watched("x", "slow", "nvml", 1.0).lane == "nvml"


def test_what_comes_and_goes_is_looked_for_at_the_next_turn():
    one = schedule.Watched("collectives", "fast", "host", 1.0, comes_and_goes=True)
    one.take(outcome(crew.NO_DATA), 100.0, 1e9)
    assert one.due_s == 101.0 and not one.broken
