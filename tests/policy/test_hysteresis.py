from pathlib import Path
from runpy import run_path

import pytest

from skewscope.policy.hysteresis import hysteresis, is_healthy
from skewscope.policy.ledger import Ledger

WORLD = run_path(str(Path(__file__).with_name("_world.py")))
case, done, policy, texts, turn, wanted = (WORLD[name] for name in "case done policy texts turn wanted".split())


@pytest.mark.parametrize(
    ("share", "begun", "free"),
    [
        (0.17, False, True),
        (0.16, False, False),
        (0.16, True, True),
        (0.10, True, True),
        (0.09, True, False),
        (float("nan"), False, False),
        (1.0, False, True),
    ],
)
def test_it_begins_at_the_upper_threshold_and_goes_on_to_the_lower(share, begun, free):
    ledger = Ledger.of(done("a", 700, verb="note")) if begun else Ledger()
    assert bool(texts(hysteresis, turn(ledger=ledger), wanted(one=case(share=share)))) is not free


def test_an_act_for_another_incident_or_scheduler_begins_nothing():
    for more in ({"incident": "other"}, {"scheduler": "ray"}):
        ledger = Ledger.of(done("a", 700, verb="note", **more))
        assert "wants 1.2 (hysteresis.enter_ratio)" in texts(
            hysteresis, turn(ledger=ledger), wanted(one=case(share=0.12))
        )


def test_what_is_broken_has_no_ratio():
    broken = case(condition="gpu-off-bus", share=0.0)
    assert not texts(hysteresis, turn(), wanted(one=broken)) and not is_healthy(policy(), broken)


@pytest.mark.parametrize(
    ("more", "over"), [({"healthy": True}, True), ({"share": 0.08}, True), ({"share": 0.12}, False)]
)
def test_over_is_what_is_below_the_lower_threshold(more, over):
    assert is_healthy(policy(), case(**more)) is over
