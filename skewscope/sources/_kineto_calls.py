"""The `collectives` rows of device traces: one per communication kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._kineto_columns import Array, Columns, Names, compact, ordinal
from ._kineto_names import algorithm, element, operation
from ._kineto_ops import device_steps, launch_times, streams
from ._kineto_rows import CALL_INTS, CALL_NAMES, Rows
from ._kineto_steps import Marks

LINKED = (*(name for name in CALL_INTS if name != "external"), *CALL_NAMES)
ROW = {
    "start": "i8", "end": "i8", "ready": "i8", "step": "i8", "group": "i4", "group_size": "i8", "seq": "i8", "op": "i4",
    "op_class": "i4", "dtype": "i4", "algo": "i4", "proto": "i4", "bytes": "i8", "peer": "i8", "blocking": "?",
    "stream": "i8", "state": "i4",
}  # fmt: skip
TEXTS = ("group", "op", "op_class", "dtype", "algo", "proto", "state")


class CallTable:
    """Rows of `collectives` with their texts coded."""

    def __init__(self) -> None:
        self.names = Names()
        self.columns = Columns(ROW)
        self.none = int(self.names.codes([""])[0])

    def code(self, text: str) -> int:
        """Return the code of one text."""
        return int(self.names.codes([text])[0])

    def add(self, **columns: Any) -> None:  # noqa: ANN401 - arrays of several types
        """Append rows; columns not given are unknown."""
        rows = len(columns["start"])
        unknown = {name: np.full(rows, self.none if name in TEXTS else -1) for name in ROW}
        self.columns.add(**{**unknown, "blocking": np.zeros(rows, dtype=bool), **columns})

    def batch(self) -> dict[str, Any]:
        """Return the rows in order of time; texts are Coded, times still since the base."""
        known = self.columns.done()
        order = np.lexsort((known["stream"], known["end"], known["ready"]))
        found = {name: column[order] for name, column in known.items()}
        values = self.names.values
        return {name: compact(column, values) if name in TEXTS else column for name, column in found.items()}


def add_kernels(table: CallTable, rows: Rows, mark: Marks, rank: int) -> list[str]:
    """Add a row per communication kernel and return warnings."""
    found = rows.calls.done()
    count = len(found["start"])
    if not count:
        return []
    known = with_recorded(found, rows)
    texts, kernel_names = rows.names.values, rows.kernels.names.values
    parts = [_text_codes(table, kernel_names, part) for part in (operation, _algo, _proto)]
    op, algo, proto = (part[found["name"]] for part in parts)
    told = np.array([bool(text) for text in texts], dtype=bool)[known["collective"]]
    op = np.where(told, _text_codes(table, texts, operation)[known["collective"]], op)
    group = _text_codes(table, texts, str)[known["group"]]
    size = np.array([element(text)[1] for text in texts], dtype=np.int64)[known["dtype"]]
    moved = np.maximum(known["count_in"], known["count_out"])
    launch, _ = launch_times(rows.launches.done(), found["correlation"])
    point = _point_to_point(table, known, op, rank)
    group = np.where(point[0] >= 0, point[0], group)
    numbered = (known["seq"] >= 0) & (point[0] < 0)
    turn = ordinal([op, group], found["start"])
    table.add(
        start=found["start"], end=found["end"], ready=found["start"],
        step=device_steps(mark, found["start"], launch), group=group, group_size=known["group_size"],
        seq=np.where(numbered, known["seq"], turn), op=op, algo=algo, proto=proto,
        op_class=np.where(numbered, table.code("seq"), np.where(point[0] >= 0, table.code("p2p"), op)),
        dtype=_text_codes(table, texts, lambda text: element(text)[0])[known["dtype"]],
        bytes=np.where((moved >= 0) & (size > 0), moved * size, -1), peer=point[1],
        stream=streams(found["stream"], found["device"], several=len(rows.devices) > 1),
        state=np.full(count, table.code("completed")),
    )  # fmt: skip
    return _out_of_order(found["start"], group, np.where(numbered, known["seq"], -1))


def _text_codes(table: CallTable, texts: list[str], part: Any) -> Array:  # noqa: ANN401 - text to text
    """Return for each text the code of what `part` makes of it."""
    return table.names.codes(part(text) for text in texts)


def _algo(name: str) -> str:
    return algorithm(name)[0]


def _proto(name: str) -> str:
    return algorithm(name)[1]


def with_recorded(found: dict[str, Array], rows: Rows) -> dict[str, Array]:
    """Return collective arguments of each kernel: its own, else those of the host call with its external id."""
    told = rows.recorded.done()
    names = rows.names.values
    empty = names.index("") if "" in names else -1
    bare = np.flatnonzero((found["collective"] == empty) & (found["external"] >= 0))
    if not len(told["start"]) or not len(bare):
        return {name: found[name] for name in LINKED}
    ids, first, times = np.unique(told["external"], return_index=True, return_counts=True)
    place = np.minimum(np.searchsorted(ids, found["external"][bare]), len(ids) - 1)
    same = (ids[place] == found["external"][bare]) & (times[place] == 1)
    out = {}
    for name in LINKED:
        out[name] = found[name].copy()
        out[name][bare[same]] = told[name][first[place[same]]]
    return out


def _point_to_point(table: CallTable, known: dict[str, Array], op: Array, rank: int) -> tuple[Array, Array]:
    """Return channel name code and peer of sends and receives with known ends, -1 for all others."""
    group, peer = np.full(len(op), -1), np.full(len(op), -1)
    is_send, is_recv = op == table.code("send"), op == table.code("recv")
    src = np.where((known["src"] < 0) & is_send, rank, known["src"])
    dst = np.where((known["dst"] < 0) & is_recv, rank, known["dst"])
    good = np.flatnonzero((is_send | is_recv) & (src >= 0) & (dst >= 0))
    group[good] = table.names.codes(f"p2p:{src[row]}-{dst[row]}" for row in good)
    peer[good] = np.where(is_send, dst, src)[good]
    return group, peer


def _out_of_order(start: Array, group: Array, seq: Array) -> list[str]:
    order = np.lexsort((start, group))
    order = order[seq[order] >= 0]
    back = (np.diff(seq[order]) < 0) & (np.diff(group[order]) == 0)
    return [f"sequence numbers go back {int(back.sum())} times within a group"] if back.any() else []
