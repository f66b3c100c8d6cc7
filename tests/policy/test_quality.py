from pathlib import Path
from runpy import run_path

import pytest

from skewscope.policy.ledger import Ledger
from skewscope.policy.quality import quality

WORLD = run_path(str(Path(__file__).with_name("_world.py")))
ago, around, case, fleet, record, texts, turn, wanted = (
    WORLD[name] for name in "ago around case fleet record texts turn wanted".split()
)


@pytest.mark.parametrize(
    ("one", "world", "says"),
    [
        ({"doubt": "clocks of n3 are 40 ms apart"}, {}, "clocks of n3 are 40 ms apart"),
        ({}, {"around": {"doubt": "no target answers"}}, "no target answers"),
        ({"seen_ns": -1}, {}, "or nobody knows its time"),
        ({"seen_ns": ago(121)}, {}, "the finding is older than 120 s"),
        ({"seen_ns": ago(-6)}, {}, "the finding lies in the future"),
        ({}, {"fleet": {"read_s": 61}}, "what slurm said is older than 60 s"),
        ({}, {"fleet": {"read_s": -61}}, "what slurm said lies in the future"),
        ({}, {"fleet": {"complete": False}}, "could not list all its nodes"),
        ({}, {"ledger": [record("held", "a", -121)]}, "the clock went back"),
    ],
)
def test_without_trusted_fresh_data_nothing_is_done(one, world, says):
    at = turn(around=around(**world.get("around", {})), fleet=fleet(**world.get("fleet", {})),
              ledger=Ledger.of(world.get("ledger", [])))  # fmt: skip
    assert says in texts(quality, at, wanted(one=case(**one)))


def test_fresh_data_will_do():
    assert not texts(quality, turn(), wanted())
    within_the_turn = Ledger.of([record("held", "a", -20)])
    assert not texts(quality, turn(fleet=fleet(read_s=-20), ledger=within_the_turn), wanted())
    assert not texts(quality, turn(fleet=fleet(complete=False)), wanted("note"))
