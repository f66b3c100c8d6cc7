"""What XLA's profiler saw on each device comes back from both of its forms: steps, work, and collectives as one."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from runpy import run_path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skewscope.errors import Unreadable
from skewscope.frames import frame
from skewscope.sources.jax_trace import JaxTrace

PROTOBUF = run_path(str(Path(__file__).with_name("_protobuf.py")))
wire = PROTOBUF["field"]

STARTED_NS = 1_790_857_026_000_000_000
# HLO's word -> operation, text of what is moved and by whom, group, members, bytes
HLO = {
    "all-reduce": ("all_reduce", "f32[8,4]{1,0} %s(f32[8,4] %%p), replica_groups={{0,1}}", "all", 2, 128),
    "all-gather": ("all_gather", "bf16[8,4] %s(bf16[2,4] %%p), replica_groups=[2,4]<=[8]", "", 4, 16),
    "reduce-scatter": ("reduce_scatter", "pred[3] %s(pred[12] %%p), replica_groups={{0,1},{2,3}}", "", 2, 6),
    "all-to-all": ("all_to_all", "(f32[2], s64[]) %s(f32[2] %%p, s64[] %%q)", "", -1, 16),
}  # fmt: skip
KERNELS = {  # name -> operation, and the operation of HLO that launched it
    "ncclDevKernel_Generic(x)": ("all_gather", {"hlo_op": "all-gather-start.1"}),
    "ncclDevKernel_AllReduce_Sum_f32_RING_LL(x)": ("all_reduce", {}), "ncclKernel_SendRecv": ("send_recv", {}),
}  # fmt: skip
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
Event = tuple[str, int, int, dict[str, Any]]  # name, start and end in ns, arguments


@dataclass
class Device:
    """The lanes of one device as they are written, and what is to come back; all times in ns of the profile."""

    kind: str
    number: int
    lanes: dict[str, list[Event]] = field(default_factory=dict)
    ops: list[tuple[Any, ...]] = field(default_factory=list)  # op, name, stream, start, end
    calls: list[tuple[Any, ...]] = field(default_factory=list)  # start, end, stream, op, group, members, bytes

    def tpu(self, chance: Random, rows: int, text: str) -> None:
        """Add operations one after another, of some collectives a start and a done, some within a loop."""
        lane = self.lanes.setdefault("XLA Ops", [])
        now, open_ones, one = chance.choice([0, 7, 10**12]), [], chance.choice
        begun = now
        for row in range(rows):
            length = one([0, 1, 1, 999, 10**6])
            end, name, hlo = now + length, one(["fusion", "copy", f"x {text}"]) + f".{row}", one([*HLO, None, None])
            if hlo is None:
                lane.append((name, now, end, {}))
                self.ops.append(("kernel", name, 0, now, end))
            elif chance.random() < 0.6:
                lane.append((f"{hlo}-start.{row}", now, end, {"long_name": self._text(hlo, row, "-start")}))
                open_ones.append((hlo, row, now))
            else:
                lane.append((f"{hlo}.{row}", now, end, {"long_name": self._text(hlo, row, "")}))
                self._call(hlo, now, end)
            now = end + one([0, 1, 5])
            while open_ones and chance.random() < 0.5:
                hlo, number, start = open_ones.pop(chance.randrange(len(open_ones)))
                if chance.random() < 0.2 and hlo not in {other for other, _, _ in open_ones}:
                    number = 10**6  # XLA may number the two apart
                end = now + one([0, 1, 300])
                lane.append((f"{hlo}-done.{number}", now, end, {}))
                self._call(hlo, start, end)
                now = end + one([0, 2])
        for hlo, number, start in open_ones:
            lane.append((f"{hlo}-done.{number}", now, now + 5, {}))
            self._call(hlo, start, now + 5)
            now += 9
        if chance.random() < 0.3:  # a loop that holds nothing, and what comes at its end
            lane += [("while.2", now + 2, now + 4, {}), ("copy.1000", now + 4, now + 5, {})]
            self.ops += [("kernel", "while.2", 0, now + 2, now + 4), ("kernel", "copy.1000", 0, now + 4, now + 5)]
            now += 6
        if lane and chance.random() < 0.5:  # control flow is drawn around what it runs
            lane.insert(0, ("while.1", max(begun - 1, 0), now + 1, {}))

    @staticmethod
    def _text(hlo: str, row: int, part: str) -> str:
        return f"%{hlo}{part}.{row} = {HLO[hlo][1] % (hlo + part)}"

    def _call(self, hlo: str, start: int, end: int) -> None:
        op, _, *rest = HLO[hlo]
        self.calls.append((start, end, 0, op, *rest))

    def gpu(self, chance: Random, rows: int, text: str) -> None:
        """Add kernels and copies of streams, which may be equal and overlap."""
        one = chance.choice
        for _ in range(rows):
            stream, start = one([14, 2]), one([0, 5, 5, 10**12, chance.randrange(2**50)])
            end = start + one([0, 1, 1000])
            name = one([*KERNELS, f"fusion {text}", "MemcpyD2H (x)", "Memset"])
            op, told = KERNELS.get(name, ("", {}))
            self.lanes.setdefault(f"Stream #{stream}(Compute)", []).append((name, start, end, told))
            if op:
                self.calls.append((start, end, stream, op, "", -1, -1))
            else:
                kind = name[:6].lower() if name.startswith("Mem") else "kernel"
                self.ops.append((kind, {"memcpy": "MemcpyD2H", "memset": ""}.get(kind, name), stream, start, end))


def chrome(places: dict[str, dict[str, list[Event]]], chance: Random) -> bytes:
    made: list[dict[str, Any]] = []
    for pid, (place, lanes) in enumerate(places.items(), start=3):
        made.append({"ph": "M", "pid": pid, "name": "process_name", "args": {"name": place}})
        for tid, (lane, events) in enumerate(lanes.items()):
            made.append({"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": lane}})
            for name, start, end, told in events:
                args = {key: str(value) for key, value in told.items()}
                made.append({"ph": "X", "pid": pid, "tid": tid, "ts": start / 1000, "dur": (end - start) / 1000,
                             "name": name, "args": args})  # fmt: skip
    told = {"displayTimeUnit": "ns", "metadata": {"highres-ticks": True}, "traceEvents": [*made, {}]}
    return json.dumps(told, ensure_ascii=chance.random() < 0.5).encode()


def xplane(places: dict[str, dict[str, list[Event]]], chance: Random, started: bool, clock_ns: int) -> bytes:
    """Return an XSpace; a line counts from a time of its own, events in ps from there; texts are referred to."""
    space = wire(4, "host-1")
    for place, lanes in places.items():
        names: dict[Any, int] = {}
        stats = {"step_num": 1, "hlo_op": 2}
        plane = b""
        for number, (lane, events) in enumerate(lanes.items()):
            first = min((start for _, start, _, _ in events), default=0) if chance.random() < 0.5 else 0
            line = wire(1, number) + wire(2, "x" if number else lane) + (wire(11, lane) if number else b"")
            for name, start, end, told in events:
                key = names.setdefault((name, told.get("long_name", "")), len(names) + 1)
                ps = (start - first) * 1000 + chance.randrange(500), (end - start) * 1000 + chance.randrange(500)
                place_ps = b"".join(wire(at, one) for at, one in zip((2, 3), ps, strict=True) if one)
                line += wire(4, wire(1, key) + place_ps + b"".join(stat(told, stats)))
            plane += wire(3, line + (wire(3, clock_ns + first) if clock_ns + first else b""))
        for (name, long_name), key in names.items():
            short = wire(2, long_name) + wire(4, name) if long_name else wire(2, name)
            plane += wire(4, wire(1, key) + wire(2, wire(1, key) + short))
        plane += b"".join(wire(5, wire(1, key) + wire(2, wire(1, key) + wire(2, name))) for name, key in stats.items())
        space += wire(1, wire(2, place) + plane)
    if started:
        known = wire(5, wire(1, 1) + wire(2, wire(1, 1) + wire(2, "profile_start_time")))
        space += wire(1, wire(2, "Task Environment") + known + wire(6, wire(1, 1) + wire(3, STARTED_NS)))
    return space


def stat(told: dict[str, Any], stats: dict[str, int]) -> list[bytes]:
    """Return the statistics of an event: numbers as they are, texts as numbers of other names."""
    made = []
    for name, value in told.items():
        if name != "long_name":
            held = wire(4, value) if isinstance(value, int) else wire(7, stats.setdefault(value, len(stats) + 1))
            made.append(wire(4, wire(1, stats[name]) + held))
    return made


def step_of(steps: list[tuple[int, int, int]], start: int) -> int:
    return next((number for number, begin, end in steps if begin <= start < end), -1)


def collectives(device: Device, rank: int, steps: list[tuple[int, int, int]], base: int) -> list[tuple[Any, ...]]:
    turns: Counter[tuple[str, str]] = Counter()
    rows = []
    for start, end, stream, op, group, size, moved in sorted(device.calls):
        rows.append((rank, op, group, size, moved, turns[op, group], step_of(steps, start), base + start, base + end,
                     stream))  # fmt: skip
        turns[op, group] += 1
    return rows


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2, 10, 11]), st.integers(0, 9)), max_size=3, unique_by=lambda d: d[0]),
    st.randoms(use_true_random=True), st.sampled_from(["TPU", "GPU"]), st.sampled_from(["json", "gz", "pb", "dated"]),
    st.sampled_from(["device", "host", ""]), st.booleans(), texts,
)  # fmt: skip
def test_what_each_device_did_comes_back(
    tmp_path: Path, devices: list[Any], chance: Random, kind: str, form: str, marked: str, started: bool, text: str
) -> None:
    begin, steps = chance.choice([0, 50]), []
    for number in chance.sample([0, 7, 8, 10**14], 3):
        steps.append((number, begin, begin + chance.choice([1, 100, 10**9])))
        begin = steps[-1][2] + chance.choice([0, 3])
    places: dict[str, dict[str, list[Event]]] = {"/host:CPU": {"python": [("$main.py:3 run", 0, 10, {})]}}
    if marked == "host":
        places["/host:CPU"]["python"] += [("train", start, end, {"step_num": number}) for number, start, end in steps]
    made = [Device(kind, number) for number, _ in devices]
    for device, (_, rows) in zip(made, devices, strict=True):
        (device.tpu if kind == "TPU" else device.gpu)(chance, rows, text)
        if marked == "device":
            device.lanes["Steps"] = [(str(number), start, end, {}) for number, start, end in steps]
        places[f"/device:{kind}:{device.number}"] = device.lanes
    absolute = STARTED_NS if form == "dated" else 0
    is_json = form in ("json", "gz")
    content = chrome(places, chance) if is_json else xplane(places, chance, started, absolute)
    path = tmp_path / ("a.trace.json" + ".gz" * (form == "gz") if is_json else "a.xplane.pb")
    path.write_bytes(gzip.compress(content, 1) if form == "gz" else content)
    ranks = sorted((one for one in made if one.ops or one.calls), key=lambda one: one.number)
    if not ranks:
        with pytest.raises(Unreadable):
            JaxTrace().read(path)
        return
    base = 0 if is_json else absolute or STARTED_NS * started
    reading = JaxTrace().read(path)
    found: dict[str, list[tuple[Any, ...]]] = {"steps": [], "ops": [], "collectives": []}
    columns = {
        "steps": ["rank", "step", "phase", "start_ns", "end_ns"],
        "ops": ["rank", "op", "name", "stream", "start_ns", "end_ns", "step"],
        "collectives": ["rank", "op", "group", "group_size", "message_bytes", "seq", "step", "start_ns", "end_ns",
                        "stream"],
    }  # fmt: skip
    for table, one in reading.batches:
        found[table] += frame(table, one)[columns[table]].itertuples(index=False, name=None)
    steps = steps if marked else []
    assert sorted(found["steps"]) == sorted(
        (rank, number, "step", base + start, base + end) for rank in range(len(ranks)) for number, start, end in steps
    )
    assert sorted(found["ops"]) == sorted(
        (rank, op, name, stream, base + start, base + end, step_of(steps, start))
        for rank, device in enumerate(ranks) for op, name, stream, start, end in device.ops
    )  # fmt: skip
    assert sorted(found["collectives"]) == sorted(
        row for rank, device in enumerate(ranks) for row in collectives(device, rank, steps, base)
    )
    assert (reading.status, reading.node) == ("ok", "" if is_json else "host-1")
