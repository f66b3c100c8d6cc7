"""Profiles of XLA: made ones in both forms, by the published schema, with the same events."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from runpy import run_path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources import gather
from skewscope.sources._jax_collectives import payload
from skewscope.sources.jax_trace import JaxTrace
from skewscope.sources.kineto import Kineto

PROTOBUF = run_path(str(Path(__file__).with_name("_protobuf.py")))
field = PROTOBUF["field"]

STARTED_NS = 1_790_857_026_000_000_000
TEXT = "%all-reduce-start.2 = f32[1024]{0} all-reduce-start(f32[1024]{0} %p), replica_groups={{0,1}}"
# name, start and length in us, text of the operation
OPS = [
    ("while.1", 100, 700, ""), ("fusion.1", 100, 200, ""), ("all-reduce-start.2", 300, 1, TEXT),
    ("fusion.3", 301, 300, ""), ("all-reduce-done.2", 601, 199, ""), ("copy.4", 800, 50, ""),
]  # fmt: skip


def lanes(steps: bool = True) -> dict[tuple[str, str], list[tuple[str, float, float, dict[str, Any]]]]:
    """Return the events of two TPU cores, the second 40 us late, in two steps of 1 ms; times in us."""
    found: dict[tuple[str, str], list[Any]] = {}
    for device in range(2):
        place = f"/device:TPU:{device}"
        ops = found.setdefault((place, "XLA Ops"), [])
        for step in range(2):
            for name, start, length, text in OPS:
                told = {"long_name": text, "hlo_op": name} if text else {"hlo_op": name}
                ops.append((name, 1000 * step + start + 40 * device, length, told))
            if steps:
                found.setdefault((place, "Steps"), []).append((str(step + 7), 1000 * step + 90, 900, {}))
            found.setdefault((place, "XLA Modules"), []).append(("jit_train_step(123)", 1000 * step + 95, 800, {}))
    found["/host:CPU", "python"] = [("$main.py:3 run", 0, 2000, {}), ("PjitFunction(train_step)", 50, 20, {})]
    return found


def chrome(events: dict[Any, Any]) -> bytes:
    made: list[dict[str, Any]] = []
    pids = {place: pid for pid, place in enumerate(dict.fromkeys(place for place, _ in events), start=3)}
    for place, pid in pids.items():
        made.append({"ph": "M", "pid": pid, "name": "process_name", "args": {"name": place}})
    for tid, ((place, lane), rows) in enumerate(events.items()):
        made.append({"ph": "M", "pid": pids[place], "tid": tid, "name": "thread_name", "args": {"name": lane}})
        made += [{"ph": "X", "pid": pids[place], "tid": tid, "ts": ts, "dur": dur, "name": name, "args": args}
                 for name, ts, dur, args in rows]  # fmt: skip
    told = {"displayTimeUnit": "ns", "metadata": {"highres-ticks": True}, "traceEvents": [*made, {}]}
    return json.dumps(told, separators=(",", ":")).encode()


def xplane(events: dict[Any, Any]) -> bytes:
    """Return an XSpace with one plane per device, names as metadata, and the time at which the profile began."""
    space = b""
    for place in dict.fromkeys(place for place, _ in events):
        plane, names = field(2, place), {}
        stats = {"hlo_op": 1, "long_name": 2, "step_num": 3}
        for number, ((_, lane), rows) in enumerate((key, rows) for key, rows in events.items() if key[0] == place):
            line = [field(1, number + 1) + field(2, lane) + field(3, 0)]
            for name, ts, dur, args in rows:
                key = names.setdefault((name, args.get("long_name", "")), len(names) + 1)
                told = b"".join(field(4, field(1, stats[one]) + field(5, str(value))) for one, value in args.items()
                                if one != "long_name")  # fmt: skip
                line.append(field(4, field(1, key) + field(2, int(ts * 1e6)) + field(3, int(dur * 1e6)) + told))
            plane += field(3, b"".join(line))
        for (name, text), key in names.items():
            plane += field(4, field(1, key) + field(2, field(1, key) + field(2, text or name) + field(4, name)))
        for name, key in stats.items():
            plane += field(5, field(1, key) + field(2, field(1, key) + field(2, name)))
        space += field(1, plane)
    began = field(5, field(1, 1) + field(2, field(1, 1) + field(2, "profile_start_time")))
    space += field(1, field(2, "Task Environment") + began + field(6, field(1, 1) + field(3, STARTED_NS)))
    return space + field(4, "tpu-vm-0")


def tables(reading: Any) -> dict[str, pd.DataFrame]:
    found: dict[str, list[pd.DataFrame]] = {}
    for name, columns in reading.batches:
        found.setdefault(name, []).append(frame(name, columns))
    return {name: pd.concat(frames) for name, frames in found.items()}


@pytest.fixture(params=["json", "xplane"])
def profile(request, tmp_path):
    """Return the same profile in both forms."""
    is_json = request.param == "json"
    path = tmp_path / ("tpu-vm-0.trace.json.gz" if is_json else "tpu-vm-0.xplane.pb")
    path.write_bytes(gzip.compress(chrome(lanes())) if is_json else xplane(lanes()))
    return path, 0 if is_json else STARTED_NS


def test_devices_are_ranks_with_steps_operations_and_paired_collectives(profile):
    path, base = profile
    reading = JaxTrace().read(path)
    found = tables(reading)
    steps = found["steps"].sort_values(["rank", "step"])
    assert steps[["rank", "step"]].to_numpy().tolist() == [[0, 7], [0, 8], [1, 7], [1, 8]]
    assert (steps["end_ns"] - steps["start_ns"]).tolist() == [900_000] * 4
    assert steps["start_ns"].iloc[0] == base + 90_000
    calls = found["collectives"].sort_values(["rank", "seq"])
    assert calls["op"].tolist() == ["all_reduce"] * 4
    assert calls["seq"].tolist() == [0, 1, 0, 1]
    assert calls["step"].tolist() == [7, 8, 7, 8]
    assert calls["ready_ns"].tolist()[::2] == [base + 300_000, base + 340_000], "the second core comes 40 us later"
    assert (calls["end_ns"] - calls["start_ns"]).tolist() == [500_000] * 4, "from the start to the end of the done"
    assert set(calls["message_bytes"]) == {4096}
    assert set(calls["group"]) == {"all"}
    ops = found["ops"]
    assert sorted(set(ops["name"])) == ["copy.4", "fusion.1", "fusion.3"], "control flow only holds others"
    assert int((ops["end_ns"] - ops["start_ns"]).sum()) == 4 * 550_000


def test_detail_has_host_calls_and_device_work(profile):
    found = tables(JaxTrace().read_detail(profile[0]))
    calls = found["operators"][found["operators"]["rank"] == 0]
    run = calls[calls["name"] == "$main.py:3 run"].iloc[0]
    inner = calls[calls["name"] == "PjitFunction(train_step)"].iloc[0]
    assert (run["kind"], inner["kind"], inner["parent"]) == ("python", "operator", run["call"])
    assert found["device_work"]["kind"].value_counts().to_dict() == {"kernel": 12, "communication": 4}


def test_without_marks_the_runs_of_the_program_are_steps(tmp_path):
    path = tmp_path / "a.trace.json"
    path.write_bytes(chrome(lanes(steps=False)))
    reading = JaxTrace().read(path)
    assert tables(reading)["steps"]["step"].tolist() == [0, 1, 0, 1]
    assert any("no number" in line for line in reading.warnings)


def test_steps_of_annotations_on_the_host(tmp_path):
    events = lanes(steps=False)
    events["/host:CPU", "python"] += [("train", 90, 900, {"step_num": "3"}), ("train", 1090, 900, {"step_num": "4"})]
    path = tmp_path / "a.trace.json"
    path.write_bytes(chrome(events))
    assert sorted(set(tables(JaxTrace().read(path))["steps"]["step"])) == [3, 4]


def test_gpu_kernels_of_nccl_are_named_by_their_operation(tmp_path):
    kernel = ("ncclDevKernel_Generic(x)", 100, 50, {"hlo_op": "all-gather-start.1", "hlo_module": "jit_f"})
    rows = {
        ("/device:GPU:0", "Stream #14(Kernel)"): [kernel, ("fusion", 10, 20, {"hlo_op": "fusion"})],
        ("/device:GPU:0", "XLA Ops"): [("all-gather-start.1", 100, 50, {})],
        ("/device:GPU:0", "Stream #15(MemcpyD2H)"): [("MemcpyD2H", 160, 5, {"memcpy_details": "size:8"})],
    }
    path = tmp_path / "a.trace.json"
    path.write_bytes(chrome(rows))
    found = tables(JaxTrace().read(path))
    assert found["collectives"][["op", "stream"]].to_numpy().tolist() == [["all_gather", 14]]
    assert found["ops"][["op", "stream"]].to_numpy().tolist() == [["kernel", 14], ["memcpy", 15]]


def test_bytes_and_members_of_hlo_texts():
    gathered = "%ag = bf16[8,128]{1,0} all-gather(bf16[2,128] %x), replica_groups=[2,4]<=[8], dimensions={0}"
    assert payload("all-gather.1", {"long_name": gathered}) == ("all_gather", "", 4, 8 * 128 * 2 // 4)
    scattered = "%rs = f32[16] reduce-scatter(f32[64] %x), replica_groups={{0,1,2,3}}"
    assert payload("reduce-scatter.1", {"long_name": scattered}) == ("reduce_scatter", "all", 4, 64 * 4)
    assert payload("fusion.1", None).op == ""


def test_hosts_are_numbered_on_and_two_files_of_a_host_count_once(tmp_path):
    (tmp_path / "vm-a.xplane.pb").write_bytes(xplane(lanes()))
    (tmp_path / "vm-a.trace.json.gz").write_bytes(gzip.compress(chrome(lanes())))
    (tmp_path / "vm-b.xplane.pb").write_bytes(xplane(lanes()))
    recording = gather([tmp_path], workers=1)
    assert sorted(set(recording.tables["steps"]["rank"])) == [0, 1, 2, 3]
    assert {Path(one.path).name: one.status for one in recording.inputs}["vm-a.trace.json.gz"] == "unreadable"


def test_it_takes_no_trace_of_pytorch_and_pytorch_gets_no_trace_of_xla(tmp_path):
    head = chrome(lanes())[:4096]
    assert JaxTrace().sniff(head, "x") > Kineto().sniff(head, "x") > 0
    torch = b'{"schemaVersion": 1, "deviceProperties": [], "traceEvents": [{"name": "/host:CPU"}'
    assert JaxTrace().sniff(torch, "x") == 0
    assert JaxTrace().sniff(xplane(lanes())[:4096], "x") == 0.9


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_cut_files_keep_what_is_whole(profile, share):
    path, _ = profile
    raw = path.read_bytes()
    text = gzip.decompress(raw) if path.suffix == ".gz" else raw
    path.write_bytes(text[: int(len(text) * share)])
    try:
        reading = JaxTrace().read(path)
    except Unreadable as error:
        assert share == 0.3, error
    else:
        assert reading.status == "partial"
        assert "copy the file again" in reading.error


@settings(max_examples=60)
@given(st.binary(max_size=400), st.integers(0, 2000), st.booleans())
def test_arbitrary_bytes_after_a_valid_head_never_crash(tmp_path_factory, noise, at, is_json):
    text = chrome(lanes()) if is_json else xplane(lanes())
    path = tmp_path_factory.mktemp("noise") / "x.bin"
    path.write_bytes(text[:at] + noise)
    try:
        for _, columns in JaxTrace().read_detail(path).batches:
            assert columns
    except Unreadable:
        pass


@pytest.mark.parametrize("text", [b'{"traceEvents": []}', b"{", struct.pack("<q", 7), b"\x0a\x02\x12\x00"])
def test_without_a_device_it_is_unreadable(tmp_path, text):
    path = tmp_path / "a.trace.json"
    path.write_bytes(text)
    with pytest.raises(Unreadable):
        JaxTrace().read(path)
