from pathlib import Path
from runpy import run_path

import pytest

from skewscope.catalogue import rooms
from skewscope.policy.evidence import evidence
from skewscope.policy.sections import HARD_CONDITIONS
from skewscope.precedence import CLASSES

WORLD = run_path(str(Path(__file__).with_name("_world.py")))
case, texts, turn, wanted = (WORLD[name] for name in "case texts turn wanted".split())


@pytest.mark.parametrize(
    ("less", "says"),
    [
        ({"confidence": 0.79}, "confidence 0.79, wants 0.8"),
        ({"confidence": float("nan")}, "confidence nan"),
        ({"seen_count": 3}, "seen in 3 of 5 windows, wants 4 of 5"),
        ({"seen_count": 6, "of_count": 10}, "seen in 6 of 10 windows"),
        ({"seen_count": 0, "of_count": 0}, "seen in 0 of 0 windows"),
        ({"steps": 49}, "49 steps compared, wants 50"),
        ({"steps": -1}, "an unknown number of steps"),
        ({"peers": 3}, "3 ranks compared, wants 4"),
        ({"peers": -1}, "an unknown number of ranks"),
    ],
)
def test_thin_evidence_holds(less, says):
    assert says in texts(evidence, turn(), wanted(one=case(**less)))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"seen_count": 4},
        {"seen_count": 4, "of_count": 4},
        {"seen_count": 19, "of_count": 20},
        {"condition": "gpu-off-bus", "steps": -1, "peers": -1},
    ],
)
def test_good_evidence_does_not(more):
    assert not texts(evidence, turn(), wanted(one=case(**more)))


def test_what_is_broken_is_what_the_order_of_causes_calls_so():
    assert set(HARD_CONDITIONS) == CLASSES[0] <= {room.id for room in rooms("detectors")}
