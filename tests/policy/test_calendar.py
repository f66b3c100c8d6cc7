from pathlib import Path
from runpy import run_path

from skewscope.policy.calendar import calendar

WORLD = run_path(str(Path(__file__).with_name("_world.py")))
around, policy, texts, turn, wanted = (WORLD[name] for name in "around policy texts turn wanted".split())


def said(stopped="", **told):
    return texts(calendar, turn(policy(calendar=told), around=around(stopped=stopped)), wanted("note"))


def test_without_windows_any_time_will_do():
    assert not said()


def test_acts_only_within_windows():
    assert not said(windows=["Sat-Sun 00:00-24:00", "Mon 11:00-13:00"])
    assert said(windows=["Mon 13:00-14:00"]) == "Mon 12:00 lies in no window: Mon 13:00-14:00 (calendar.windows)"


def test_never_while_frozen():
    assert said(windows=["Mon 11:00-13:00"], freezes=["2025-06-16 00:00/2025-06-17 00:00"]).startswith(
        "frozen: 2025-06-16"
    )


def test_the_zone_counts():
    assert not said(windows=["Mon 14:00-15:00"], timezone="Europe/Berlin")


def test_the_kill_switch_stops_everything():
    assert said("/run/stop exists") == "everything is stopped: /run/stop exists"
