"""Tracks of a trace: who has which process and thread number, and slices given as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from . import _lanes
from ._trace_file import TraceFile, micros, quoted

Array = np.ndarray[Any, Any]
JOB_PID = 1
FIRST_PID = 2  # of rank 0
TRACKS = 10_000  # thread numbers of a process: they are unique in the whole trace
MOST_LANES = 40
MOST_TEXTS = 64
ARGS = ',"args":{%s}'
# Kinds of tracks from top to bottom; thread numbers follow, so that the order is that of the numbers too.
KINDS = ("findings", "blame", "steps", "phases", "arrivals", "communication", "compute", "copies", "host")
SPAN = TRACKS // (len(KINDS) + 1)  # so many tracks of a kind


_TEXTS: dict[int, tuple[Any, list[str]]] = {}  # of the categories that all ranks of a table share


def texts(categories: pd.Index) -> list[str]:
    """Return categories as texts; those of one table are turned once, not for each of its ranks."""
    known = _TEXTS.get(id(categories))
    if known is None or known[0] is not categories:
        if len(_TEXTS) > MOST_TEXTS:
            _TEXTS.clear()
        known = _TEXTS[id(categories)] = (categories, [str(one) for one in categories])
    return known[1]


def pid_of(rank: int) -> int:
    """Return the process number of a rank.

    >>> pid_of(0), pid_of(7)
    (2, 9)
    """
    return FIRST_PID + rank


@dataclass(frozen=True)
class Slices:
    """Slices of one track: `start`, `end` [n] in ns on the common clock, `label` [n] codes into `names`.

    `args` are columns of whole numbers (unknown below 0), floats (unknown NaN), or (codes, texts).
    """

    kind: str
    start: Array
    end: Array
    label: Array
    names: Sequence[str]
    args: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.start)


class Process:
    """One process of a trace: it gives out thread numbers, and writes slices and counters under them."""

    def __init__(self, file: TraceFile, pid: int, name: str, *, label: str = "") -> None:
        self.file, self.pid = file, pid
        self._used: dict[str, int] = {}
        for what, args in (("process_name", {"name": name}), ("process_sort_index", {"sort_index": pid}),
                           ("process_labels", {"labels": label})):  # fmt: skip
            if args != {"labels": ""}:
                file.event(ph="M", pid=pid, tid=0, ts=file.base_ns, name=what, args=args)

    def track(self, kind: str, name: str) -> int:
        """Return the number of a new track; it is named in the trace."""
        place = self._used.get(kind, 0)
        self._used[kind] = place + 1
        tid = self.pid * TRACKS + KINDS.index(kind) * SPAN + place % SPAN
        for what, args in (("thread_name", {"name": name}), ("thread_sort_index", {"sort_index": tid % TRACKS})):
            self.file.event(ph="M", pid=self.pid, tid=tid, ts=self.file.base_ns, name=what, args=args)
        return tid

    def tracks(self, kind: str, name: str, start: Array, end: Array, *, crossing: bool = False) -> Array:
        """Return a track [n] for each slice, -1 where none is left.

        Slices that do not nest (with `crossing`: that overlap at all) go to further tracks of the same name.
        """
        made = np.full(len(start), -1)
        if not len(start):
            return made
        order = np.lexsort((-end, start))
        lane = (_lanes.disjoint if crossing else _lanes.nested)(start[order], end[order])
        most = min(MOST_LANES, SPAN - self._used.get(kind, 0))
        shown = lane < most
        tids = [self.track(kind, name if at == 0 else f"{name} ({at + 1})")
                for at in range(min(int(lane.max()) + 1, most))]  # fmt: skip
        if tids:
            made[order[shown]] = np.array(tids)[lane[shown]]
        return made

    def add(self, name: str, slices: Slices) -> None:
        """Write slices on a track of their own, or on several where they do not nest."""
        tids = self.tracks(slices.kind, name, slices.start, slices.end)
        shown = np.flatnonzero(tids >= 0)
        order = shown[np.lexsort((-slices.end[shown], slices.start[shown]))]
        self.write(slices, order, tids)

    def write(self, slices: Slices, order: Array, tids: Array) -> None:
        """Write the slices `order` [m], each on its track of `tids` [n]."""
        names = {code: quoted(slices.names[code]) for code in np.unique(slices.label[order]).tolist()}
        head, cat, base_ns = f'{{"ph":"X","pid":{self.pid},"tid":', f'"cat":"{slices.kind}","name":', self.file.base_ns
        start, end = slices.start[order], slices.end[order]
        columns = tids[order].tolist(), start.tolist(), (end - start).tolist(), slices.label[order].tolist()
        self.file.add(
            f'{head}{tid},"ts":{micros(at - base_ns)},"dur":{micros(took)},{cat}{names[label]}{more}}}'
            for tid, at, took, label, more in zip(*columns, _args(slices.args, order), strict=True)
        )

    def counter(self, name: str, unit: str, time_ns: Array, values: Array) -> None:
        """Write a counter track; values that are not finite are left out."""
        head = f'{{"ph":"C","pid":{self.pid},"tid":0,"name":{quoted(f"{name} [{unit}]")},"ts":'
        known = np.isfinite(values) & (time_ns >= 0)
        self.file.add(
            f'{head}{micros(at - self.file.base_ns)},"args":{{"value":{value:.6g}}}}}'
            for at, value in zip(time_ns[known].tolist(), values[known].tolist(), strict=True)
        )


def _args(columns: Mapping[str, Any], order: Array) -> Sequence[str]:
    """Return the arguments of each slice as the end of an event's JSON, without those that are unknown."""
    parts = [_told(name, column, order) for name, column in columns.items()]
    if not parts:
        return [""] * len(order)
    return [ARGS % ",".join(filter(None, row)) if any(row) else "" for row in zip(*parts, strict=True)]


def _told(name: str, column: Any, order: Array) -> list[str]:  # noqa: ANN401 - an array, or codes and texts
    head = f'"{name}":'
    if isinstance(column, tuple):
        codes, texts = column
        made = {
            code: head + quoted(texts[code]) if code >= 0 and texts[code] else "" for code in np.unique(codes).tolist()
        }
        return [made[code] for code in codes[order].tolist()]
    values = column[order]
    if values.dtype.kind == "f":
        return [
            f"{head}{value:.6g}" if value == value and abs(value) != float("inf") else "" for value in values.tolist()
        ]
    return [f"{head}{value}" if value >= 0 else "" for value in values.tolist()]
