from __future__ import annotations

import numpy as np
import pytest

from skewscope.optimize import fed_compass
from skewscope.optimize.fed_compass import FedCompass, Job, simulate


def scheduler(*speeds_s):
    made = FedCompass()
    for client, speed in enumerate(speeds_s):
        made.measured(client, speed)
    return made


def test_a_client_joins_the_group_that_lets_it_do_most():
    made = scheduler(1.0, 2.0, 4.0)
    assert made.join(0, 0.0) == Job(100, 0)  # the first group: as many steps as allowed, due at 100 s
    assert made.join(1, 0.0) == Job(50, 0)
    assert made.join(2, 0.0) == Job(25, 0)


def test_a_client_too_slow_for_every_group_opens_one():
    made = scheduler(1.0, 10.0)
    made.join(0, 0.0)
    job = made.join(1, 0.0)  # 100 s allow 10 steps, fewer than 20; latest 150 s + 100 of the fastest: 25 steps
    assert job == Job(25, 1)
    group = made.groups[1]
    assert (group.expected_s, group.latest_s) == (250.0, 375.0)


def test_speeds_are_smoothed_towards_the_newest():
    made = scheduler(1.0)
    assert made.measured(0, 2.0) == pytest.approx(1.9)


def test_a_group_is_averaged_when_all_are_in():
    made = scheduler(1.0, 2.0)
    first, second = made.join(0, 0.0), made.join(1, 0.0)
    assert made.arrive(0, first, 100.0) == ()
    assert made.arrive(1, second, 100.0) == (0, 1)
    assert made.groups == {}


def test_who_comes_too_late_joins_the_next_average():
    made = scheduler(1.0, 2.0, 2.0)
    jobs = [made.join(client, 0.0) for client in range(3)]
    assert made.arrive(0, jobs[0], 100.0) == ()
    assert made.arrive(1, jobs[1], 100.0) == ()
    assert made.close(0) == (0, 1)  # its latest arrival has passed
    assert made.arrive(2, jobs[2], 400.0) == ()
    again = made.join(0, 400.0)
    assert made.arrive(0, again, 500.0) == (0, 2)


def test_equal_clients_meet_every_time_and_unequal_ones_do_not_wait():
    assert all(one.clients == (0, 1, 2) and one.staleness == (0, 0, 0) for one in simulate(np.ones(3), 1000.0))
    speeds = np.array([1.0, 1.3, 2.0, 4.0])
    made = simulate(speeds, 5000.0)
    done = np.zeros(4)
    for one in made:
        done[list(one.clients)] += 1
    assert (done >= 20).all()
    synchronous = 5000.0 / (100 * speeds.max())  # everybody does 100 steps and waits for the slowest
    assert len(made) > 3 * synchronous


def test_steps_that_end_together():
    speeds = np.array([1.0, 2.0, 4.0])
    steps = fed_compass.steps_together(speeds)
    assert steps.tolist() == [100, 50, 25]
    assert (steps * speeds).tolist() == [100.0] * 3
    assert fed_compass.steps_together(np.array([1.0, 9.0])).tolist() == [100, 20]


def test_old_results_count_less():
    weights = [fed_compass.staleness_weight(missed) for missed in range(4)]
    assert weights == sorted(weights, reverse=True)
    assert weights[1] == pytest.approx(2**-0.5)
