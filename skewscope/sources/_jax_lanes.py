"""Lanes of XLA's profiles (one per device and kind of event) to device work, steps and host calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ._device_trace import ANNOTATION, KERNEL, MEMCPY, MEMSET, OPERATOR, PYTHON, Process, Told
from ._jax_collectives import collective, payload
from ._kineto_columns import Array
from ._kineto_names import is_communication

STEPS, OPS, MODULES = "Steps", "XLA Ops", "XLA Modules"
STREAM = re.compile(r"Stream #(\d{1,18})")
DEVICE = re.compile(r"/device:(?P<kind>[A-Z_a-z]+):(?P<number>\d{1,9})(?!\d)")
FLOW = re.compile(r"(?:while|conditional|call|async-call)(?:[.\d]*)$")
STEPPED = re.compile(r"step|train|update", re.IGNORECASE)
MODULE = re.compile(r"\(\d+\)$")
MOST_STREAMS = 1 << 15


@dataclass
class Lane:
    """Events of one lane in any order, ns: `names` one per event; `told` are the arguments of each event or None."""

    device: str  # name of the process: /device:TPU:0, /host:CPU
    name: str
    start: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    told: list[dict[str, Any] | None] = field(default_factory=list)


@dataclass
class Profile:
    """A whole profile; `base_ns` is the Unix time of its zero; `dated` tells that times count from 1970 with it."""

    lanes: list[Lane] = field(default_factory=list)
    host: str = ""
    base_ns: int = 0
    dated: bool = False
    events: int = 0
    damage: str = ""


def processes(profile: Profile, *, detail: bool) -> list[Process]:
    """Return one process per device with work, in the order of kind and number."""
    devices: dict[tuple[str, int], list[Lane]] = {}
    for lane in profile.lanes:
        if (known := DEVICE.match(lane.device)) and lane.start:
            devices.setdefault((known["kind"], int(known["number"])), []).append(lane)
    hosts = [lane for lane in profile.lanes if lane.device.startswith("/host:") and lane.start]
    found: list[Process] = []
    for number, (_, lanes) in enumerate(sorted(devices.items())):
        process = Process(on_device=True)
        _add_work(process, lanes, number)
        if not len(process.work):
            continue
        steps = _steps(lanes) or _host_steps(hosts) or _module_steps(lanes)
        for start, end, name in steps:
            process.host.add(start=[start], end=[end], name=process.names.codes([name]), thread=[0],
                             kind=[ANNOTATION], correlation=[-1])  # fmt: skip
        if detail and not found:
            _add_host(process, hosts)
        found.append(process)
    return found


def _add_work(process: Process, lanes: Sequence[Lane], device: int) -> None:
    """Add kernels of the streams where there are any (GPUs), else operations of XLA (TPUs)."""
    streams = [(int(hit[1]) % MOST_STREAMS, lane) for lane in lanes if (hit := STREAM.match(lane.name))]
    chosen = streams or [(0, lane) for lane in lanes if lane.name == OPS]
    groups, sizes, moved, ops = [], [], [], []
    for stream, lane in chosen:
        start, end, names, told = _leaves(lane) if not streams else (lane.start, lane.end, lane.names, lane.told)
        start, end, names, told = _paired(start, end, names, told)
        kinds = [_kind(name, one) for name, one in zip(names, told, strict=True)]
        known = [payload(name, one) for name, one in zip(names, told, strict=True)]
        groups += [one.group for one in known]
        sizes += [one.size for one in known]
        moved += [one.message_bytes for one in known]
        ops += [one.op for one in known]
        rows = len(start)
        process.work.add(
            start=start, end=np.maximum(end, start), name=process.names.codes(names), kind=kinds,
            stream=np.full(rows, stream), device=np.full(rows, device), bytes=np.full(rows, -1),
            correlation=np.full(rows, -1),
        )  # fmt: skip
    if any(ops):
        codes = process.names.codes
        absent = np.array([bool(op) for op in ops])
        process.told = Told(
            np.where(absent, codes(groups), -1), np.array(sizes), np.array(moved), np.where(absent, codes(ops), -1)
        )
        names = process.names.values
        used = np.unique(process.work.done()["name"][absent]).tolist()
        process.operations = {names[one]: "other" for one in used}


def _leaves(lane: Lane) -> tuple[list[int], list[int], list[str], list[dict[str, Any] | None]]:
    """Return the events of a lane without the control flow that only holds others."""
    start, end = np.array(lane.start, dtype=np.int64), np.array(lane.end, dtype=np.int64)
    order = np.lexsort((-end, start))
    holds = np.zeros(len(order), dtype=bool)
    holds[order[:-1]] = start[order[1:]] < end[order[:-1]]
    flow = np.array([FLOW.match(name) is not None for name in lane.names])
    kept = np.flatnonzero(~(holds & flow)).tolist()  # as they came: a -start may begin and end when its -done begins
    return ([lane.start[row] for row in kept], [lane.end[row] for row in kept], [lane.names[row] for row in kept],
            [lane.told[row] for row in kept])  # fmt: skip


def _paired(
    start: Sequence[int], end: Sequence[int], names: Sequence[str], told: Sequence[dict[str, Any] | None]
) -> tuple[list[int], list[int], list[str], list[dict[str, Any] | None]]:
    """Return the events with each asynchronous collective as one, from its -start to the end of its -done.

    The pair has the same number behind its name; where the numbers differ, the oldest open one of the kind is meant.
    """
    made: list[list[Any]] = []
    waiting: dict[str, list[tuple[str, int]]] = {}
    for row in np.argsort(np.array(start, dtype=np.int64), kind="stable").tolist():
        name = names[row]
        op, part, number = collective(name)
        if part == "done" and (open_ones := waiting.get(op)):
            at = next((turn for turn, (known, _) in enumerate(open_ones) if known == number), 0)
            made[open_ones.pop(at)[1]][1] = end[row]
            continue
        if part == "start":
            waiting.setdefault(op, []).append((number, len(made)))
        made.append([start[row], end[row], name, told[row]])
    return tuple([one[column] for one in made] for column in range(4))  # type: ignore[return-value]


def _kind(name: str, told: dict[str, Any] | None) -> int:
    lowered = name.lower()
    if lowered.startswith("memcpy") or (told and "memcpy_details" in told):
        return MEMCPY
    return MEMSET if lowered.startswith("memset") else KERNEL


def _steps(lanes: Sequence[Lane]) -> list[tuple[int, int, str]]:
    """Return the steps that the device's own lane marks: their names are numbers."""
    found = []
    for lane in lanes:
        if lane.name == STEPS:
            for start, end, name, told in zip(lane.start, lane.end, lane.names, lane.told, strict=True):
                number = name if name.isdecimal() else _number(told)
                if number:
                    found.append((start, end, f"step {number[:15]}"))
    return found


def _host_steps(hosts: Sequence[Lane]) -> list[tuple[int, int, str]]:
    """Return the steps that StepTraceAnnotation marked on a host thread: those with the argument step_num."""
    return [
        (start, end, f"step {number[:15]}")
        for lane in hosts for start, end, told in zip(lane.start, lane.end, lane.told, strict=True)
        if (number := _number(told))
    ]  # fmt: skip


def _module_steps(lanes: Sequence[Lane]) -> list[tuple[int, int, str]]:
    """Return the runs of the program that looks like a training step and took the most time, without numbers."""
    total: dict[str, int] = {}
    runs: dict[str, list[tuple[int, int]]] = {}
    for lane in lanes:
        if lane.name == MODULES:
            for start, end, name in zip(lane.start, lane.end, lane.names, strict=True):
                bare = MODULE.sub("", name)
                total[bare] = total.get(bare, 0) + end - start
                runs.setdefault(bare, []).append((start, end))
    likely = [name for name in total if STEPPED.search(name)]
    if not likely:
        return []
    return [(start, end, "step") for start, end in runs[max(likely, key=lambda name: total[name])]]


def _number(told: dict[str, Any] | None) -> str:
    value = str((told or {}).get("step_num", ""))
    return value if value.isascii() and value.isdecimal() else ""


def _add_host(process: Process, hosts: Sequence[Lane]) -> None:
    """Add calls of host threads; those of Python's tracer begin with "$"."""
    for thread, lane in enumerate(hosts, start=1):
        rows = len(lane.start)
        kinds: Array = np.array([PYTHON if name.startswith("$") else OPERATOR for name in lane.names])
        process.host.add(
            start=lane.start, end=np.maximum(lane.end, lane.start), name=process.names.codes(lane.names),
            thread=np.full(rows, thread), kind=kinds, correlation=np.full(rows, -1),
        )  # fmt: skip


def communicates(name: str) -> bool:
    """Return whether an event of this name moves data between devices."""
    return bool(collective(name)[0]) or is_communication(name)
