"""Segments of the embedded store that `skewscope watch --store DIR` keeps: windows and events of a fleet.

A file that lies within the time of a longer one says nothing that this one does not, and is not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pandas as pd

from ..contracts import Coded, Columns, Reading
from ..errors import Unreadable
from ..store import event_file, folder
from ..store.folder import EVENTS
from ..store.segment import BROKEN, Segment


class StoreSegment:
    """Reads `windows-FIRST-LAST.segment` and `events-FIRST-LAST.segment`."""

    format: ClassVar[str] = "store-segment"

    def sniff(self, head: bytes, name: str) -> float:
        """Return 0..1; the columns of Parquet stand at its end, so only the name speaks."""
        return 0.9 if head.startswith(b"PAR1") and folder.NAME.fullmatch(name) else 0.0

    def read(self, path: Path) -> Reading:
        """Return the rows of one file; what is damaged in it is left out, and raises Unreadable where that is all."""
        kind = path.name.split("-")[0]
        reading = Reading(str(path), self.format)
        counting = {one.name for one in folder.counting(folder.listed(path.parent), kind)}
        if path.name not in counting:
            reading.error = "said by a longer segment, or set aside as damaged, so not read"
            return reading
        try:
            if kind == EVENTS:
                reading.batches.append((kind, _columns(event_file.read(str(path))[1])))
            else:
                self._windows(path, reading)
        except BROKEN as error:
            raise Unreadable(f"damaged segment: {error}"[:300]) from None
        reading.events = sum(len(columns["t_ns"]) for _, columns in reading.batches)
        return reading

    def _windows(self, path: Path, reading: Reading) -> None:
        with Segment(str(path)) as segment:
            for group in segment.groups:
                try:
                    reading.batches.append(("windows", _columns(segment.rows(group))))
                except BROKEN as error:
                    reading.status = "partial"
                    reading.error = f"metrics {group.first} to {group.last} are damaged: {error}"[:300]


def _columns(table: pd.DataFrame) -> Columns:
    found: Mapping[str, pd.Series] = {str(name): table[name] for name in table}
    return {
        name: Coded(column.cat.codes.to_numpy(), list(column.cat.categories))
        if isinstance(column.dtype, pd.CategoricalDtype)
        else column.to_numpy()
        for name, column in found.items()
    }
