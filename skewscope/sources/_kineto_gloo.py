"""The `collectives` rows of host traces: c10d calls (arrival) joined to the gloo work they started (completion)."""

from __future__ import annotations

import numpy as np

from ._kineto_calls import CallTable
from ._kineto_columns import Array, Names, ordinal
from ._kineto_names import element, operation
from ._kineto_ops import thread_numbers
from ._kineto_rows import Rows
from ._kineto_steps import Marks

UNEVEN = ("all_to_all", "gather", "scatter", "barrier")  # shapes differ between ranks, so they are no part of the class


def add_host_calls(table: CallTable, rows: Rows, mark: Marks, rank: int, group: str) -> None:
    """Add a row per call of a host trace; `group` is the rank's only communicator, "" where it is in several.

    The k-th call of an operation and shape belongs to the k-th gloo event of them that ends after the first call.
    """
    calls, work = rows.gloo_calls.done(), rows.gloo_work.done()
    if not len(calls["start"]) and not len(work["start"]):
        return
    texts = rows.names.values
    ops = np.array([operation(text.rsplit(":", 1)[-1]) for text in texts], dtype=object)
    kinds = np.unique(ops.astype(str))
    call_key, work_key = (_keys(part, np.searchsorted(kinds, ops.astype(str)), len(texts)) for part in (calls, work))
    if not len(calls["start"]):
        calls, call_key, paired = work, work_key, np.arange(len(work["start"]))
    else:
        steps = mark.host.of(calls["start"]), mark.host.of(work["start"])
        paired = _paired(calls["start"], call_key, work["start"], work["end"], work_key, *steps)
    done = paired >= 0
    at = np.maximum(paired, 0)
    begun = np.where(done, work["start"][at], -1) if len(work["start"]) else paired
    ended = np.where(done, work["end"][at], -1) if len(work["start"]) else paired
    kind = np.array([element(text)[0] != "" for text in texts])
    own = kind[calls["dtype"]]
    dtype = np.where(own | ~done, calls["dtype"], work["dtype"][at]) if len(work["start"]) else calls["dtype"]
    size = np.array([element(text)[1] for text in texts], dtype=np.int64)[dtype]
    channel = _channels(table, calls, ops[calls["name"]], rank)
    op_class = _classes(table, calls, ops[calls["name"]], texts)
    code = np.where(channel >= 0, channel, table.code(group))
    op = table.names.codes(ops[calls["name"]])
    table.add(
        start=begun, end=ended, ready=calls["start"], step=mark.host.of(calls["start"]), group=code,
        seq=ordinal([code, op_class, np.where(channel >= 0, -1, op)], calls["start"]), op=op, op_class=op_class,
        dtype=table.names.codes(element(text)[0] for text in texts)[dtype], peer=calls["peer"],
        bytes=np.where(size > 0, calls["elements"] * size, -1), blocking=calls["waits"],
        stream=thread_numbers(rows, mark)[calls["lane"]],
        state=np.where(done, table.code("completed"), table.code("scheduled")),
    )  # fmt: skip


def _keys(part: dict[str, Array], op: Array, texts: int) -> Array:
    """Return one number for operation and shape of each row."""
    return op[part["name"]] * np.int64(texts + 1) + part["shape"] if len(part["name"]) else np.zeros(0, dtype=np.int64)


def _paired(
    start: Array, key: Array, work_start: Array, work_end: Array, work_key: Array, step: Array, work_step: Array
) -> Array:
    """Return for each call the row of its work, -1 where none was recorded.

    Calls and work of one kind are joined in turn within each step that has as many of the one as of the other. A trace
    that was cut short lacks the work of some threads: there its other steps stay without. A kind that fits in no step
    (no step marks, or work that runs on into the next step) is joined in turn over the whole trace.
    """
    in_turn = _paired_in_turn(start, key, work_start, work_end, work_key)
    span = np.int64(max(int(step.max()), int(work_step.max()) if len(work_step) else 0) + 2)
    call_at, work_at = key * span + step, work_key * span + work_step
    calls = dict(zip(*np.unique(call_at, return_counts=True), strict=True))
    works = dict(zip(*np.unique(work_at, return_counts=True), strict=True))
    whole = np.isin(call_at, [place for place, count in calls.items() if works.get(place) == count]) & (step >= 0)
    by_step = _paired_in_turn(start, call_at, work_start, work_end, work_at)
    return np.where(whole, by_step, np.where(np.isin(key, key[whole]), -1, in_turn))


def _paired_in_turn(start: Array, key: Array, work_start: Array, work_end: Array, work_key: Array) -> Array:
    """Return for each call the row of the work with the same turn among those of its key, -1 where there is none."""
    keys, first = np.unique(key), np.full(len(np.unique(key)), 2**62)
    np.minimum.at(first, np.searchsorted(keys, key), start)
    place = np.minimum(np.searchsorted(keys, work_key), len(keys) - 1)
    own = np.flatnonzero((keys[place] == work_key) & (work_end >= first[place]))
    turn = ordinal([work_key[own]], work_start[own])
    span = np.int64(max(len(start), len(own)) + 1)
    ids = place[own] * span + turn
    order = np.argsort(ids)
    wanted = np.searchsorted(keys, key) * span + ordinal([key], start)
    if not len(order):
        return np.full(len(start), -1)
    found = np.minimum(np.searchsorted(ids[order], wanted), len(order) - 1)
    return np.where(ids[order][found] == wanted, own[order[found]], -1)


def _channels(table: CallTable, calls: dict[str, Array], op: Array, rank: int) -> Array:
    """Return the code of 'p2p:SRC-DST' of sends and receives, -1 for the others."""
    out = np.full(len(op), -1)
    known = (calls["peer"] >= 0) & (rank >= 0)
    for word, name in (("send", "p2p:{rank}-{peer}"), ("recv", "p2p:{peer}-{rank}")):
        rows = np.flatnonzero((op == word) & known)
        out[rows] = table.names.codes(name.format(rank=rank, peer=peer) for peer in calls["peer"][rows])
    return out


def _classes(table: CallTable, calls: dict[str, Array], op: Array, texts: list[str]) -> Array:
    """Return what calls are counted over: operation and shape, and for point to point the tag."""
    pairs = Names()
    tags = np.where(np.isin(op.astype(str), ("send", "recv")), calls["tag"], 0)
    codes = pairs.codes(
        _class(str(one), texts[shape], int(tag)) for one, shape, tag in zip(op, calls["shape"], tags, strict=True)
    )
    return table.names.codes(pairs.values)[codes]


def _class(op: str, dims: str, tag: int) -> str:
    if op in ("send", "recv"):
        return f"p2p:{tag}" if tag > 0 else "p2p"
    return op if op in UNEVEN else f"{op}[{dims}]"
