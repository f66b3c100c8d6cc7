"""The tables of a detailed reading: host calls in their nesting, device work with its launch, allocations."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..contracts import Coded
from ._kineto_call_rows import KINDS, OPERATOR, RUNTIME, WORK, CallRows
from ._kineto_calls import with_recorded
from ._kineto_columns import Array, by_chunks, compact
from ._kineto_names import element
from ._kineto_nesting import nesting
from ._kineto_ops import device_steps, streams, thread_numbers
from ._kineto_rows import MEMCPY, Rows
from ._kineto_steps import Marks

CPU_TYPE = 0  # of "Device Type", as c10 numbers them
BY_GRAPH = "GraphLaunch"
TIES = np.int64(1) << 48
OUTER_FIRST = (2, 3, 1, 1, 0)  # of equal spans: annotations enclose modules, these operators, these runtime calls

Tables = list[tuple[str, dict[str, Any]]]


def detail_tables(detail: CallRows, rows: Rows, mark: Marks) -> Tables:
    """Return `operators`, `device_work` and `allocations`; times since the base, in ns.

    The call of device work is the innermost operator around the runtime call with its correlation id, else whatever
    encloses that call, else that call. Where no such call was recorded, it is the operator with its external id.
    """
    tree = _Tree(detail, _threads(detail, rows, mark))
    return [
        ("operators", _operators(tree, detail, mark)), ("device_work", _work(tree, detail, rows, mark)),
        ("allocations", _allocations(tree, detail, mark)),
    ]  # fmt: skip


class _Tree:
    """Host calls by thread and start; rows are numbered in that order, -1 is none.

    `calls` are their columns, `parent` the call around each, `owner` the innermost operator around each, itself
    counted, `around` the call around each allocation.
    """

    def __init__(self, detail: CallRows, threads: Array) -> None:
        found, memory = detail.calls.done(), detail.memory.done()
        if len(threads):
            found, memory = ({**part, "lane": threads[part["lane"]]} for part in (found, memory))
        count, moments = len(found["start"]), len(memory["t"])
        order, parent = _nested(found, memory)
        own = order < count
        number = np.cumsum(own) - 1  # of the call at each place
        above = np.where(parent >= 0, number[parent], -1) if len(parent) else parent
        self.calls = {name: column[order[own]] for name, column in found.items()}
        self.parent = above[own]
        self.owner = _owners(self.parent, self.calls["kind"] == OPERATOR)
        self.around = np.full(moments, -1, dtype=np.int64)
        self.around[order[~own] - count] = above[~own]

    def of_work(self, call: Array) -> Array:
        """Return the call to name for device work launched by `call` (-1 unknown)."""
        if not len(self.parent):
            return call
        owner = np.where(self.owner[call] >= 0, self.owner[call], self.parent[call])
        return np.where(call < 0, -1, np.where(owner >= 0, owner, call))

    def named(self, call: Array) -> Array:
        """Return the innermost operator around each call, itself counted; the call where there is none."""
        if not len(self.parent):
            return call
        return np.where((call >= 0) & (self.owner[call] >= 0), self.owner[call], call)


def _nested(found: dict[str, Array], memory: dict[str, Array]) -> tuple[Array, Array]:
    """Return order and parents of all calls and behind them of all allocations, as calls without length."""
    tie = np.array(OUTER_FIRST, dtype=np.int64)[found["kind"]]
    number = np.where(found["kind"] == RUNTIME, 0, np.clip(found["external"], -1, TIES - 2) + 1)
    last = np.full(len(memory["t"]), 2**62)
    return nesting(
        np.concatenate([found["lane"], memory["lane"]]), np.concatenate([found["start"], memory["t"]]),
        np.concatenate([found["end"], memory["t"]]), np.concatenate([tie * TIES + number, last]),
    )  # fmt: skip


def _owners(parent: Array, is_operator: Array) -> Array:
    """Return the nearest operator at or above each call; parents come before their children.

    >>> _owners(np.array([-1, 0, 1]), np.array([True, False, False])).tolist()
    [0, 0, 0]
    """
    owner = np.where(is_operator, np.arange(len(parent)), -1)
    up = parent.copy()
    open_rows = np.flatnonzero((owner < 0) & (up >= 0))
    while len(open_rows):  # as often as calls that are no operators lie within one another
        above = up[open_rows]
        owner[open_rows] = owner[above]
        up[open_rows] = up[above]
        open_rows = open_rows[(owner[open_rows] < 0) & (up[open_rows] >= 0)]
    return owner


def _operators(tree: _Tree, detail: CallRows, mark: Marks) -> dict[str, Any]:
    calls = tree.calls
    if not len(calls["start"]):
        return {}
    texts = _texts(detail)
    return {
        "step": by_chunks(mark.host.of, "i8", calls["start"]), "call": np.arange(len(tree.parent)),
        "parent": tree.parent, "thread": calls["lane"],
        "kind": compact(calls["kind"], KINDS), "name": compact(calls["name"], detail.names.values),
        "start_ns": calls["start"], "end_ns": calls["end"],
        **{name: compact(calls[name], texts) for name in ("shapes", "dtypes", "values")},
        "sequence": calls["sequence"], "correlation": calls["correlation"],
    }  # fmt: skip


def _texts(detail: CallRows) -> list[str]:
    """Return the texts of arguments with their white space made plain."""
    spaced = (" ".join(text.split()) for text in detail.texts.values)
    return [text.replace("[ ", "[").replace(" ]", "]") for text in spaced]


def _threads(detail: CallRows, rows: Rows, mark: Marks) -> Array:
    """Return the number of each lane: as in `ops` where the light reading met its thread, else the next ones."""
    known: dict[Any, int] = dict(zip(rows.lanes.values, thread_numbers(rows, mark).tolist(), strict=False))
    free = max(known.values(), default=-1) + 1
    numbers = []
    lanes: list[Any] = detail.lanes.values
    for _, thread in lanes:
        numbers.append(known.pop(thread, free))
        free += numbers[-1] == free
    return np.array(numbers, dtype=np.int64)


def _work(tree: _Tree, detail: CallRows, rows: Rows, mark: Marks) -> dict[str, Any]:
    found = detail.work.done()
    if not len(found["start"]):
        return {}
    launch = _launches(tree, found["correlation"])
    begun, ended = (_taken(tree.calls[name], launch) for name in ("start", "end"))
    call = np.where(launch >= 0, tree.of_work(launch), _by_external(tree, found))
    stream = streams(found["stream"], found["device"], several=len(rows.devices) > 1)
    _complete(found, detail, rows)
    texts = _texts(detail)
    graph = np.where(found["graph"] > 0, found["graph"], -1)
    by_graph = np.array([BY_GRAPH in name for name in detail.names.values] or [False])
    unnamed = (graph < 0) & (launch >= 0) & by_graph[_taken(tree.calls["name"], launch)]
    order = np.lexsort((found["end"], found["start"], stream))
    table = {
        "step": by_chunks(partial(device_steps, mark), "i8", found["start"], begun), "device": found["device"],
        "stream": stream, "kind": found["kind"], "name": found["name"], "start_ns": found["start"],
        "end_ns": found["end"], "launch_ns": begun, "launch_end_ns": ended, "call": call,
        "correlation": found["correlation"], "message_bytes": found["bytes"], "grid": found["grid"],
        "block": found["block"], "registers": found["registers"], "shared_memory_bytes": found["shared"],
        "occupancy_percent": found["occupancy"], "graph": np.where(unnamed, 0, graph),
    }  # fmt: skip
    table = {name: column[order] for name, column in table.items()}
    coded: dict[str, Coded] = {
        "kind": compact(table["kind"], WORK), "name": compact(table["name"], detail.kernels.names.values),
        "grid": compact(table["grid"], texts), "block": compact(table["block"], texts),
    }  # fmt: skip
    return {**table, **coded}


def _taken(column: Array, row: Array) -> Array:
    """Return the values of rows, -1 for rows below 0."""
    return np.where(row >= 0, column[row], -1) if len(column) else np.full(len(row), -1)


def _launches(tree: _Tree, correlation: Array) -> Array:
    """Return the runtime call with each correlation id, the first one of several; -1 for none."""
    runtime = np.flatnonzero((tree.calls["kind"] == RUNTIME) & (tree.calls["correlation"] >= 0))
    return _found(tree.calls["correlation"][runtime], runtime, correlation)


def _found(ids: Array, rows: Array, wanted: Array) -> Array:
    """Return the row of the first id that equals each wanted one, -1 for none or one below 0."""
    if not len(ids):
        return np.full(len(wanted), -1)
    order = np.argsort(ids, kind="stable")
    place = np.minimum(np.searchsorted(ids[order], wanted), len(ids) - 1)
    return np.where((ids[order][place] == wanted) & (wanted >= 0), rows[order[place]], -1)


def _by_external(tree: _Tree, found: dict[str, Array]) -> Array:
    """Return the operator with the external id of each row; old traces repeat the correlation id there."""
    calls = tree.calls
    named = np.flatnonzero((calls["kind"] == OPERATOR) & (calls["external"] > 0))
    wanted = np.where(found["external"] == found["correlation"], -1, found["external"])
    call = _found(calls["external"][named], named, wanted)
    return np.where((call >= 0) & (_taken(calls["start"], call) <= found["start"]), call, -1)


def _complete(found: dict[str, Array], detail: CallRows, rows: Rows) -> None:
    """Fill in what the launching HIP call knows better, and the input size of collectives."""
    told = detail.launched.done()
    if len(told["correlation"]):
        of = _found(told["correlation"], np.arange(len(told["correlation"])), found["correlation"])
        empty = detail.texts.codes([""])[0]
        for name, lacks in (("bytes", found["kind"] == MEMCPY), ("shared", found["kind"] != MEMCPY)):
            found[name] = np.where(lacks & (found[name] < 0), _taken(told[name], of), found[name])
        for name in ("grid", "block"):
            found[name] = np.where((found[name] == empty) & (of >= 0), _taken(told[name], of), found[name])
    moved = np.flatnonzero(found["kind"] == WORK.index("communication"))
    calls = rows.calls.done()
    if len(moved) and np.array_equal(calls["start"], found["start"][moved]):  # the same events in the same order
        known = with_recorded(calls, rows)
        size = np.array([element(text)[1] for text in rows.names.values], dtype=np.int64)[known["dtype"]]
        found["bytes"][moved] = np.where((known["count_in"] >= 0) & (size > 0), known["count_in"] * size, -1)


def _allocations(tree: _Tree, detail: CallRows, mark: Marks) -> dict[str, Any]:
    found = detail.memory.done()
    if not len(found["t"]):
        return {}
    places, code = np.unique(np.stack([found["type"], found["device"]], axis=1), axis=0, return_inverse=True)
    devices = ["cpu" if kind == CPU_TYPE else f"gpu{max(device, 0)}" for kind, device in places.tolist()]
    order = np.argsort(found["t"], kind="stable")
    table = {
        "step": mark.host.of(found["t"]), "t_ns": found["t"], "size_bytes": found["size"],
        "allocated_bytes": found["allocated"], "reserved_bytes": found["reserved"], "address": found["address"],
        "call": tree.named(tree.around),
    }  # fmt: skip
    table = {name: column[order] for name, column in table.items()}
    return {**table, "device": Coded(code.reshape(-1)[order], devices)}
