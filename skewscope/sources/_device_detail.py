"""The detail of device traces: host calls in their nesting, and device work with the call that launched it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ..contracts import Coded
from ._device_trace import ANNOTATION, CALLS, COMMUNICATION, EXTRA, KINDS, OPERATOR, Process
from ._kineto_columns import Array, Names, compact, outermost
from ._step_marks import Marked

# As torch.autograd.profiler.emit_nvtx writes: "aten::mm, seq = 12, op_id = 40, sizes = [[2, 3], [3, 4]]".
EMITTED = re.compile(
    r"^(?P<name>[^,]+)(?:, seq = (?P<seq>-?\d+))?(?:, op_id = \d+)?"
    r"(?:, sizes = (?P<sizes>\[.*?\]))?(?:, input_op_ids.*)?$"
)
PYTORCH = re.compile(r"^[a-z_0-9]+::\w+|, (?:seq|op_id|sizes) = ")
DEEPEST = 200


def batches(
    process: Process, host: dict[str, Array], work: dict[str, Array], launch: tuple[Array, Array, Array], step: Array,
    marks: Marked, names: list[str],
) -> list[tuple[str, dict[str, Any]]]:  # fmt: skip
    """Return `operators` and `device_work`; `launch` are start, end and row in `host` of each launch, -1 unknown."""
    order, parent = nesting(host["thread"], host["start"], host["end"])
    call = np.empty(len(order), dtype=np.int64)
    call[order] = np.arange(len(order))
    above = np.where(parent >= 0, call[np.maximum(parent, 0)], -1) if len(call) else parent
    emitted = _operators(names)[host["name"]] & (host["kind"] == ANNOTATION)
    kind = np.where(emitted, OPERATOR, host["kind"])
    owner = _owners(parent, kind == OPERATOR)
    owner = np.where(owner >= 0, call[np.maximum(owner, 0)], above) if len(call) else above
    threads = _numbered(host["thread"], marks.main_lane)
    texts = _Texts(names)
    name, shapes, sequence = (part[host["name"]] for part in (texts.name, texts.shapes, texts.sequence))
    found: dict[str, Any] = {
        "step": marks.steps.of(host["start"]), "call": call, "parent": above, "thread": threads, "kind": kind,
        "name": name, "start_ns": host["start"], "end_ns": host["end"], "shapes": shapes, "sequence": sequence,
        "correlation": host["correlation"],
    }  # fmt: skip
    found = {column: values[order] for column, values in found.items()}
    found |= {"kind": compact(found["kind"], CALLS), "name": compact(found["name"], texts.values),
              "shapes": compact(found["shapes"], texts.values)}  # fmt: skip
    return [("operators", found), ("device_work", _work(process, host, work, launch, step, names, call, owner))]


def nesting(lane: Array, start: Array, end: Array) -> tuple[Array, Array]:
    """Return the rows in order of lane and start, longest first, and for each row the row that encloses it, -1 none.

    >>> order, parent = nesting(np.array([1, 1, 1]), np.array([0, 2, 3]), np.array([9, 5, 4]))
    >>> order.tolist(), parent.tolist()
    ([0, 1, 2], [-1, 0, 1])
    """
    order = np.lexsort((-end, start, lane))
    parent = np.full(len(order), -1, dtype=np.int64)
    rest, above = order, np.zeros(0, dtype=np.int64)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    for _ in range(DEEPEST):
        if not len(rest):
            break
        level = np.sort(place[rest[outermost(lane[rest], start[rest], end[rest])]])
        if len(above):
            at = np.searchsorted(above, level) - 1  # the last one of the level above that begins before
            holder = order[above[np.maximum(at, 0)]]
            inside = (at >= 0) & (lane[holder] == lane[order[level]]) & (end[holder] >= end[order[level]])
            parent[order[level]] = np.where(inside, holder, -1)
        above = level
        left = np.ones(len(order), dtype=bool)
        left[level] = False
        rest = rest[left[place[rest]]]
    return order, parent


def _owners(parent: Array, is_operator: Array) -> Array:
    """Return the innermost operator around each call, -1 for none."""
    owner = parent.copy()
    climbing = np.flatnonzero(owner >= 0)
    while len(climbing := climbing[~is_operator[owner[climbing]]]):
        owner[climbing] = parent[owner[climbing]]
        climbing = climbing[owner[climbing] >= 0]
    return owner


class _Texts:
    """Names, shapes and sequence numbers of ranges that PyTorch emitted, by the code of the range's text."""

    def __init__(self, names: list[str]) -> None:
        texts = Names()
        parts = [_emitted(name) for name in names] or [("", "", -1)]
        self.name = texts.codes(part[0] for part in parts)
        self.shapes = texts.codes(part[1] for part in parts)
        self.sequence = np.array([part[2] for part in parts], dtype=np.int64)
        self.values = texts.values


def _emitted(name: str) -> tuple[str, str, int]:
    found = EMITTED.match(name) if PYTORCH.search(name) else None
    if found is None:
        return name, "", -1
    return found["name"], found["sizes"] or "", int(found["seq"][:18]) if found["seq"] else -1


def _operators(names: list[str]) -> Array:
    return np.array([PYTORCH.search(name) is not None for name in names] or [False])


def _numbered(thread: Array, main: int) -> Array:
    """Return a small number for each thread, 0 for the one with the steps."""
    threads = np.unique(thread)
    threads = np.concatenate([threads[threads == main], threads[threads != main]])
    place = np.argsort(threads, kind="stable")
    return place[np.searchsorted(threads[place], thread)] if len(threads) else thread


def _work(
    process: Process, host: dict[str, Array], work: dict[str, Array], launch: tuple[Array, Array, Array], step: Array,
    names: list[str], call: Array, owner: Array,
) -> dict[str, Any]:  # fmt: skip
    """Return `device_work`; `call` and `owner` are numbers of each host call and of what counts as around it."""
    begun, ended, row = launch
    known = np.flatnonzero(row >= 0)
    of = np.full(len(row), -1, dtype=np.int64)
    of[known] = np.where(owner[row[known]] >= 0, owner[row[known]], call[row[known]])
    told = process.told
    moved = np.where(work["kind"] == COMMUNICATION, told.message_bytes, work["bytes"]) if told else work["bytes"]
    order = np.lexsort((work["start"], work["stream"]))
    found: dict[str, Any] = {
        "step": step, "device": work["device"], "stream": work["stream"], "kind": work["kind"], "name": work["name"],
        "start_ns": work["start"], "end_ns": work["end"], "launch_ns": begun, "launch_end_ns": ended, "call": of,
        "correlation": work["correlation"], "message_bytes": moved,
    }  # fmt: skip
    extra = {name: process.extra[name] for name in EXTRA if name in process.extra}
    found = {name: _ordered(values, order) for name, values in {**found, **extra}.items()}
    return {**found, "kind": compact(found["kind"], KINDS), "name": compact(found["name"], names)}


def _ordered(values: Any, order: Array) -> Any:  # noqa: ANN401 - an array or coded text
    if isinstance(values, Coded):
        return Coded(values.codes[order], values.values)
    return [values[row] for row in order.tolist()] if isinstance(values, list) else np.asarray(values)[order]
