"""Who waited for whom: per rank and call the wait for the last one, then the transfer, and arrows between ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ._trace_choice_arrows import Arrows
from ._trace_file import TraceFile, micros
from ._trace_tracks import Process, Slices, pid_of, texts

Array = np.ndarray[Any, Any]
SHORTEST_NS = 2  # an arrow must end inside a slice


class Arrivals:
    """Writes the arrivals of rank after rank and keeps what the arrows between them need."""

    def __init__(self, table: pd.DataFrame, arrows: Arrows) -> None:
        self._table, self._arrows, self._rank = table, arrows, table["rank"].to_numpy()
        self._last_of = dict(zip(arrows.waiting.tolist(), arrows.late.tolist(), strict=True))
        rows = np.unique(np.concatenate([arrows.late, arrows.waiting]))
        self._row, self._tid = rows, np.full(len(rows), -1)

    def add(self, process: Process, part: pd.DataFrame, rows: Array) -> None:
        """Write the rows of one rank (`rows` in the table): a block of wait and transfer each, without overlaps."""
        if not len(rows):
            return
        ready = part["ready_ns"].to_numpy()
        released = ready + np.rint(np.nan_to_num(part["wait_ns"].to_numpy(), nan=0.0)).astype(np.int64)
        transfer = np.nan_to_num(part["transfer_ns"].to_numpy(), nan=0.0)
        until = released + np.maximum(np.rint(transfer).astype(np.int64), SHORTEST_NS)
        tids = process.tracks("arrivals", "arrivals: wait, then transfer", ready, until, crossing=True)
        self._remember(rows, tids)
        shown = tids >= 0
        waits = shown & (released > ready)
        self._slices(process, part[waits], rows[waits], (ready[waits], released[waits]), tids[waits], wait=True)
        self._slices(process, part[shown], rows[shown], (released[shown], until[shown]), tids[shown], wait=False)

    def _slices(
        self, process: Process, some: pd.DataFrame, rows: Array, span: tuple[Array, Array], tids: Array, *, wait: bool
    ) -> None:
        op: Any = some["op"].array
        names, codes = texts(op.categories), np.asarray(op.codes).tolist()
        whom = np.array([self._culprit(row) for row in rows.tolist()], dtype=np.int64)
        last = some["last"].to_numpy()
        if wait:
            words = [f"wait for rank {rank}: {names[code]}" if rank >= 0 else f"wait: {names[code]}"
                     for rank, code in zip(whom.tolist(), codes, strict=True)]  # fmt: skip
        else:
            words = [f"came last: {names[code]}" if late else f"transfer: {names[code]}"
                     for code, late in zip(codes, last.tolist(), strict=True)]  # fmt: skip
        place = {text: at for at, text in enumerate(dict.fromkeys(words))}
        label = np.array([place[text] for text in words], dtype=np.int64)
        group: Any = some["group"].array
        args = {"group": (np.asarray(group.codes, dtype=np.int64), texts(group.categories)),
                "seq": some["seq"].to_numpy(), "late_us": some["late_ns"].to_numpy() / 1e3,
                "message_bytes": some["message_bytes"].to_numpy(), "waits_for_rank": whom}  # fmt: skip
        slices = Slices("arrivals", *span, label, list(place), args)
        process.write(slices, np.argsort(slices.start, kind="stable"), tids)

    def _culprit(self, row: int) -> int:
        late = self._last_of.get(row, -1)
        return int(self._rank[late]) if late >= 0 else -1

    def _remember(self, rows: Array, tids: Array) -> None:
        place = np.searchsorted(self._row, rows)
        place = np.clip(place, 0, max(len(self._row) - 1, 0))
        known = self._row[place] == rows if len(self._row) else np.zeros(len(rows), dtype=bool)
        self._tid[place[known]] = tids[known]

    def draw(self, file: TraceFile) -> int:
        """Write the arrows whose ends both are there and return their number."""
        late, waiting = self._arrows.late, self._arrows.waiting
        tids = [self._tid[np.searchsorted(self._row, rows)] if len(rows) else rows for rows in (late, waiting)]
        both = (tids[0] >= 0) & (tids[1] >= 0)
        ready, rank = self._table["ready_ns"].to_numpy(), self._table["rank"].to_numpy()
        wait = np.rint(np.nan_to_num(self._table["wait_ns"].to_numpy(), nan=0.0)).astype(np.int64)
        from_ns, to_ns = ready[late[both]], ready[waiting[both]] + wait[waiting[both]] + 1
        lines = []
        for number, (pids, threads, times) in enumerate(zip(
            zip(rank[late[both]].tolist(), rank[waiting[both]].tolist(), strict=True),
            zip(tids[0][both].tolist(), tids[1][both].tolist(), strict=True),
            zip(from_ns.tolist(), to_ns.tolist(), strict=True), strict=True,
        ), 1):  # fmt: skip
            for phase, end in (('"s"', 0), ('"f","bp":"e"', 1)):
                lines.append(
                    f'{{"ph":{phase},"id":{number},"pid":{pid_of(pids[end])},"tid":{threads[end]},'
                    f'"ts":{micros(times[end] - file.base_ns)},"cat":"wait","name":"waited for"}}'
                )
        file.add(lines)
        return int(both.sum())
