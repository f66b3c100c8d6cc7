from pathlib import Path
from runpy import run_path

import pytest

from skewscope.policy.alarms import alarms

WORLD = run_path(str(Path(__file__).with_name("_world.py")))
around, policy, texts, turn, wanted = (WORLD[name] for name in "around policy texts turn wanted".split())


def said(*burning, **told):
    return texts(alarms, turn(policy(alarms=told), around=around(alarms=burning)), wanted("note"))


def alarm(name, severity="critical", **more):
    return {"alertname": name, "severity": severity, **more}


def test_a_critical_alarm_of_others_holds_everything():
    assert said(alarm("PowerLost"), alarm("FabricDown")) == "alarms burn: FabricDown, PowerLost (alarms.block)"
    assert said(*(alarm(f"A{at}") for at in range(5))).startswith("alarms burn: A0, A1, A2 and 2 more")


@pytest.mark.parametrize("one", [alarm("DiskFull", "warning"), alarm("SkewscopeJobGpuHoursLost"),
                                 alarm("NodeDown", instance="n3:9100"), alarm("NodeDown", node="n3")])  # fmt: skip
def test_lesser_ones_our_own_and_those_of_the_node_do_not(one):
    assert not said(one)


def test_what_blocks_is_the_operators_to_say():
    assert said(alarm("NodeDown", node="n3"), same_node_counts=True)
    assert said(alarm("DiskFull", "warning"), block=[{"alertname": "Disk*"}])
    assert not said(alarm("PowerLost"), block=[]) and not said(alarm("PowerLost"), block=[{}])
