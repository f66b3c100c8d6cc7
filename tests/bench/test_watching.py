from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from skewscope import subjects
from skewscope.bench.truth import Truth
from skewscope.bench.watching import until, watch
from skewscope.catalogue import load
from skewscope.frames import frame

HERE = run_path(str(Path(__file__).with_name("conftest.py")))
make_fault, make_finding, GPU, EPOCH_NS = (HERE[name] for name in ("make_fault", "make_finding", "GPU", "EPOCH_NS"))
HEAT = "skewscope_gpu_temperature_celsius"
WINDOW_NS = 30_000_000_000


@pytest.fixture(scope="module")
def tables():
    fleet = load("detectors._live_worlds").Fleet(nodes=2, gpus=4, windows_count=20)
    fleet.put(HEAT, 93.0, labels="sensor=gpu", nodes=["n1"], devices=["gpu2"], since=9)
    return fleet.tables()


class Room:
    """Claims what was hot in so many windows; remembers what it was asked."""

    def __init__(self, need=3, other=()):
        self.need, self.other, self.asked = need, other, []

    def __call__(self, tables, only):
        rows = tables["windows"]
        self.asked.append((int(rows["t_ns"].max()), tuple(only)))
        hot = rows[(rows["metric"] == HEAT) & (rows["mean_value"] > 90)]
        found = [make_finding("gpu-hot", GPU, lost_s=0.01 * len(hot))] if len(hot) >= self.need else []
        return [*found, *self.other]


def onset(window):
    return make_fault(onset_ns=EPOCH_NS + window * WINDOW_NS + 1)


def watched(tables, fault, room, every=4):
    return watch(tables, Truth("s", 1, (fault,) if fault else ()), room, {}, every)


@pytest.mark.parametrize("every", [1, 2, 3, 4, 7, 20, 50])
def test_time_to_detect_is_that_of_a_look_at_every_window(tables, every):
    (caught,) = watched(tables, onset(9), Room(), every).caught
    assert caught.found and caught.blamed == "gpu-hot"
    assert caught.after_s == pytest.approx(90, abs=1)
    assert caught.after_steps == pytest.approx(180, abs=1)
    assert caught.lost_s == pytest.approx(0.11)


def test_rooms_never_see_the_future(tables):
    room = Room()
    watched(tables, onset(9), room)
    full = [end for end, only in room.asked if not only]
    assert full == sorted(full) and len(full) == 5
    assert [only for _, only in room.asked if only] == [("gpu-hot",)] * 2


def test_the_price_is_that_while_the_fault_lasted(tables):
    from dataclasses import replace

    fault = replace(onset(9), end_ns=EPOCH_NS + 16 * WINDOW_NS)
    (caught,) = watched(tables, fault, Room()).caught
    assert caught.lost_s == pytest.approx(0.07)


def test_a_claim_before_the_onset_is_a_false_alarm(tables):
    result = watched(tables, onset(13), Room())
    assert {alarm.outcome for alarm in result.alarms} == {"right", "wrong"}
    (caught,) = result.caught
    assert caught.found and caught.after_s == pytest.approx(30, abs=1)


def test_what_is_never_found(tables):
    (caught,) = watched(tables, onset(9), Room(need=99)).caught
    assert not caught.found and np.isnan(caught.after_s) and caught.blamed == ""
    elsewhere = make_finding("step-shift", subjects.job("llm"))
    result = watched(tables, onset(9), Room(need=99, other=(elsewhere,)))
    assert result.caught[0].blamed == "step-shift"
    hint = make_finding("gpu-hot", GPU, role="context")
    assert watched(tables, onset(9), Room(need=99, other=(hint,))).caught[0].seen


def test_a_healthy_fleet(tables):
    result = watched(tables, None, Room(need=99))
    assert (result.caught, result.alarms, result.nodes) == ((), (), 2)
    assert result.node_days == pytest.approx(2 * 600 / 86_400)
    alarms = watched(tables, None, Room()).alarms
    assert [(one.subject, one.outcome) for one in alarms] == [("n1/gpu2", "wrong")]


def test_tables_are_cut_by_when_their_rows_were_known():
    tables = {
        "events": frame("events", {"t_ns": [1, 9, -1], "event": ["a", "b", "c"]}),
        "steps": frame("steps", {"job": "j", "step": [0, 1], "rank": 0, "phase": "step", "start_ns": [0, 4],
                                 "end_ns": [4, 8]}),
        "ranks": frame("ranks", {"job": "j", "rank": [0, 1]}),
    }  # fmt: skip
    cut = until(tables, 5)
    assert cut["events"]["event"].tolist() == ["a", "c"]
    assert cut["steps"]["step"].tolist() == [0]
    assert len(cut["ranks"]) == 2


def test_what_is_told_by_steps_is_cut_by_the_times_of_steps():
    steps = {"job": ["a", "a", "b"], "step": [0, 1, 0], "start_ns": [0, 10, 0], "duration_ns": [10.0, 10.0, 30.0]}
    loads = {"job": ["a", "a", "b", "c"], "step": [0, 1, 0, 0], "layer": 0, "expert": 0, "rank": -1, "routed_tokens": 1}
    tables = {
        "step_times": frame("step_times", {**steps, "planned": False, "ranks_count": 1}),
        "expert_loads": frame("expert_loads", loads),
    }
    kept = until(tables, 19)["expert_loads"]
    assert list(zip(kept["job"], kept["step"], strict=True)) == [("a", 0)]
    assert len(until(tables, 30)["expert_loads"]) == 3 and len(until({"expert_loads": tables["expert_loads"]}, 0)) == 1
