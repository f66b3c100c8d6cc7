import numpy as np
import pytest

from skewscope.sources._ring_records import RECORDS
from skewscope.sources._ring_steps import EVERY_STEP, STEP, counted


def ring(steps, first_number, kind=STEP):
    rows = np.zeros(len(steps), RECORDS)
    rows["kind"], rows["step"], rows["number"] = kind, steps, first_number + np.arange(len(steps))
    return rows


@pytest.mark.parametrize(
    ("rings", "span"),
    [
        pytest.param([ring([4, 5, 6], 40)], (5, 6), id="its first step may be cut"),
        pytest.param([ring([4, 5], 40)], (5, 5), id="one whole step is left"),
        pytest.param([ring([4], 40)], (4, 4), id="better a cut step than none"),
        pytest.param([ring([4, 5, 6, 7], 40), ring([6, 7], 30)], (7, 7), id="the latest begin of all ranks"),
        pytest.param([ring([4, 5], 40), ring([6, 7], 30)], (4, 7), id="no step is whole in all ranks"),
        pytest.param([ring([4, 5], 40), ring([1, 2, 3, 4, 5], 1)], (5, 5), id="one ring of two went round"),
        pytest.param([ring([4, 5], 40, kind=STEP + 1)], EVERY_STEP, id="no steps"),
    ],
)
def test_steps_that_count_are_whole_in_all_ranks(rings, span):
    assert counted(rings) == span
