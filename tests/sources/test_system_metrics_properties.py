"""What experiment trackers kept comes back as samples and steps: of W&B in its three forms, and of TensorBoard."""

from __future__ import annotations

import csv
import io
import json
import struct
from pathlib import Path
from random import Random
from runpy import run_path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources._tfevents import masked
from skewscope.sources.system_metrics import SystemMetrics

PROTOBUF = run_path(str(Path(__file__).with_name("_protobuf.py")))
part, varint = PROTOBUF["field"], PROTOBUF["varint"]

BEGAN_S = 1_790_857_026
# tag -> metric, labels, device, scale
SAMPLES = {
    "system.gpu.0.gpu": ("gpu_utilization_ratio", "", "gpu0", 0.01),
    "system/gpu.11.memoryAllocatedBytes": ("gpu_memory_used_bytes", "", "gpu11", 1),
    "system.gpu.0.powerWatts": ("gpu_power_watts", "kind=average", "gpu0", 1),
    "system.gpu.0.smClock": ("gpu_clock_hertz", "domain=sm", "gpu0", 1e6),
    "system.network.sent": ("ethernet_transmit_bytes_total", "", "all", 1),
    "system.disk.in": ("disk_bytes_total", "direction=read", "all", 2**20),
    "system.proc.cpu.threads": ("rank_threads", "", "", 1),
    "gpu_id: 3/temperature.gpu (°C)": ("gpu_temperature_celsius", "sensor=gpu", "gpu3", 1),
}
STEPS = {"train/step_time": ("step", 1e9), "perf/iteration_time_ms": ("step", 1e6), "data_loading_time": ("data", 1e9)}
VALUES = [0, 1, 97, 0.5, -1, 2**53, 2.0**90, 1.5]
texts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), max_size=3)
Row = tuple[float, int, dict[str, Any]]  # when (s since 1970), step, value by tag


def drawn(chance: Random, rows: int, text: str) -> list[Row]:
    """Return rows some of which have the same time or step; of a step that is written again the later length counts."""
    made: list[Row] = []
    when = BEGAN_S
    for _ in range(rows):
        when += chance.choice([0, 0.25, 7])
        tags = chance.sample([*SAMPLES, *STEPS, f"loss {text}", "system.gpu.0.unheard"], chance.choice([1, 3, 6]))
        made.append((when, chance.choice([0, 1, 1, 2, 2**52]), {tag: chance.choice(VALUES) for tag in tags}))
    return made


def samples(rows: list[Row]) -> list[tuple[Any, ...]]:
    found: dict[tuple[Any, ...], float] = {}
    for when, _, told in rows:
        for tag, value in told.items():
            if tag in SAMPLES:
                metric, labels, device, scale = SAMPLES[tag]
                found.setdefault((round(when * 1e9), f"skewscope_{metric}", labels, device), value * scale)
    return [(*key, value) for key, value in found.items()]


def steps(rows: list[Row]) -> list[tuple[Any, ...]]:
    """Return steps that end when they were told, and the loading of data at their beginning."""
    lengths: dict[str, dict[int, tuple[int, int]]] = {"step": {}, "data": {}}
    for when, step, told in rows:
        for tag, value in told.items():
            phase, per_ns = STEPS.get(tag, ("", 0.0))
            if phase and 0 < value * per_ns < 1e16:
                lengths[phase][step] = (round(when * 1e9), round(value * per_ns))
    found = []
    for step, (end, length) in lengths["step"].items():
        found.append((step, "step", end - length, end))
        if step in lengths["data"]:
            found.append((step, "data", end - length, min(end - length + lengths["data"][step][1], end)))
    return found


def compare(path: Path, rows: list[Row], host: str) -> None:
    want = {"samples": samples(rows), "steps": steps(rows)}
    if not any(tag in SAMPLES or tag in STEPS for _, _, told in rows for tag in told):
        with pytest.raises(Unreadable):
            SystemMetrics().read(path)
        return
    columns = {
        "samples": ["t_ns", "metric", "labels", "device", "value"],
        "steps": ["step", "phase", "start_ns", "end_ns"],
    }
    reading = SystemMetrics().read(path)
    found = {name: frame(name, one) for name, one in reading.batches}
    for name, wanted in want.items():
        got = found[name][columns[name]].itertuples(index=False, name=None) if name in found else []
        assert sorted(got) == sorted(wanted), name
    assert (reading.status, reading.node) == ("ok", host)
    assert reading.events == sum(len(told) for _, _, told in rows)
    assert "samples" not in found or set(found["samples"]["node"]) == {host}


def exported(rows: list[Row], form: str, chance: Random) -> str:
    """Return an export of W&B: numbers that are none are texts or missing, and tell nothing."""
    made = []
    for when, step, told in rows:
        odd = {
            f"odd{at}": value for at, value in enumerate(chance.sample(["NaN", None, {"_type": "histogram"}, True], 2))
        }
        head = {"_timestamp": when, "_runtime": when - BEGAN_S, "_step": step}
        made.append(head | (odd if form != "csv" else {"odd0": "NaN"}) | {f"{tag}__MIN": 1 for tag in told} | told)
    if form == "csv":
        place = io.StringIO()
        heads = list(dict.fromkeys(name for row in made for name in row))
        writer = csv.DictWriter(place, heads, restval="")
        writer.writeheader()
        writer.writerows(made)
        return place.getvalue()
    return json.dumps(made) if form == "json" else "".join(json.dumps(row) + "\n" for row in made)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 8), st.randoms(use_true_random=True), st.sampled_from(["jsonl", "json", "csv"]), texts)
def test_rows_of_wandb_come_back(tmp_path: Path, rows: int, chance: Random, form: str, text: str) -> None:
    told = drawn(chance, rows, text)
    (tmp_path / "wandb-metadata.json").write_text(json.dumps({"host": f"n{text}"}))
    path = tmp_path / f"wandb-events.{form}"
    path.write_text(exported(told, form, chance))
    compare(path, told, f"n{text}")


def record(data: bytes) -> bytes:
    size = struct.pack("<Q", len(data))
    return size + struct.pack("<I", masked(size)) + data + struct.pack("<I", masked(data))


def scalar(value: float, form: str) -> bytes:
    """Return a value as old writers write it, or a tensor of one float or double, raw or listed."""
    if form == "simple":
        return b"\x15" + struct.pack("<f", value)
    kind, packed = (1, struct.pack("<f", value)) if form.startswith("float") else (2, struct.pack("<d", value))
    held = part(4, packed) if form.endswith("raw") else part(5 if kind == 1 else 6, packed)
    return part(8, bytes([8, kind]) + part(2, b"") + held)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 8), st.randoms(use_true_random=True), texts.filter(lambda text: "/" not in text))
def test_scalars_of_tensorboard_come_back(tmp_path: Path, rows: int, chance: Random, text: str) -> None:
    """A step of 0 is not written, as proto3 has it."""
    told = drawn(chance, rows, text)
    content = record(b"\x09" + struct.pack("<d", BEGAN_S) + part(3, b"brain.Event:2"))
    for when, step, values in told:
        forms = ["simple", "float raw", "float listed", "double raw", "double listed"]
        summary = b"".join(part(1, part(1, tag.encode()) + scalar(value, chance.choice(forms)))
                           for tag, value in values.items())  # fmt: skip
        head = b"\x09" + struct.pack("<d", when) + (b"\x10" + varint(step) if step else b"")
        content += record(head + part(5, summary))
    path = tmp_path / f"events.out.tfevents.1790857026.n{text}.4711.0"
    path.write_bytes(content)
    assert SystemMetrics().sniff(content[:512], path.name) > 0.9
    compare(path, told, f"n{text}")
