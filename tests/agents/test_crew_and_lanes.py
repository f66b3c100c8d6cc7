from __future__ import annotations

import threading
import time
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

from skewscope.catalogue import load
from skewscope.contracts import Place
from skewscope.errors import UsageError

fakes = SimpleNamespace(**run_path(str(Path(__file__).with_name("_collectors.py"))))
crew, lanes = load("agents.crew"), load("agents.lanes")


def wait_for(true, within_s=5.0):
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


def test_every_end_of_a_run_is_an_outcome():
    rooms = fakes.rooms(good=fakes.Good, empty=fakes.Empty, failing=fakes.Failing)
    ran = {name: crew.Crew(rooms, Place()).run(name) for name in rooms}
    assert {name: outcome.state for name, outcome in ran.items()} == {
        "good": crew.OK, "empty": crew.NO_DATA, "failing": crew.FAILED,
    }  # fmt: skip
    assert ran["empty"].reason == "no such hardware here" and ran["failing"].reason == "OSError: I/O error"
    assert ran["good"].series == 1 and not ran["failing"].block


def test_a_collector_that_cannot_be_made_fails_alone():
    class Broken(fakes.Good):
        def __init__(self, place):
            raise RuntimeError("no")

    assert crew.Crew(fakes.rooms(broken=Broken), Place()).run("broken").reason == "RuntimeError: no"


def test_collectors_are_chosen_by_name_and_taken_away_with_a_dash():
    everything = crew.collectors()
    assert set(crew.collectors(["rdma", "tcp"])) == {"rdma", "tcp"}
    assert set(everything) - set(crew.collectors(["-rdma"])) == {"rdma"}
    with pytest.raises(UsageError, match="did you mean rdma"):
        crew.collectors(["rdna"])


def test_a_thread_lane_runs_a_turn_in_order_and_wakes_its_owner():
    woken = threading.Event()
    lane = lanes.ThreadLane(fakes.rooms(a=fakes.Good, b=fakes.Failing, c=fakes.Good), Place(), 100, woken.set)
    assert lane.start(["a", "b", "c"])
    assert woken.wait(5)
    assert [(one.collector, one.state) for one in lane.outcomes()] == [("a", "ok"), ("b", "failed"), ("c", "ok")]
    assert lane.busy() is None
    lane.stop()


def test_a_collector_that_takes_long_is_overtaken_and_its_answer_is_taken_when_it_comes():
    fakes.Hanging.let_go.clear()
    lane = lanes.ThreadLane(fakes.rooms(a=fakes.Good, stuck=fakes.Hanging, z=fakes.Good), Place(), 100, lambda: None)
    lane.start(["a", "stuck", "z"])
    wait_for(lambda: (busy := lane.busy()) and busy.collector == "stuck")
    assert not lane.start(["a"])  # a turn is going on
    now_s = time.monotonic()
    assert lane.hurry(now_s, 10.0, 60.0) == [] and lane.busy().collector == "stuck"
    lane.hurry(now_s + 11, 10.0, 60.0)
    wait_for(lambda: lane.busy() is None)
    assert [(one.collector, one.state) for one in lane.outcomes()] == [("a", "ok"), ("z", "ok")]
    assert lane.start(["a", "stuck"])  # it is not started twice
    wait_for(lambda: lane.busy() is None)
    fakes.Hanging.let_go.set()
    wait_for(lambda: not lane._overtaken)
    assert [(one.collector, one.state) for one in lane.outcomes()] == [("a", "ok"), ("stuck", "ok")]
    lane.stop()


def test_a_hanging_collector_is_given_up_and_the_others_go_on():
    fakes.Hanging.let_go.clear()
    lane = lanes.ThreadLane(fakes.rooms(a=fakes.Good, stuck=fakes.Hanging, z=fakes.Good), Place(), 100, lambda: None)
    lane.start(["a", "stuck", "z"])
    wait_for(lambda: (busy := lane.busy()) and busy.collector == "stuck")
    lane.hurry(time.monotonic() + 61, 10.0, 60.0)
    wait_for(lambda: lane.busy() is None)
    told = sorted((one.collector, one.state) for one in lane.outcomes())
    assert told == [("a", "ok"), ("stuck", "hung"), ("z", "ok")]
    assert lane.start(["stuck", "z"])  # the one that hangs is left out as long as it hangs
    wait_for(lambda: lane.busy() is None)
    assert [one.collector for one in lane.outcomes()] == ["z"]
    fakes.Hanging.let_go.set()
    wait_for(lambda: not lane._away)
    assert not lane.outcomes()  # what it says now is too old
    lane.start(["stuck"])
    wait_for(lambda: lane.busy() is None)
    assert [(one.collector, one.state) for one in lane.outcomes()] == [("stuck", "ok")]
    lane.stop()


def test_a_stopped_lane_has_done_with_its_collectors():
    class Slow(fakes.Good):
        done = threading.Event()

        def collect(self):
            time.sleep(0.2)
            self.done.set()
            return []

    lane = lanes.ThreadLane(fakes.rooms(slow=Slow), Place(), 100, lambda: None)
    lane.start(["slow"])
    wait_for(lambda: lane._running)
    lane.stop()
    assert Slow.done.is_set() and not lane._worker.is_alive()


def test_a_lane_that_was_stopped_starts_nothing():
    lane = lanes.ThreadLane(fakes.rooms(a=fakes.Good), Place(), 100, lambda: None)
    lane.stop()
    assert not lane.start(["a"])
