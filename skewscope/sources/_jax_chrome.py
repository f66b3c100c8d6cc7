"""The viewer's Chrome JSON of XLA's profiles: lanes by the names of processes and threads."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from ..errors import Unreadable
from ._bytes import COPY_AGAIN
from ._cut_json import mended
from ._jax_lanes import MODULES, OPS, STEPS, STREAM, Lane, Profile, communicates
from ._kineto_columns import times

SIGNS = (b'"highres-ticks"', b"/device:TPU:", b"/device:GPU:", b'"/host:CPU', b'"/host:metadata"', b"/device:CUSTOM:")
OTHERS = (b'"deviceProperties"', b'"distributedInfo"', b'"baseTimeNanoseconds"', b'"schemaVersion"', b'"traceName"')
Name = dict[tuple[Any, Any], str]


class Event(msgspec.Struct, gc=False):
    """One event; times in us."""

    ph: str = ""
    pid: Any = 0
    tid: Any = 0
    ts: Any = 0.0
    dur: Any = 0.0
    name: str = ""
    args: msgspec.Raw = msgspec.Raw()


class File(msgspec.Struct, gc=False):
    """The whole file."""

    traceEvents: list[Event] = []  # noqa: N815 - the name in the file


FILE = msgspec.json.Decoder(File).decode
END = 1 << 63  # of a time; what is beyond, or is no number, is damage
ARGUMENTS = msgspec.json.Decoder(dict[str, Any]).decode


def surety(head: bytes) -> float:
    """Return 0..1: how surely `head` begins a trace of XLA's profiler, which other Chrome traces are not."""
    if any(sign in head for sign in OTHERS):
        return 0.0
    known = b'"traceEvents"' in head and any(sign in head for sign in SIGNS)
    return 0.97 if known else 0.0


def profile(content: bytes, damage: str) -> Profile:
    """Return the lanes of a file. Raises Unreadable where it is no JSON even after closing what is cut."""
    try:
        events = FILE(content).traceEvents
    except (msgspec.DecodeError, RecursionError) as error:
        damage = damage or f"the JSON is cut or damaged ({str(error)[:100]})"
        try:
            events = FILE(mended(content)).traceEvents
        except (msgspec.DecodeError, RecursionError):
            raise Unreadable(damage, COPY_AGAIN) from None
    processes, threads = _names(events)
    lanes: dict[tuple[Any, Any], Lane] = {}
    found = Profile(damage=damage)
    rows: dict[tuple[Any, Any], list[Event]] = {}
    for event in events:
        if event.ph == "X" and _plain(event):
            rows.setdefault((event.pid, event.tid), []).append(event)
    for key, members in rows.items():
        lane = lanes[key] = Lane(processes.get((key[0], None), ""), threads.get(key, ""))
        start = times([event.ts for event in members])
        lane.start = start.tolist()
        lane.end = (start + np.maximum(times([event.dur for event in members]), 0)).tolist()
        lane.names = [event.name for event in members]
        told = lane.name in (STEPS, OPS, MODULES) or STREAM.match(lane.name) is not None
        lane.told = [_arguments(event, told=told) for event in members]
        found.events += len(members)
    found.lanes = list(lanes.values())
    return found


def _plain(event: Event) -> bool:
    """Return whether times are numbers and ids can be keys."""
    return (isinstance(event.ts, int | float) and isinstance(event.dur, int | float)
            and abs(event.ts) < END and abs(event.dur) < END
            and isinstance(event.pid, int | str) and isinstance(event.tid, int | str))  # fmt: skip


def _names(events: list[Event]) -> tuple[Name, Name]:
    """Return names of processes by (pid, None) and of threads by (pid, tid)."""
    processes: Name = {}
    threads: Name = {}
    for event in events:
        if event.ph == "M" and event.name in ("process_name", "thread_name") and _plain(event):
            text = str((_arguments(event, told=True) or {}).get("name", ""))
            if event.name == "process_name":
                processes[event.pid, None] = text
            else:
                threads[event.pid, event.tid] = text
    return processes, threads


def _arguments(event: Event, *, told: bool) -> dict[str, Any] | None:
    """Return the arguments of metadata, steps and collectives; of all other events they are not wanted."""
    raw = bytes(event.args)
    wanted = event.ph == "M" or communicates(event.name) or b"step_num" in raw or b"memcpy_details" in raw
    if not raw or not (wanted or told and b"hlo_op" in raw and communicates(event.name)):
        return None
    try:
        return ARGUMENTS(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
