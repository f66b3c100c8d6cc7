"""The `ops` rows of a trace: compute kernels, copies, host operators, and data, gc, checkpoint and eval spans."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..contracts import Coded
from ._kineto_columns import CHUNK, Array, Columns, by_chunks, outermost
from ._kineto_names import SPANS
from ._kineto_rows import Rows
from ._kineto_steps import Marks, phase_rows

OPS = ("kernel", "memcpy", "memset", "cpu", *SPANS)
CPU = OPS.index("cpu")
NAMED = 200  # names kept: those with the largest total time
LONG_NS = 1_000_000  # host operators above keep their name
OP = {"start": "i8", "end": "i8", "op": "i1", "name": "i4", "stream": "i4", "bytes": "i8", "launch": "i8",
      "launch_end": "i8", "step": "i4"}  # fmt: skip
DEVICE_STRIDE = 100_000  # streams of several devices in one process are told apart by this


def op_table(rows: Rows, mark: Marks) -> dict[str, Any]:
    """Return the columns of `ops` in order of time; times since the base, in ns. Uses up the device's rows."""
    spans, kind = phase_rows(mark)
    own = np.isin(kind.astype(str), SPANS)
    spans, kind = spans[own], np.array([OPS.index(name) for name in kind[own]], dtype=np.int8)
    thread = thread_numbers(rows, mark)
    on_device = bool(len(rows.device)) or not rows.host
    others = spans[kind != OPS.index("gc")]
    work = _device(rows, mark) if on_device else _operators(rows, mark, thread, others)
    start, end = mark.start[spans], mark.end[spans]
    extra = {"start": start, "end": end, "op": kind, "step": mark.host.of(start),
             "stream": thread[mark.lane[spans]] if len(spans) else spans}  # fmt: skip
    unknown = np.full(len(spans), -1)
    table = {name: np.concatenate([work.pop(name), extra.get(name, unknown)]).astype(OP[name]) for name in OP}
    order = np.lexsort((table["op"], table["stream"], table["end"], table["start"])).astype(np.int32)
    for name in OP:
        table[name] = table[name][order]
    return {**table, "names": (rows.kernels if on_device else rows.operators).names.values}


def launch_times(known: dict[str, Array], correlation: Array) -> tuple[Array, Array]:
    """Return when the host began and ended launching the device work of each correlation id, -1 where unseen.

    `known` are the columns of the launches; they are used up, as they are among the largest that a trace leaves.
    """
    ids = known.pop("correlation")
    if not len(ids):
        return np.full(len(correlation), -1), np.full(len(correlation), -1)
    order = np.argsort(ids, kind="stable").astype(np.int32)
    ids = ids[order]
    row = by_chunks(partial(_launch_row, ids, order), "i4", correlation)
    del ids, order, correlation
    begun = by_chunks(partial(_of_launch, known.pop("start")), "i8", row)
    return begun, by_chunks(partial(_of_launch, known.pop("end")), "i8", row)


def _launch_row(ids: Array, order: Array, wanted: Array) -> Array:
    place = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where((ids[place] == wanted) & (wanted >= 0), order[place], -1)


def _of_launch(times: Array, row: Array) -> Array:
    return np.where(row >= 0, times[row], -1)


def device_steps(mark: Marks, start: Array, launch: Array) -> Array:
    """Return the step of device work: by the device's marks, else by its launch, else by its start."""
    step = mark.device.of(start)
    step = np.where((step < 0) & (launch >= 0), mark.host.of(launch), step)
    return np.where((step < 0) & (launch < 0), mark.host.of(start), step)


def streams(stream: Array, device: Array, *, several: bool) -> Array:
    """Return stream numbers that differ between the devices of one process."""
    return np.maximum(device, 0).astype(np.int64) * DEVICE_STRIDE + stream if several else stream


def thread_numbers(rows: Rows, mark: Marks) -> Array:
    """Return a small number for each thread, 0 for the one with the steps (else the first seen); shape [threads]."""
    number = np.arange(max(len(rows.lanes), 1))
    if mark.main_lane > 0:
        number[: mark.main_lane] += 1
        number[mark.main_lane] = 0
    return number


def coded(values: list[str], codes: Array, weight: Array, keep: Array) -> Coded:
    """Return names as codes: those with the largest total `weight`, and those of rows with `keep`; others "".

    >>> coded(["a", "b"], np.array([0, 1]), np.array([1, 2]), np.array([False, False])).values
    ['b', 'a']
    """
    total, seen, wanted = (np.zeros(len(values) + 1) for _ in range(3))  # the last one is for codes of -1
    for at in range(0, len(codes), CHUNK):
        part = slice(at, at + CHUNK)
        total += np.bincount(codes[part] + 1, weight[part], len(total))
        seen += np.bincount(codes[part] + 1, minlength=len(total))
        wanted[codes[part][keep[part]]] = 1
    total, seen = total[1:], seen[1:]
    kept = np.argsort(-total, kind="stable")[:NAMED]
    kept = kept[seen[kept] > 0]
    kept = np.concatenate([kept, np.setdiff1d(np.flatnonzero(wanted[:-1]), kept)])
    place = np.full(len(values) + 1, -1)
    place[kept] = np.arange(len(kept))
    return Coded(place.astype(np.int16 if len(kept) < 2**15 else np.int32)[codes], [values[code] for code in kept])


def _device(rows: Rows, mark: Marks) -> dict[str, Array]:
    found = rows.device
    launches = rows.launches.done()
    rows.launches = Columns(rows.launches.types)
    launch, launch_end = launch_times(launches, found.pop("correlation"))
    start = found.pop("start")
    stream = streams(found.pop("stream"), found.pop("device"), several=len(rows.devices) > 1)
    return {
        "start": start, "end": found.pop("end"), "op": found.pop("kind"), "name": found.pop("name"), "stream": stream,
        "bytes": found.pop("bytes"), "launch": launch, "launch_end": launch_end,
        "step": by_chunks(partial(device_steps, mark), "i4", start, launch),
    }  # fmt: skip


def _operators(rows: Rows, mark: Marks, thread: Array, spans: Array) -> dict[str, Array]:
    """Return host operators that lie in no other operator and in no span that is an op of its own."""
    found = rows.operator_rows.done()
    count = len(found["start"])
    lane = np.concatenate([found["lane"], mark.lane[spans]])
    start, end = (np.concatenate([found[name], getattr(mark, name)[spans]]) for name in ("start", "end"))
    kept = outermost(lane, start, end)
    own = kept[kept < count]
    unknown = np.full(len(own), -1)
    return {
        "start": start[own], "end": end[own], "op": np.full(len(own), CPU), "name": found["name"][own],
        "stream": thread[lane[own]] if len(own) else own, "bytes": unknown, "step": mark.host.of(start[own]),
        "launch": unknown, "launch_end": unknown,
    }  # fmt: skip
