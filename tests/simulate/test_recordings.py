import json

import pytest

from skewscope.analysis import analyze
from skewscope.errors import UsageError
from skewscope.simulate import simulate
from skewscope.simulate.calls import recording
from skewscope.simulate.flight_recorder import dumps
from skewscope.simulate.kineto import traces
from skewscope.simulate.scenario import parse
from skewscope.sources import gather


def made(condition="gpu-slow-silent", **job):
    fault = {"condition": condition, "target": "job/rank5", "onset": 0.5}
    if condition == "gpu-slow-silent":
        fault |= {"severity": 0.25, "shape": "steady"}
    return simulate(parse({"jobs": [{"ranks": 16, "steps": 100, "tp": 1, **job}], "faults": [fault]}, "small"), 3)


def findings(folder):
    return analyze(gather([folder])).findings


def write(folder, documents):
    for name, document in documents:
        (folder / name).write_text(json.dumps(document))
    return folder


def test_traces_name_the_slow_rank(tmp_path):
    simulation = made()
    found = findings(write(tmp_path, traces(recording(simulation), simulation.world.scenario.start_ns)))
    culprits = [one for one in found if one.role == "culprit"]
    assert [(one.condition, one.subject.rank) for one in culprits] == [("coll-late-rank", 5)]
    truth = simulation.truth["faults"][0]
    assert culprits[0].lost_s == pytest.approx(truth["lost_s_per_step"], rel=0.25)  # the last steps only


def test_flight_recorder_dumps_name_the_late_rank(tmp_path):
    simulation = made()
    found = findings(write(tmp_path, dumps(recording(simulation), simulation.world.scenario.start_ns)))
    assert ("coll-late-rank", 5) in [(one.condition, one.subject.rank) for one in found if one.role == "culprit"]


def test_dumps_of_a_stopped_job_name_the_missing_rank(tmp_path):
    simulation = made("host-process-stuck", tp=2)
    found = findings(write(tmp_path, dumps(recording(simulation), simulation.world.scenario.start_ns)))
    assert ("coll-missing-rank", 5) in [(one.condition, one.subject.rank) for one in found if one.role == "culprit"]


def test_calls_end_when_the_step_ends():
    simulation = made()
    run, told = simulation.runs[0], recording(simulation)
    for call in told.calls:
        assert call.end == pytest.approx(
            run.start_s[call.step] + run.seconds[call.step] - run.detail["checkpoint"][call.step, 0]
        )


def test_what_cannot_be_recorded_says_why():
    with pytest.raises(UsageError, match="without a pipeline"):
        recording(made(pp=2))
