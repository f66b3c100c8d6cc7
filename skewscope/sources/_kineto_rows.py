"""Sorts the events of a block into columns: device work, collectives, host operators, annotations, launches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
import numpy as np
from msgspec import Raw

from ._kineto_columns import Array, Columns, Judged, Names, number, numbers, outermost, times
from ._kineto_events import Args, DeviceArgs, Event, arguments
from ._kineto_names import WAITING, is_communication, phase
from ._kineto_parts import Coding
from ._kineto_shapes import call_shape, first_tokens

KERNEL, MEMCPY, MEMSET = 0, 1, 2
DEVICE = {
    "kernel": KERNEL, "Kernel": KERNEL, "concurrent_kernel": KERNEL, "mtia_ccp_events": KERNEL,
    "gpu_memcpy": MEMCPY, "Memcpy": MEMCPY, "gpu_memset": MEMSET, "Memset": MEMSET,
}  # fmt: skip
HOST = ("cpu_op", "Operator")
LAUNCHES = ("cuda_runtime", "cuda_driver", "hip_runtime", "hip_driver", "Runtime")
COPY = {"DEVICE_TO_HOST": "DtoH", "HOST_TO_DEVICE": "HtoD", "DEVICE_TO_DEVICE": "DtoD"}
RECORD = "record_param_comms"
WAITS, RECORDED, CALLED, EMBEDDING, MARK = 1, 2, 4, 8, 16  # roles of host operators
CALL_INTS = ("external", "seq", "count_in", "count_out", "group_size", "src", "dst")
CALL_NAMES = ("collective", "group", "dtype")
SPAN = {"start": "i8", "end": "i8", "name": "i4"}
CALL = {**SPAN, "stream": "i8", "device": "i2", "correlation": "i8", **dict.fromkeys(CALL_INTS, "i8"),
        **dict.fromkeys(CALL_NAMES, "i4")}  # fmt: skip
CODED_CALL = {"name": "kernels", **dict.fromkeys(CALL_NAMES, "names")}
CODED_GLOO = {"lane": "lanes", **dict.fromkeys(("name", "shape", "dtype"), "names")}
GLOO = {**SPAN, "lane": "i4", "shape": "i4", "elements": "i8", "dtype": "i4", "peer": "i8", "tag": "i8", "waits": "?"}


class Rows:
    """Columns of everything kept; times are ns since the trace's base. `host` also keeps plain CPU operators."""

    CODING: ClassVar[Coding] = {
        "device": {"name": "kernels"}, "calls": CODED_CALL, "recorded": CODED_CALL, "launches": {},
        "marks": {"name": "names", "lane": "lanes"}, "operator_rows": {"name": "operators", "lane": "lanes"},
        "gloo_calls": CODED_GLOO, "gloo_work": CODED_GLOO, "tokens": {"weight": "names"},
    }  # fmt: skip

    def __init__(self, *, host: bool) -> None:
        self.host = host
        self.kernels = Judged(lambda name: int(is_communication(name)))
        self.operators = Judged(_role)
        self.names, self.lanes = Names(), Names()
        device = {**SPAN, "kind": "i1", "stream": "i4", "device": "i2", "correlation": "i8", "bytes": "i8"}
        self.device, self.calls, self.recorded = Columns(device), Columns(CALL), Columns(CALL)
        self.launches = Columns({"correlation": "i8", "start": "i8", "end": "i8"})
        self.marks = Columns({**SPAN, "lane": "i4", "on_device": "?"})
        self.operator_rows = Columns({**SPAN, "lane": "i4"})
        self.gloo_calls, self.gloo_work = Columns(GLOO), Columns(GLOO)
        self.devices: set[int] = set()
        self.tokens = Columns({"start": "i8", "tokens": "i8", "weight": "i4"})
        self.groups: dict[str, Args] = {}
        self.named_streams = False
        self.first_ns, self.last_ns, self.clamped, self.timed = 2**62, -(2**62), 0, 0
        self._unmerged = 0

    def add(self, events: list[Event]) -> None:
        """Keep what is wanted of one block."""
        by_class: dict[str, list[Event]] = defaultdict(list)
        for event in events:
            if event.ph == "X":
                by_class[event.cat].append(event)
        for name, found in by_class.items():
            if name in DEVICE:
                self._add_device(found, DEVICE[name])
            elif name in ("user_annotation", "gpu_user_annotation"):
                self._add_annotations(found, on_device=name.startswith("gpu"))
            elif name in HOST:
                self._add_operators(found)
            elif name in LAUNCHES:
                self._add_launches(found)
            elif name == "python_function":
                self._add_marks([event for event in found if phase(event.name) == "gc"], on_device=False)

    def _spans(self, events: Sequence[Event]) -> tuple[Array, Array]:
        """Return start and end in ns; ends before the start are clamped and counted."""
        start = times([event.ts for event in events])
        length = times([event.dur for event in events])
        if len(start):
            self.timed += len(start)
            self.clamped += int((length < 0).sum())
            self.first_ns = min(self.first_ns, int(start.min()))
            self.last_ns = max(self.last_ns, int(start.max()))
        return start, start + np.maximum(length, 0)

    def _add_device(self, events: list[Event], kind: int) -> None:
        start, end = self._spans(events)
        device = np.clip(numbers([event.pid for event in events]), -1, 2**15 - 1)
        self.devices.update(np.unique(device).tolist())
        args = arguments(events, DeviceArgs)
        kinds, size = np.full(len(events), kind), np.full(len(events), -1)
        if kind == KERNEL:
            codes, moves = self.kernels.codes([event.name for event in events])
        else:
            codes, moves = self.kernels.names.codes(_copy_name(event.name) for event in events), np.zeros(len(events))
        if kind == MEMCPY:
            size = numbers([one.bytes for one in args])
        elif events[0].cat == "mtia_ccp_events":
            copies = np.array([event.name == "dma_request" for event in events])
            kinds, size = np.where(copies, MEMCPY, kinds), numbers([one.size for one in args])
            ways = self.kernels.names.codes(COPY.get(str(one.direction), "") for one in args)
            codes = np.where(copies, ways, codes)
        known = {
            "start": start, "end": end, "name": codes, "stream": self._streams([event.tid for event in events]),
            "device": device, "correlation": numbers([one.correlation for one in args]),
        }  # fmt: skip
        if moves.any():
            rows = np.flatnonzero(moves)
            self._add_calls(self.calls, arguments([events[row] for row in rows], Args), rows, **known)
            rest = np.flatnonzero(moves == 0)
            known = {name: column[rest] for name, column in known.items()}
            kinds, size = kinds[rest], size[rest]
        self.device.add(kind=kinds, bytes=size, **known)

    def _streams(self, values: list[Any]) -> Array:
        try:
            return np.array(values, dtype=np.int64)
        except (TypeError, ValueError, OverflowError):
            self.named_streams = True  # their numbers cannot be told from others later
            known = (number(value) if isinstance(value, int) else self.lanes.codes([value])[0] for value in values)
            return np.fromiter(known, dtype=np.int64, count=len(values))

    def _add_calls(self, table: Columns, chosen: list[Args], rows: Array, **known: Array) -> None:
        """Add calls: `chosen` [rows] arguments, `rows` the rows of the `known` columns."""
        for one in chosen:
            if one.group != "" and str(one.group) not in self.groups:
                self.groups[str(one.group)] = msgspec.structs.replace(one, dims=Raw(), types=Raw(), inputs=Raw())
        columns = {name: column[rows] for name, column in known.items()}
        for name in CALL_INTS:
            columns[name] = numbers([getattr(one, name) for one in chosen])
        for name in CALL_NAMES:
            columns[name] = self.names.codes(str(getattr(one, name)) for one in chosen)
        table.add(**columns)

    def _add_annotations(self, events: list[Event], *, on_device: bool) -> None:
        gloo = [event for event in events if event.name.startswith("gloo:")]
        self._add_gloo(self.gloo_work, gloo, flat=True)
        self._add_marks([event for event in events if _marks(event.name)], on_device=on_device)

    def _add_marks(self, events: list[Event], *, on_device: bool) -> None:
        if not events:
            return
        start, end = self._spans(events)
        lane = self.lanes.codes([event.tid for event in events])
        name = self.names.codes(event.name for event in events)
        self.marks.add(start=start, end=end, name=name, lane=lane, on_device=np.full(len(events), on_device))

    def _add_launches(self, events: list[Event]) -> None:
        correlation = numbers([one.correlation for one in arguments(events, DeviceArgs)])
        start = times([event.ts for event in events])
        end = start + np.maximum(times([event.dur for event in events]), 0)
        self.launches.add(correlation=correlation, start=start, end=end)

    def _add_operators(self, events: list[Event]) -> None:
        name, role = self.operators.codes([event.name for event in events])
        for bit, add in (
            (RECORDED, self._add_recorded), (CALLED, self._add_called), (EMBEDDING, self._add_tokens),
            (MARK, self._add_host_marks),
        ):  # fmt: skip
            rows = np.flatnonzero(role & bit)
            if len(rows):
                add([events[row] for row in rows])
        if not self.host:
            return
        start, end = self._spans(events)
        lane = self.lanes.codes([event.tid for event in events])
        own = np.flatnonzero(role & WAITS == 0)
        rows = own[outermost(lane[own], start[own], end[own])]
        self.operator_rows.add(start=start[rows], end=end[rows], name=name[rows], lane=lane[rows])
        self._unmerged += 1
        if self._unmerged % 16 == 0:  # an operator may be in a later block than what it encloses
            self.keep_outermost()

    def keep_outermost(self) -> None:
        """Drop host operators that lie in others."""
        known = self.operator_rows.done()
        self.operator_rows.keep(outermost(known["lane"], known["start"], known["end"]))

    def _add_called(self, events: list[Event]) -> None:
        self._add_gloo(self.gloo_calls, events, flat=False)

    def _add_host_marks(self, events: list[Event]) -> None:
        self._add_marks(events, on_device=False)

    def _add_recorded(self, events: list[Event]) -> None:
        args = arguments(events, Args)
        rows = np.array([row for row, one in enumerate(args) if one.collective not in ("", "wait")], dtype=np.int64)
        if not len(rows):
            return
        start, end = self._spans(events)
        unknown = np.full(len(events), -1)
        name = self.kernels.names.codes(event.name for event in events)
        self._add_calls(self.recorded, [args[row] for row in rows], rows, start=start, end=end, name=name,
                        stream=unknown, device=unknown, correlation=unknown)  # fmt: skip

    def _add_tokens(self, events: list[Event]) -> None:
        found = zip(events, map(first_tokens, arguments(events, Args)), strict=True)
        seen = [(event, *shape) for event, shape in found if shape is not None]
        if seen:
            self.tokens.add(start=times([event.ts for event, _, _ in seen]), tokens=[count for _, count, _ in seen],
                            weight=self.names.codes(weight for _, _, weight in seen))  # fmt: skip

    def _add_gloo(self, table: Columns, events: list[Event], *, flat: bool) -> None:
        if not events:
            return
        start, end = self._spans(events)
        args = arguments(events, Args)
        shapes = [call_shape(event.name, one, flat=flat) for event, one in zip(events, args, strict=True)]
        table.add(
            start=start, end=end, name=self.names.codes(event.name for event in events),
            lane=self.lanes.codes([event.tid for event in events]),
            shape=self.names.codes(shape.dims for shape in shapes), elements=[shape.elements for shape in shapes],
            dtype=self.names.codes(shape.dtype for shape in shapes), peer=[shape.peer for shape in shapes],
            tag=[shape.tag for shape in shapes], waits=[shape.waits for shape in shapes],
        )  # fmt: skip


def _marks(name: str) -> bool:
    return name.startswith("ProfilerStep#") or phase(name) != ""


def _role(name: str) -> int:
    """Return what a host operator of this name is good for, as bits."""
    role = WAITS if WAITING.search(name) else 0
    if name.startswith("c10d::"):
        role |= CALLED
    if name.startswith(("ProfilerStep#", "enumerate(", "Python GC")) or name == "gc":
        role |= MARK
    return role | {RECORD: RECORDED, "aten::embedding": EMBEDDING}.get(name, 0)


def _copy_name(name: str) -> str:
    """Return the direction of a copy: "HtoD" of "Memcpy HtoD (Pinned -> Device)"."""
    words = name.split(" ", 2)
    return words[1] if len(words) > 1 and words[0] == "Memcpy" else ""
