import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from skewscope.analysis import analyze
from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources import gather
from skewscope.sources.torch_trace import TorchTrace

drawn = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

SHARED = Path(__file__).parents[3] / "shared/data/tlparse-multirank-logs"
HEAD = "V0728 21:43:59.834000 28009 torch/_dynamo/utils.py:1931] "
EVENT = (
    HEAD + '{{"chromium_event": {{}}, "rank": 0, "has_payload": "db2f"}}\n'
    '\t{{\n\t"name": "{name}",\n\t"ts": {ts},\n\t"args": {{"compile_id": "0/0"}},\n\t"ph": "{ph}"\n\t}}\n'
)
SCHEDULE = (
    HEAD + '{"artifact": {"name": "inductor_collective_schedule", "encoding": "json"}, "rank": 0, "frame_id": 0, '
    '"frame_compile_id": 2, "attempt": 1, "has_payload": "e2"}\n'
    '\t["torch.ops._c10d_functional.all_reduce_.default", "torch.ops._c10d_functional.wait_tensor.default",\n'
    '\t"torch.ops._c10d_functional.all_gather_into_tensor.default"]\n'
)


def event(name, ts, ph):
    return EVENT.format(name=name, ts=ts, ph=ph)


def read(tmp_path, text):
    path = tmp_path / "dedicated_log_torch_trace_rank_3_x.log"
    path.write_text(text)
    assert TorchTrace().sniff(text.encode(), "") > 0.9
    reading = TorchTrace().read(path)
    return reading, frame(*reading.batches[0])


def test_schedules_and_compilations_become_events(tmp_path):
    begin, end = event("entire_frame_compile", 1.5e15, "B"), event("entire_frame_compile", 1.5e15 + 2.5e6, "E")
    _, rows = read(tmp_path, begin + event("other", 1.5e15 + 1e6, "B") + SCHEDULE + "noise\n" + end)
    assert rows[["t_ns", "event", "code", "message"]].values.tolist() == [
        [1500000001000000000, "compile-schedule", 3, "graph 0_2_1: all_reduce, all_gather_into_tensor"],
        [1500000002500000000, "compile", 2500, "compiling frame 0/0 took 2.50 s"],
    ]


def test_a_torn_payload_is_left_out(tmp_path):
    torn = event("entire_frame_compile", 1.5e15, "B").replace('"ph"', "")
    _, rows = read(tmp_path, torn + SCHEDULE + HEAD + '{"artifact": ')
    assert rows["t_ns"].tolist() == [-1] and rows["event"].tolist() == ["compile-schedule"]


def test_nothing_compiled_is_unreadable(tmp_path):
    with pytest.raises(Unreadable):
        read(tmp_path, event("dynamo", 1.5e15, "B"))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the recordings are not here")
def test_the_recorded_ranks_compiled_other_schedules():
    events = gather([SHARED], workers=1).tables["events"]
    told = events[(events["event"] == "compile-schedule").to_numpy()]
    first = told[told["message"].str.startswith("graph 0_0_0:").to_numpy()]
    assert dict(zip(first["device"], first["code"], strict=True)) == {"rank0": 6, "rank1": 4, "rank2": 6}
    assert (told["t_ns"] > 1_753_000_000 * 10**9).all()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the recordings are not here")
def test_the_rank_that_compiled_otherwise_is_told():
    found = analyze(gather([SHARED], workers=1), only=("coll-desync", "coll-hang", "coll-missing-rank")).findings
    assert [(one.condition, one.role) for one in found] == [("coll-desync", "context")]
    assert found[0].summary.startswith("graph 0_0_0 of rank1 calls all_reduce") and "2 other ranks" in found[0].summary


COLLECTIVES = ["all_reduce", "all_gather_into_tensor", "wait_tensor", "reduce_scatter_tensor"]


@drawn
@example([(0, 1, [])])
@given(st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 10**8), st.lists(st.sampled_from(COLLECTIVES))),
                min_size=1, max_size=4))  # fmt: skip
def test_frames_and_schedules_come_back_in_their_order(tmp_path, told):
    """Between the beginning and the end of each compiled frame stands a schedule, which has the time of the former."""
    text, want, now_us = "", [], 15 * 10**14
    for wait_us, took_us, names in told:
        now_us += wait_us
        operations = json.dumps([f"torch.ops._c10d_functional.{name}.default" for name in names], indent="\t")
        text += event("entire_frame_compile", now_us, "B") + SCHEDULE[: SCHEDULE.index("\n") + 1]
        text += "".join(f"\t{line}\n" for line in operations.split("\n")) + "another line\n"
        listed = ", ".join(name for name in names if name != "wait_tensor") or "no collective"
        want.append((now_us * 1000, "compile-schedule", len(names), f"graph 0_2_1: {listed}"))
        now_us += took_us
        text += event("entire_frame_compile", now_us, "E")
        took = f"compiling frame 0/0 took {took_us / 1e6:.2f} s"
        want.append((now_us * 1000, "compile", took_us // 1000, took))
    reading, rows = read(tmp_path, text)
    assert list(rows[["t_ns", "event", "code", "message"]].itertuples(index=False, name=None)) == want
    assert reading.status == "ok"


def test_a_torn_schedule_is_not_one_without_collectives(tmp_path):
    whole = event("entire_frame_compile", 1.5e15, "B") + event("entire_frame_compile", 1.6e15, "E")
    for torn in (SCHEDULE[:-20], SCHEDULE[: SCHEDULE.index("\n") + 1]):
        _, rows = read(tmp_path, whole + torn)
        assert rows["event"].tolist() == ["compile"]
    assert read(tmp_path, whole + SCHEDULE[:-20])[0].status == "partial"
