"""The one writer of a store: appends windows, joins them into segments, and lets go of the oldest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pandas as pd

from skewscope.frames import check, concat, empty

from . import event_file, folder, segment
from .failures import Damage, StoreError
from .folder import EVENTS, WINDOWS, Kept
from .reader import Reader
from .segment import BROKEN, Segment
from .series import ordered

DAY_S = 86400.0
SEGMENT_S = 900.0
WINDOW_NS = 30 * 10**9  # the grid on which events are put that come without a window


class Store(Reader):
    """A store that this process writes, alone; see `Reader` for reading it.

    It keeps `keep_s` seconds before the newest window, and at most `keep_bytes`: the oldest segments go first, the
    newest file never. `segment_s` is how long a stretch `compact` joins into one segment.
    """

    def __init__(
        self, directory: Path, *, keep_s: float = DAY_S, keep_bytes: int = 5 * 10**9, segment_s: float = SEGMENT_S
    ) -> None:
        """Open or make a store, and clear what a process that died has left.

        Raises StoreTaken where another process writes it, StoreError for a folder that is something else or was made
        by a newer skewscope, StoreFull where there is no room for it.
        """
        folder.made(directory)
        super().__init__(directory)
        self.keep_ns, self.keep_bytes, self.segment_ns = int(keep_s * 1e9), keep_bytes, int(segment_s * 1e9)
        self._lock = folder.locked(directory)
        self._clear()

    def close(self) -> None:
        """Let others write; what was appended is on disk already. The store can still be read."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def append(self, windows: pd.DataFrame, events: pd.DataFrame | None = None, *, end_ns: int = -1) -> None:
        """Keep the rows of one window and the events it told; they are on disk when this returns.

        `end_ns` tells the window's end where no row does; without it, events alone go by the time of the last. A window
        that is told again replaces the first telling until it is joined with others. Raises StoreFull where there is no
        room: nothing of the window is kept then, all else is. Raises StoreError for rows of several windows, and for
        one within the time of a segment; SchemaError for what is no table.
        """
        rows = ordered(check("windows", windows))
        told = check("events", events) if events is not None and len(events) else empty("events")
        if not len(rows) and not len(told):
            return
        end_ns = _end_ns(rows, told, end_ns)
        self._writable(end_ns)
        if len(told):
            ends_ns = pd.Series(end_ns, index=told.index)
            self._put(Kept(end_ns, end_ns, EVENTS), lambda file: event_file.write(file, [(ends_ns, told)]))
        if len(rows):
            self._put(Kept(end_ns, end_ns, WINDOWS), lambda file: segment.write(file, [rows]))
        self._retain()

    def compact(self) -> None:
        """Join the files of each stretch of time that is over into one segment.

        What is damaged is set aside under its name with `.damaged`. Raises StoreFull where there is no room for the
        segment: its parts stay. Memory grows with the rows of about 33,000 series over the stretch, not with the fleet.
        """
        newest_ns = self.span()[1]
        for kind in (EVENTS, WINDOWS):
            stretches: dict[int, list[Kept]] = {}
            for one in folder.counting(folder.listed(self.directory), kind):
                stretches.setdefault(self._stretch(one.last_ns), []).append(one)
            for stretch, files in stretches.items():
                if len(files) > 1 and stretch < self._stretch(newest_ns):
                    self._join(kind, files)
        self._retain()

    def _stretch(self, end_ns: int) -> int:
        return (end_ns - 1) // self.segment_ns

    def _writable(self, end_ns: int) -> None:
        if self._lock < 0:
            raise StoreError(f"the store {self.directory} is closed")
        for kind in (WINDOWS, EVENTS):
            for one in folder.counting(folder.listed(self.directory), kind):
                if one.first_ns <= end_ns <= one.last_ns and one.first_ns < one.last_ns:
                    raise StoreError(f"the window that ended at {end_ns} ns lies within a segment that is closed")

    def _put(self, one: Kept, write: Callable[[IO[bytes]], Any]) -> None:
        folder.put(self.directory, one.name, write)
        self.damaged = [known for known in self.damaged if known.file.split(",")[0] != one.name]

    def _join(self, kind: str, files: Sequence[Kept]) -> None:
        made = Kept(max(one.last_ns for one in files), min(one.first_ns for one in files), kind)
        if kind == WINDOWS:
            self._put(made, lambda file: segment.write(file, self._merged(files)))
        else:
            self._put(made, lambda file: event_file.write(file, (part for one in files for part in self._events(one))))
        broken = {one.file.split(",")[0] for one in self.damaged}
        for one in files:
            self._let_go(one, keep=one.name in broken)

    def _merged(self, files: Sequence[Kept]) -> Iterator[pd.DataFrame]:
        """Yield the rows of all files, some metrics at a time, in the order of series."""
        bounds = self._bounds(files)
        for first, last in zip(bounds, [*bounds[1:], "\U0010ffff"], strict=True):
            parts = []
            for one in files:
                for found in self._groups(one, first, last):
                    names = found["metric"].cat.categories
                    wanted = (names >= first) & (names < last)
                    parts.append(found[wanted[found["metric"].cat.codes.to_numpy()]])
            rows = concat("windows", parts)
            if len(rows):
                yield ordered(rows)

    def _bounds(self, files: Sequence[Kept]) -> list[str]:
        """Return the first metrics of row groups, of the file with the most of them; "" is the first."""
        most: list[str] = []
        for one in files:
            try:
                with Segment(str(self.directory / one.name)) as found:
                    firsts = [group.first for group in found.groups]
            except BROKEN:
                continue  # told when it is read
            most = firsts if len(firsts) > len(most) else most
        return sorted({"", *most[1:]})

    def _clear(self) -> None:
        """Remove half-written files and those that a segment has replaced."""
        for path in self.directory.glob(f".*{folder.TEMPORARY}"):
            path.unlink(missing_ok=True)
        files = folder.listed(self.directory)
        counting = {*folder.counting(files, WINDOWS), *folder.counting(files, EVENTS)}
        for one in files:
            if one.damaged:
                self.damaged.append(Damage(one.name, "set aside when its stretch was joined"))
            elif one not in counting:
                self._let_go(one)

    def _retain(self) -> None:
        """Let go of what is too old, and of the oldest where there is too much."""
        sizes = folder.size(self.directory, folder.listed(self.directory))
        total, files = sum(sizes.values()), sorted(sizes)
        for one in files[:-1]:
            if one.last_ns >= files[-1].last_ns - self.keep_ns and total <= self.keep_bytes:
                break
            self._let_go(one)
            total -= sizes[one]

    def _let_go(self, one: Kept, *, keep: bool = False) -> None:
        path = self.directory / one.name
        if keep:
            path.replace(self.directory / Kept(one.last_ns, one.first_ns, one.kind, damaged=True).name)
        else:
            path.unlink(missing_ok=True)


def _end_ns(windows: pd.DataFrame, events: pd.DataFrame, told_ns: int) -> int:
    """Return the end of the one window that rows are of."""
    ends_ns = windows["t_ns"].unique().tolist()
    if len(ends_ns) > 1:
        raise StoreError(f"rows of {len(ends_ns)} windows at once; append one after the other")
    if ends_ns and told_ns not in (-1, ends_ns[0]):
        raise StoreError(f"the rows are of the window that ended at {ends_ns[0]} ns, not at {told_ns} ns")
    latest_ns = int(events["t_ns"].max()) if len(events) else -1
    if ends_ns or told_ns >= 0:
        return int(ends_ns[0]) if ends_ns else told_ns
    if latest_ns < 0:
        raise StoreError("no row tells the end of the window, and no event its time; pass end_ns")
    return -(-latest_ns // WINDOW_NS) * WINDOW_NS
