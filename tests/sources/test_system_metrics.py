"""Files of experiment trackers: made by the published formats of W&B and TensorBoard, whole and damaged."""

from __future__ import annotations

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
from skewscope.sources._gather_read import read_one
from skewscope.sources._tfevents import masked
from skewscope.sources.system_metrics import SystemMetrics

PROTOBUF = run_path(str(Path(__file__).with_name("_protobuf.py")))
part, varint = PROTOBUF["field"], PROTOBUF["varint"]

BEGAN_S = 1_790_857_026


def events(rows: int = 3) -> list[dict[str, Any]]:
    """Return what W&B's monitor writes: GPU 1 is idle, two processors are busy by 25 and 75 %."""
    return [
        {
            "system.gpu.0.gpu": 97.0, "system.gpu.0.memory": 40, "system.gpu.0.memoryAllocated": 61.5,
            "system.gpu.0.memoryAllocatedBytes": 52_000_000_000, "system.gpu.0.temp": 66,
            "system.gpu.0.powerWatts": 411.5, "system.gpu.1.gpu": 0, "system.gpu.process.0.gpu": 97.0,
            "system.cpu": 12.5, "system.cpu.0.cpu_percent": 25.0, "system.cpu.1.cpu_percent": 75.0,
            "system.network.sent": 1000 * row, "system.disk.in": 2.0, "system.proc.cpu.threads": 61.0,
            "_wandb": True, "_timestamp": BEGAN_S + 10 * row, "_runtime": 10.0 * row,
        }
        for row in range(rows)
    ]  # fmt: skip


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(rows: list[dict[str, Any]]) -> str:
    return pd.DataFrame(rows).to_csv(index=False)


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def tables(path: Path) -> tuple[Any, dict[str, pd.DataFrame]]:
    reading = SystemMetrics().read(path)
    return reading, {name: frame(name, columns) for name, columns in reading.batches}


@pytest.mark.parametrize("form", [lines, json.dumps, table], ids=["jsonl", "json", "csv"])
def test_metrics_of_wandb_in_all_its_forms(tmp_path, form):
    write(tmp_path, "wandb-metadata.json", json.dumps({"host": "node7", "python": "3.11"}))
    path = write(tmp_path, "wandb-events.txt", form(events()))
    assert SystemMetrics().sniff(path.read_bytes()[:4096], path.name) == 0.92
    reading, found = tables(path)
    assert (reading.status, reading.node) == ("ok", "node7")
    rows = found["samples"].set_index(["metric", "labels", "device", "t_ns"])["value"]
    second = (BEGAN_S + 20) * 10**9
    assert rows["skewscope_gpu_utilization_ratio", "", "gpu0", second] == pytest.approx(0.97)
    assert rows["skewscope_gpu_memory_activity_ratio", "", "gpu0", second] == pytest.approx(0.4)
    assert rows["skewscope_gpu_memory_used_bytes", "", "gpu0", second] == 52e9
    assert rows["skewscope_gpu_temperature_celsius", "sensor=gpu", "gpu0", second] == 66
    assert rows["skewscope_gpu_power_watts", "kind=average", "gpu0", second] == 411.5
    assert rows["skewscope_gpu_utilization_ratio", "", "gpu1", second] == 0
    assert rows["skewscope_ethernet_transmit_bytes_total", "", "all", second] == 2000
    assert rows["skewscope_disk_bytes_total", "direction=read", "all", second] == 2 * 2**20
    assert rows["skewscope_host_cpu_seconds_total", "mode=idle", "", second] == pytest.approx(20.0), "1 of 2 CPUs, 20 s"
    assert set(found["samples"]["node"]) == {"node7"}
    assert "system.gpu.0.memoryAllocated" in reading.warnings[0], "a share of a size that nobody tells"


def test_history_of_wandb_gives_steps(tmp_path):
    rows = [{"_step": step, "_timestamp": BEGAN_S + 2 * step, "train/loss": 3.0, "train/step_time": 1.5}
            for step in range(4)]  # fmt: skip
    path = write(tmp_path, "rank_3_wandb-history.jsonl", lines(rows))
    draft = read_one(path)
    assert (draft.reading.format, draft.rank) == ("system-metrics", 3)
    found = frame("steps", dict(draft.reading.batches)["steps"])
    assert found["step"].tolist() == [0, 1, 2, 3]
    assert (found["end_ns"] - found["start_ns"]).tolist() == [1_500_000_000] * 4
    assert found["end_ns"].iloc[0] == BEGAN_S * 10**9


def record(data: bytes) -> bytes:
    size = struct.pack("<Q", len(data))
    return size + struct.pack("<I", masked(size)) + data + struct.pack("<I", masked(data))


def event(step: int, wall_s: float, values: bytes) -> bytes:
    return record(b"\x09" + struct.pack("<d", wall_s) + b"\x10" + varint(step) + part(5, values))


def simple(tag: str, value: float) -> bytes:
    return part(1, part(1, tag.encode()) + b"\x15" + struct.pack("<f", value))


def tensor(tag: str, value: float) -> bytes:
    return part(1, part(1, tag.encode()) + part(8, b"\x08\x01" + part(2, b"") + part(4, struct.pack("<f", value))))


def tensorboard(steps: int = 5) -> bytes:
    """Return a file with a step of 0.5 s every second, of which 0.125 s loads data, and a loss."""
    out = record(b"\x09" + struct.pack("<d", BEGAN_S) + part(3, b"brain.Event:2"))
    for step in range(steps):
        values = simple("iteration-time", 0.5) + tensor("perf/dataloader_time_s", 0.125) + tensor("loss", 2.0)
        out += event(step, BEGAN_S + step, values + simple("iteration-time vs samples", 0.5))
    return out


def test_scalars_of_tensorboard(tmp_path):
    path = write(tmp_path, "events.out.tfevents.1790857026.node-3.4711.0", tensorboard())
    assert SystemMetrics().sniff(path.read_bytes()[:512], path.name) == 0.97
    reading, found = tables(path)
    assert (reading.status, reading.node, reading.events) == ("ok", "node-3", 20)
    steps = found["steps"].pivot(index="step", columns="phase", values="end_ns")
    assert steps["step"].tolist() == [(BEGAN_S + step) * 10**9 for step in range(5)]
    assert (steps["step"] - steps["data"]).tolist() == [375_000_000] * 5
    assert any(line.startswith("10 values of 2 scalars (loss, iteration-time vs samples)") for line in reading.warnings)


def test_damage_of_tensorboard_files_is_told(tmp_path):
    text = bytearray(tensorboard())
    cut = SystemMetrics().read(write(tmp_path, "cut", bytes(text[:-10])))
    assert (cut.status, cut.events) == ("partial", 16)
    text[-20] ^= 1
    bad = SystemMetrics().read(write(tmp_path, "bad", bytes(text)))
    assert (bad.status, bad.events) == ("partial", 16)
    assert "1 records are damaged" in bad.error


def test_a_file_without_anything_known_says_what_it_holds(tmp_path):
    path = write(tmp_path, "e", record(part(3, b"brain.Event:2")) + event(1, BEGAN_S, simple("loss", 1.0)))
    with pytest.raises(Unreadable, match=r"none of its 1 values .* \(loss\)"):
        SystemMetrics().read(path)


def test_it_takes_no_other_logs():
    sniff = SystemMetrics().sniff
    assert sniff(b'{"step": 1, "t_start_ns": 5, "step_ms": 7}\n', "steps.jsonl") == 0
    assert sniff(b"step,step_ms\n1,2\n", "x.csv") == 0
    assert sniff(b'{"traceEvents": [{"name": "system.cpu"}]}', "x.json") == 0


@settings(max_examples=60)
@given(st.binary(max_size=300), st.integers(0, 900), st.sampled_from(["tb", "jsonl", "json", "csv"]))
def test_arbitrary_bytes_after_a_valid_head_never_crash(tmp_path_factory, noise, at, form):
    text = {"tb": tensorboard(), "jsonl": lines(events()).encode(), "json": json.dumps(events()).encode(),
            "csv": table(events()).encode()}[form]  # fmt: skip
    path = write(tmp_path_factory.mktemp("noise"), "x", text[:at] + noise)
    try:
        tables(path)
    except Unreadable:
        pass
