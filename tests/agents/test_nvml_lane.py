from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skewscope.catalogue import load

worker, crew = load("agents.nvml_worker"), load("agents.crew")
BLOCK = {"skewscope_nvml_hung": (b"skewscope_nvml_hung 1\n",) * 2, "skewscope_gpu_info": ('a{m="é"} 1\n'.encode(),) * 2}
OUTCOME = crew.Outcome("nvml-device", crew.OK, 0.25, "", BLOCK, 2, 0)


def test_an_outcome_comes_through_the_pipe_as_it_was():
    sent = worker.frame(OUTCOME, {"gpus": [{"slot": 0}]}) + worker.END
    for cut in (1, 7, 60, len(sent) - 1):
        buffer = bytearray(sent[:cut])
        former = {}
        got = list(worker.frames(buffer, former))
        buffer += sent[cut:]
        got += list(worker.frames(buffer, former))
        assert got == [(OUTCOME, {"gpus": [{"slot": 0}]}), None] and not buffer


@given(st.binary(max_size=300))
def test_nonsense_on_the_pipe_is_an_error_or_not_whole_yet(noise: bytes):
    buffer = bytearray(noise)
    try:
        list(worker.frames(buffer, {}))
    except (ValueError, KeyError, TypeError, AttributeError):
        pass


def test_a_frame_of_impossible_size_is_refused_before_it_is_waited_for():
    with pytest.raises(ValueError, match="a frame of"):
        list(worker.frames(bytearray(struct.pack("<II", 1 << 31, 0)), {}))


def test_only_news_of_the_board_is_told_and_private_names_stay():
    told: dict[str, str] = {}
    board = {"gpus": [1], "_devices": object(), "calling": print, "without": frozenset()}
    assert worker._news(board, told) == {"gpus": [1]}
    assert worker._news(board, told) == {}
    board["gpus"] = [1, 2]
    assert worker._news(board, told) == {"gpus": [1, 2]}


def test_the_call_that_runs_is_noted_in_shared_memory():
    import mmap

    memory = mmap.mmap(-1, mmap.PAGESIZE)
    calling = worker.noting(memory)
    calling(3, "nvmlDeviceGetFieldValues")
    start_ns, slot, call = worker.CALLING.unpack_from(memory)
    assert start_ns > 0 and slot == 3 and call.rstrip(b"\0") == b"nvmlDeviceGetFieldValues"


def test_requests_are_answered_collector_by_collector(tmp_path):
    import io

    from skewscope.contracts import Place

    answers = io.BytesIO()
    calls = []
    fake = load("agents.fake_nvml").FakeNvml(gpus=2)
    place = Place(nvml=fake, board={"calling": lambda slot, call: calls.append((slot, call)), "gpus": []})
    request = json.dumps({"due": ["nvml-device", "nvml-info"], "without": [1]}).encode() + b"\n"
    worker.serve(io.BytesIO(request), answers, place)
    got = list(worker.frames(bytearray(answers.getvalue()), {}))
    assert [outcome.collector for outcome, _ in got[:-1]] == ["nvml-device", "nvml-info"] and got[-1] is None
    text = got[0][0].block["skewscope_gpu_utilization_ratio"][0]
    assert b'gpu="0"' in text and b'gpu="1"' not in text  # that one is left out
    assert calls[-1] == (-1, "")


def test_families_that_did_not_change_are_not_sent_again():
    former = {}
    first, again = worker.frame(OUTCOME, {}), worker.frame(OUTCOME, {}, OUTCOME.block)
    assert len(again) < len(first) - 40
    got = list(worker.frames(bytearray(first + again), former))
    assert got[0][0].block is got[1][0].block and got[1][0].block == BLOCK
    lines = (b"skewscope_nvml_hung 0\n",) * 2
    changed = crew.Outcome("nvml-device", crew.OK, 0.25, "", {"skewscope_nvml_hung": lines}, 1, 0)
    sent = worker.frame(changed, {}, OUTCOME.block)
    assert b"m=" not in sent  # neither changed nor there any more
    assert next(worker.frames(bytearray(sent), former))[0].block == changed.block


def test_the_limit_of_series_holds_in_the_drivers_process_too():
    import io

    from skewscope.contracts import Place

    answers = io.BytesIO()
    place = Place(nvml=load("agents.fake_nvml").FakeNvml(gpus=2), board={"calling": lambda slot, call: None})
    worker.serve(io.BytesIO(b'{"due": ["nvml-device"]}\n'), answers, place, 5)
    outcome, _ = next(worker.frames(bytearray(answers.getvalue()), {}))
    assert outcome.series == 5 and outcome.dropped > 0


def test_hangs_are_forgiven_in_time_and_handed_on():
    from skewscope.contracts import Place

    nvml_lane = load("agents.nvml_lane")
    lane = nvml_lane.NvmlLane(Place())
    lane._strike(3, 0.0)
    lane._strike(3, 61.0)
    assert lane._strikes[3] == (2, 61.0 + 2 * nvml_lane.RETRY_GPU_S)
    other = nvml_lane.NvmlLane(Place())
    other.take_over(lane)
    assert other._strikes == lane._strikes and other._strikes is not lane._strikes
    later_s = lane._strikes[3][1] + nvml_lane.FORGIVEN_S + 1
    lane._strike(3, later_s)
    assert lane._strikes[3] == (1, later_s + nvml_lane.RETRY_GPU_S)
    lane.stop()
    other.stop()


def test_a_driver_that_stays_broken_for_days_does_not_end_the_agent():
    from skewscope.contracts import Place

    lane = load("agents.nvml_lane").NvmlLane(Place())
    for _ in range(3000):
        lane._wait_before_start(first_s=1.0)
    assert lane._may_start_s > 0
    lane.stop()
