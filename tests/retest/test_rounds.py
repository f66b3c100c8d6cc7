from itertools import count

import pytest

from skewscope.retest.rounds import Rounds, seconds, speed, told


def test_rounds_end_with_the_budget_but_there_are_enough():
    ticks = count()
    within = Rounds(least=3, most=100, budget_s=20, warm=1, clock_s=lambda: next(ticks))
    assert 3 <= len(seconds(lambda: None, within)) <= 10
    assert len(seconds(lambda: None, Rounds(least=3, most=100, budget_s=0, clock_s=lambda: next(ticks)))) == 3
    assert len(seconds(lambda: None, Rounds(least=3, most=5, budget_s=1e9, clock_s=lambda: next(ticks)))) == 5


def test_the_first_rounds_are_not_told():
    numbers = count()
    rounds = Rounds(least=2, most=2, warm=3)
    assert told(lambda: [float(next(numbers))], rounds) == [[3.0], [4.0]]


def test_a_clock_that_stands_gives_no_endless_speed():
    assert speed("copy", "bytes", "cpu", "1", 1.0, [0.0]).values == pytest.approx((1e9,))
