"""What device tracers recorded, to tables: steps, ops, collectives; in detail also host calls and device work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..contracts import Columns
from . import _device_detail
from ._device_trace import ANNOTATION, COMMUNICATION, KERNEL, KINDS, MEMCPY, MEMSET, RUNTIME, WAIT, WAITS, Process
from ._kineto_columns import Array, Names, compact, ordinal
from ._kineto_names import SPANS, algorithm, is_communication, operation
from ._step_marks import COUNTED, NO_STEPS, Marked, Ranges, marked, steps_table

ABOUT_STEPS = (NO_STEPS, COUNTED)
DEVICE_STRIDE = 100_000  # streams of several devices in one process are told apart by this


@dataclass(frozen=True)
class Tables:
    """Batches of one process and what is to be said about them."""

    batches: list[tuple[str, Columns]]
    warnings: tuple[str, ...]


def tables(process: Process, base_ns: int, source: str, *, detail: bool = False) -> Tables:
    """Return `steps`, `ops` and `collectives` (and `operators`, `device_work`) of a process.

    `base_ns` is the Unix time of the trace's zero; 0 leaves times on the trace's clock.
    """
    host, work = process.host.done(), process.work.done()
    names = process.names.values
    kind = np.where(_communicates(process, names)[work["name"]] & (work["kind"] == KERNEL), COMMUNICATION, work["kind"])
    work = {**work, "kind": kind, "stream": _streams(work)}
    ranges = _ranges(host, names)
    marks = marked(ranges)
    launch = launches(host, work["correlation"])
    step = _steps_of(marks, work["start"], launch[0], on_device=process.on_device)
    found: list[tuple[str, dict[str, Any]]] = [
        ("steps", _named(steps_table(marks, ranges))), ("ops", _ops(work, launch, step, names, marks, ranges)),
        ("collectives", _collectives(process, work, step, names)),
    ]  # fmt: skip
    if detail:
        found += _device_detail.batches(process, host, work, launch, step, marks, names)
    made = [(table, _dated(columns, base_ns)) for table, columns in found if len(columns.get("start_ns", ()))]
    both = {"job": "job", "rank": process.rank, "source": source}
    return Tables([(table, {**both, **columns}) for table, columns in made], marks.warnings)


def _named(columns: dict[str, Any]) -> dict[str, Any]:
    return {**columns, "phase": columns["phase"].tolist()}


def _communicates(process: Process, names: list[str]) -> Array:
    return np.array([is_communication(name) or name in process.operations for name in names] or [False])


def _ranges(host: dict[str, Array], names: list[str]) -> Ranges:
    rows = np.flatnonzero(host["kind"] == ANNOTATION)
    return Ranges(host["start"][rows], host["end"][rows], host["name"][rows], host["thread"][rows], names)


def _streams(work: dict[str, Array]) -> Array:
    devices = np.unique(work["device"])
    return work["stream"] + np.maximum(work["device"], 0) * DEVICE_STRIDE if len(devices) > 1 else work["stream"]


def launches(host: dict[str, Array], wanted: Array) -> tuple[Array, Array, Array]:
    """Return start, end and row of the runtime call behind each correlation id, -1 where there is none."""
    rows = np.flatnonzero((host["correlation"] >= 0) & np.isin(host["kind"], (RUNTIME, WAITS)))
    unknown = np.full(len(wanted), -1, dtype=np.int64)
    if not len(rows):
        return unknown, unknown, unknown
    rows = rows[np.argsort(host["correlation"][rows], kind="stable")]
    ids = host["correlation"][rows]
    place = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    known = (ids[place] == wanted) & (wanted >= 0)
    row = rows[place]
    return tuple(np.where(known, part, -1) for part in (host["start"][row], host["end"][row], row))  # type: ignore[return-value]


def _steps_of(marks: Marked, start: Array, launch: Array, *, on_device: bool) -> Array:
    """Return the step of device work: by its launch, else (or if steps are the device's own) by its start."""
    if on_device:
        return marks.steps.of(start)
    return np.where(launch >= 0, marks.steps.of(launch), marks.steps.of(start))


def _ops(
    work: dict[str, Array], launch: tuple[Array, Array, Array], step: Array, names: list[str], marks: Marked,
    ranges: Ranges,
) -> dict[str, Any]:  # fmt: skip
    """Return compute, copies and fills of the device, and the host's data, gc, checkpoint and eval spans, by time."""
    rows = np.flatnonzero(work["kind"] <= MEMSET)
    own = np.isin(marks.phases.astype(str), SPANS)
    spans, phases = marks.rows[own], marks.phases[own]
    words = (*KINDS[:WAIT], *SPANS)
    lanes = np.unique(ranges.lane)
    lane = np.where(ranges.lane[spans] == marks.main_lane, 0, 1 + np.searchsorted(lanes, ranges.lane[spans]))
    kind = [words.index(str(name)) for name in phases]
    none = np.full(len(spans), -1, dtype=np.int64)
    table = {
        "start_ns": (work["start"], ranges.start[spans]), "end_ns": (work["end"], ranges.end[spans]),
        "op": (work["kind"], np.array(kind, dtype=np.int64)), "stream": (work["stream"], lane),
        "name": (work["name"], none), "message_bytes": (work["bytes"], none), "launch_ns": (launch[0], none),
        "launch_end_ns": (launch[1], none), "step": (step, marks.steps.of(ranges.start[spans])),
    }  # fmt: skip
    joined = {name: np.concatenate([device[rows], host]).astype(np.int64) for name, (device, host) in table.items()}
    words_of = Names()
    joined["name"] = _of_names(words_of, names, joined["name"], _same)
    copied = joined["op"] == MEMCPY
    joined["name"][copied] = _of_names(words_of, names, work["name"][rows[work["kind"][rows] == MEMCPY]], _direction)
    joined["name"][joined["op"] == MEMSET] = words_of.codes([""])[0]
    order = np.lexsort((joined["stream"], joined["end_ns"], joined["start_ns"]))
    joined = {name: column[order] for name, column in joined.items()}
    return {**joined, "op": compact(joined["op"], words), "name": compact(joined["name"], words_of.values)}


def _collectives(process: Process, work: dict[str, Array], step: Array, names: list[str]) -> dict[str, Any]:
    """Return communication kernels by time; without recorded numbers the k-th of a kind in a group has number k."""
    rows = np.flatnonzero(work["kind"] == COMMUNICATION)
    rows = rows[np.lexsort((work["stream"][rows], work["end"][rows], work["start"][rows]))]
    start, name, told = work["start"][rows], work["name"][rows], process.told
    texts = Names()
    none = int(texts.codes([""])[0])
    op, algo, proto = (
        _of_names(texts, names, name, part)
        for part in (partial(_operation, process.operations), _algorithm, _protocol)
    )  # fmt: skip
    group = np.full(len(rows), none)
    unknown = np.full(len(rows), -1, dtype=np.int64)
    size, moved = unknown, work["bytes"][rows]
    if told:
        op = np.where(told.op[rows] >= 0, _of_names(texts, names, told.op[rows], _same), op)
        group = np.where(told.group[rows] >= 0, _of_names(texts, names, told.group[rows], _same), none)
        size, moved = told.group_size[rows], told.message_bytes[rows]
    values = texts.values
    coded = {"group": group, "op": op, "op_class": op, "algo": algo, "proto": proto}
    return {
        **{column: compact(codes, values) for column, codes in coded.items()}, "seq": ordinal([op, group], start),
        "step": step[rows], "ready_ns": start, "start_ns": start, "end_ns": work["end"][rows], "message_bytes": moved,
        "group_size": size, "stream": work["stream"][rows], "blocking": False, "state": "completed",
    }  # fmt: skip


def _of_names(texts: Names, names: list[str], codes: Array, part: Callable[[str], str]) -> Array:
    """Return for each code of a name the code in `texts` of what `part` makes of it; that of "" for codes below 0."""
    used = np.unique(codes[codes >= 0])
    made = np.full(len(names) + 1, texts.codes([""])[0])
    made[used] = texts.codes(part(names[one]) for one in used.tolist())
    return made[codes]


def _same(name: str) -> str:
    return name


def _direction(name: str) -> str:
    """Return the direction of a copy without its kinds of memory."""
    return name.partition(" (")[0]


def _operation(known: Mapping[str, str], name: str) -> str:
    return known.get(name) or operation(name)


def _algorithm(name: str) -> str:
    return algorithm(name)[0]


def _protocol(name: str) -> str:
    return algorithm(name)[1]


def _dated(columns: dict[str, Any], base_ns: int) -> dict[str, Any]:
    """Return the columns with times since the epoch; unknown ones stay -1."""

    def moved(column: Array) -> Array:
        return np.where(column == -1, -1, column + base_ns) if base_ns else column

    return {name: moved(column) if name.endswith("_ns") else column for name, column in columns.items()}


def said(found: Sequence[Tables]) -> list[str]:
    """Return the warnings of several processes, each once; that there are no steps only where none has any."""
    warnings = dict.fromkeys(line for one in found for line in one.warnings)
    none = all(NO_STEPS in one.warnings for one in found)
    return [line for line in warnings if none or line != NO_STEPS]
