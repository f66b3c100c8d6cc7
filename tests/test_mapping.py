"""Tasks over processes: none is lost, and one that kills its process costs itself only."""

import os

import pytest

from skewscope.errors import UsageError
from skewscope.mapping import Died, mapped


def double(number: int) -> int:
    return 2 * number


def dies_at_three(number: int) -> int:
    if number == 3:
        os._exit(1)
    return 2 * number


def raises(number: int) -> int:
    raise KeyError(number)


def every(*asked):
    with mapped(*asked) as results:
        return list(results)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_task_gives_its_result(workers):
    assert sorted(every(double, [3, 1, 2], workers)) == [(0, 6), (1, 2), (2, 4)]
    assert every(double, [], workers) == []


def test_a_process_that_dies_costs_its_task():
    found = dict(every(dies_at_three, [1, 2, 3, 4, 5], 2))
    assert {place: result for place, result in found.items() if place != 2} == {0: 2, 1: 4, 3: 8, 4: 10}
    assert found[2] == Died()


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_task_raises_is_raised(workers):
    with pytest.raises(KeyError):
        every(raises, [1, 2], workers)


def test_no_scheduler_is_told():
    pytest.importorskip("distributed")
    from skewscope import mapping

    before, mapping.CONNECT_S = mapping.CONNECT_S, "1s"
    try:
        with pytest.raises(UsageError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
            every(double, [1], 1, "tcp://127.0.0.1:9")
    finally:
        mapping.CONNECT_S = before
