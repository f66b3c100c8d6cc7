import json
from pathlib import Path
from runpy import run_path

import jsonschema
import pytest

from skewscope.acting.replay import nobody, play
from skewscope.acting.replay_page import Compared, document
from skewscope.policy.settings import Policy
from skewscope.reports import replay_schema
from skewscope.retest.document import line

TESTS = Path(__file__).parents[1]


def test_results_of_re_tests_fit():
    made = run_path(str(TESTS / "retest/_results.py"))["healthy"](
        devices=2, failures=("x",), verdict="fail", why=("y",)
    )
    jsonschema.validate(json.loads(line(made)), replay_schema.retest())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**made.document(), "verdict": "fine"}, replay_schema.retest())


@pytest.mark.parametrize("known", [True, False])
def test_replays_fit(known):
    from dataclasses import replace

    made = run_path(str(TESTS / "acting/_weeks.py"))
    week = replace(made["week"](made["slow"](), hours=4.0), is_known=known)
    bold = {"mode": "act", "ladder": {"start": "drain"}, "work": {"evict": True}, "budget": {"nodes_per_group": 9}}
    told = document([week], [Compared([play("mine", Policy.parse(bold), week)], [nobody(week)])])
    assert told["policies"][0]["deeds"]
    jsonschema.validate(told, replay_schema.replay())
