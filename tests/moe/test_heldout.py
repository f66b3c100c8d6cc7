import numpy as np
import pytest

from skewscope.moe.heldout import heldout
from skewscope.moe.placement import Placement

START = Placement(np.array([[0, 1, 2, 3]]), 2, 4)
PAIRED = Placement(np.array([[0, 3, 1, 2]]), 2, 4)


def series(*rows):
    return np.array(rows)[:, None, :]


def test_each_split_plans_on_all_before_and_is_scored_on_the_next():
    seen = []

    def planned(series):
        seen.append([one.sum(0)[0].tolist() for one in series])
        return PAIRED

    loads = series([8, 4, 4, 0], [4, 4, 4, 4], [9, 1, 1, 1], [2, 1, 2, 3])
    found = heldout([loads], planned, START)
    assert seen == [[[8, 4, 4, 0]], [[12, 8, 8, 4]], [[21, 9, 9, 5]]]
    assert found.same[:, 0].tolist() == [1.0, 1.0, pytest.approx(22 / 26)]
    assert found.later[:, 0].tolist() == [1.0, pytest.approx(6 / 10), pytest.approx(4 / 5)]
    assert found.kept[:, 0].tolist() == [1.0, pytest.approx(6 / 10), pytest.approx(4 / 5)]
    assert found.mean == pytest.approx((1 + 0.6 + 0.8) / 3) and found.interval == (pytest.approx(0.6), 1.0)
    assert found.layers.tolist() == [pytest.approx(0.8)] and found.place == 3 and found.last is PAIRED
    assert found.gains.tolist() == [0.0, 0.0, 0.0]


def test_a_longer_horizon_scores_more_windows():
    loads = series([8, 4, 4, 0], [4, 4, 4, 4], [9, 1, 1, 1])
    found = heldout([loads], lambda _: PAIRED, START, horizon=2)
    assert found.later[:, 0].tolist() == [pytest.approx((1.0 + 0.6) / 2), pytest.approx(0.6)]


def test_workloads_are_scored_apart_and_planned_together():
    one, other = series([1, 2, 3, 4], [4, 0, 4, 0]), series([1, 0, 0, 1], [6, 2, 2, 6], [6, 2, 2, 6], [6, 2, 2, 6])
    seen = []

    def planned(series):
        seen.append([one.sum(0)[0].tolist() for one in series])
        return START

    found = heldout([one, other], planned)
    assert seen == [[[1, 2, 3, 4], [7, 2, 2, 7]]]  # as many windows as the shorter one has
    assert found.later.tolist() == [[1.0, 1.0]] and np.isnan(found.kept).all()


def test_steps_without_order_are_halved_both_ways():
    seen = []

    def planned(series):
        seen.append(series[0].sum(0)[0].tolist())
        return START

    loads = series([1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 4, 0], [0, 0, 0, 8])
    found = heldout([loads], planned, ordered=False)
    assert seen == [[1, 0, 4, 0], [0, 2, 0, 8]]
    assert found.later[:, 0].tolist() == [pytest.approx(5 / 8), pytest.approx(2.5 / 4)] and not found.ordered


def test_one_window_tells_nothing():
    assert heldout([series([1, 2, 3, 4])], lambda _: START) is None
    assert heldout([series([1, 2, 3, 4], [1, 2, 3, 4]), series([1, 1, 1, 1])], lambda _: START) is None
