"""Sorts all events of a block into the columns of a detailed reading: host calls, device work, allocations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec
import numpy as np
from msgspec import Raw

from ._kineto_columns import Array, Columns, Judged, Names, number, numbers, times
from ._kineto_events import Event, arguments
from ._kineto_names import is_communication
from ._kineto_parts import Coding
from ._kineto_rows import COPY, DEVICE, HOST, KERNEL, MEMCPY

KINDS = ("operator", "runtime", "module", "python", "annotation")
OPERATOR, RUNTIME, MODULE, PYTHON, ANNOTATION = range(len(KINDS))
WORK = ("kernel", "memcpy", "memset", "communication", "wait")
COMMUNICATION, WAIT = 3, 4
MEMORY = "[memory]"
SPAN = {"start": "i8", "end": "i8", "name": "i4", "kind": "i1"}
CALL = {**SPAN, "lane": "i4", "shapes": "i4", "dtypes": "i4", "values": "i4", "sequence": "i8", "correlation": "i8",
        "external": "i8"}  # fmt: skip
SHAPED = {"grid": "i4", "block": "i4", "shared": "i8"}
DEVICE_ROW = {**SPAN, "stream": "i8", "device": "i2", "correlation": "i8", "external": "i8", "bytes": "i8", **SHAPED,
              "registers": "i4", "occupancy": "f8", "graph": "i8"}  # fmt: skip
LAUNCHED = {"correlation": "i8", "bytes": "i8", **SHAPED}
ALLOCATION = {"t": "i8", "lane": "i4", "type": "i2", "device": "i2", "size": "i8", "allocated": "i8", "reserved": "i8",
              "address": "i8"}  # fmt: skip
NOTHING = Raw(b"")


class CallArgs(msgspec.Struct, gc=False, frozen=True):
    """The arguments of host calls."""

    external: Any = msgspec.field(name="External id", default=-1)
    correlation: Any = -1
    sequence: Any = msgspec.field(name="Sequence number", default=-1)
    dims: Raw = msgspec.field(name="Input Dims", default=NOTHING)
    types: Raw = msgspec.field(name="Input type", default=NOTHING)
    inputs: Raw = msgspec.field(name="Concrete Inputs", default=NOTHING)


class WorkArgs(msgspec.Struct, gc=False, frozen=True):
    """The arguments of device work, and of the HIP calls that launch it and know more."""

    external: Any = msgspec.field(name="External id", default=-1)
    correlation: Any = -1
    bytes: Any = -1
    size: Any = -1
    direction: Any = ""
    grid: Raw = NOTHING
    block: Raw = NOTHING
    registers: Any = msgspec.field(name="registers per thread", default=-1)
    shared: Any = msgspec.field(name="shared memory", default=-1)
    occupancy: Any = msgspec.field(name="est. achieved occupancy %", default=None)
    graph: Any = msgspec.field(name="graph id", default=-1)


class MemoryArgs(msgspec.Struct, gc=False, frozen=True):
    """The arguments of the allocator's records."""

    type: Any = msgspec.field(name="Device Type", default=-1)
    device: Any = msgspec.field(name="Device Id", default=-1)
    size: Any = msgspec.field(name="Bytes", default=0)
    allocated: Any = msgspec.field(name="Total Allocated", default=-1)
    reserved: Any = msgspec.field(name="Total Reserved", default=-1)
    address: Any = msgspec.field(name="Addr", default=-1)


class CallRows:
    """Columns of everything that a detailed reading keeps; times are ns since the trace's base."""

    CODING: ClassVar[Coding] = {
        "calls": {"name": "names", "lane": "lanes", **dict.fromkeys(("shapes", "dtypes", "values"), "texts")},
        "work": {"name": "kernels", "grid": "texts", "block": "texts"},
        "launched": {"grid": "texts", "block": "texts"}, "memory": {"lane": "lanes"},
    }  # fmt: skip

    def __init__(self) -> None:
        self.names, self.texts, self.lanes, self.streams = Names(), Names(), Names(), Names()
        self.kernels = Judged(lambda name: int(is_communication(name)))
        self.calls, self.work, self.launched = Columns(CALL), Columns(DEVICE_ROW), Columns(LAUNCHED)
        self.memory = Columns(ALLOCATION)

    def add(self, events: list[Event]) -> None:
        """Keep what is wanted of one block."""
        by_class: dict[str, list[Event]] = defaultdict(list)
        memory = []
        for event in events:
            if event.ph == "X":
                by_class[event.cat].append(event)
            elif event.name == MEMORY:
                memory.append(event)
        for name, found in by_class.items():
            if name in DEVICE:
                self._add_work(found, DEVICE[name])
            elif name == "cuda_sync":
                self._add_work(found, WAIT)
            elif (kind := _call_kind(name)) is not None:
                self._add_calls(found, kind)
        if memory:
            self._add_memory(memory)

    def _add_calls(self, events: list[Event], kind: int) -> None:
        start, end = _spans(events)
        names = [event.name for event in events]
        args = arguments(events, CallArgs)
        self.calls.add(
            start=start, end=end, name=self.names.codes(names), kind=_kinds(names, kind), lane=self._lanes(events),
            shapes=self._codes(one.dims for one in args), dtypes=self._codes(one.types for one in args),
            values=self._codes(one.inputs for one in args), sequence=numbers([one.sequence for one in args]),
            correlation=numbers([one.correlation for one in args]) if kind == RUNTIME else np.full(len(events), -1),
            external=numbers([one.external for one in args]),
        )  # fmt: skip
        if kind == RUNTIME and any(name.startswith("hip") for name in names):
            self._add_launched([event for event in events if event.name.startswith("hip")])

    def _add_launched(self, events: list[Event]) -> None:
        args = arguments(events, WorkArgs)
        self.launched.add(correlation=numbers([one.correlation for one in args]), bytes=_sizes(args),
                          **self._shaped(args))  # fmt: skip

    def _add_work(self, events: list[Event], kind: int) -> None:
        start, end = _spans(events)
        args = arguments(events, WorkArgs)
        names, kinds = [event.name for event in events], np.full(len(events), kind)
        size = _sizes(args) if kind != KERNEL else np.full(len(events), -1)
        if events[0].cat == "mtia_ccp_events":
            kinds, size = np.array([_mtia_kind(name) for name in names]), _sizes(args)
            names = [COPY.get(str(one.direction), name) if name == "dma_request" else name
                     for one, name in zip(args, names, strict=True)]  # fmt: skip
        codes, moves = self.kernels.codes(name.removeprefix("Memcpy ") for name in names)
        self.work.add(
            start=start, end=end, name=codes, kind=np.where((kinds == KERNEL) & (moves == 1), COMMUNICATION, kinds),
            stream=self._stream([event.tid for event in events]),
            device=np.clip(numbers([event.pid for event in events]), -1, 2**15 - 1),
            correlation=numbers([one.correlation for one in args]), external=numbers([one.external for one in args]),
            bytes=size, registers=numbers([one.registers for one in args]), **self._shaped(args),
            occupancy=_floats([one.occupancy for one in args]), graph=numbers([one.graph for one in args]),
        )  # fmt: skip

    def _shaped(self, args: Sequence[WorkArgs]) -> dict[str, Array]:
        return {"grid": self._codes(one.grid for one in args), "block": self._codes(one.block for one in args),
                "shared": numbers([one.shared for one in args])}  # fmt: skip

    def _add_memory(self, events: list[Event]) -> None:
        args = arguments(events, MemoryArgs)
        self.memory.add(
            t=times([event.ts for event in events]), lane=self._lanes(events),
            **{name: np.clip(numbers([getattr(one, name) for one in args]), -1, 2**15 - 1)
               for name in ("type", "device")},
            **{name: numbers([getattr(one, name) for one in args])
               for name in ("size", "allocated", "reserved", "address")},
        )  # fmt: skip

    def _lanes(self, events: list[Event]) -> Array:
        return self.lanes.codes((event.pid, event.tid) for event in events)

    def _stream(self, values: list[Any]) -> Array:
        try:
            return np.array(values, dtype=np.int64)
        except (TypeError, ValueError, OverflowError):
            known = (number(value) if isinstance(value, int) else self.streams.codes([value])[0] for value in values)
            return np.fromiter(known, dtype=np.int64, count=len(values))

    def _codes(self, raws: Iterable[Raw]) -> Array:
        return self.texts.codes(str(raw, "utf-8", "replace") for raw in raws)


def _call_kind(category: str) -> int | None:
    """Return the kind of host call that events of a category are, None for what is none.

    >>> _call_kind("cuda_runtime") == RUNTIME, _call_kind("Trace")
    (True, None)
    """
    if category.endswith(("_runtime", "_driver")) or category == "Runtime":
        return RUNTIME
    return {**dict.fromkeys(HOST, OPERATOR), "user_annotation": ANNOTATION, "python_function": PYTHON}.get(category)


def _kinds(names: list[str], kind: int) -> Array:
    kinds = np.full(len(names), kind)
    if kind == PYTHON:
        kinds[[name.startswith("nn.Module: ") for name in names]] = MODULE
    elif kind == OPERATOR:
        kinds[[name.startswith("ProfilerStep#") for name in names]] = ANNOTATION
    return kinds


def _mtia_kind(name: str) -> int:
    return {"dma_request": MEMCPY, "event_wait": WAIT}.get(name, KERNEL)


def _sizes(args: Sequence[WorkArgs]) -> Array:
    """Return the bytes moved; HIP calls and MTIA events call them size."""
    given, other = numbers([one.bytes for one in args]), numbers([one.size for one in args])
    return np.where(given >= 0, given, other)


def _floats(values: list[Any]) -> Array:
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        return np.array([value if isinstance(value, int | float) else np.nan for value in values], dtype=np.float64)


def _spans(events: list[Event]) -> tuple[Array, Array]:
    start, length = times([event.ts for event in events]), times([event.dur for event in events])
    return start, start + np.maximum(length, 0)
