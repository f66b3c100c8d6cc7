"""Reading a store: any number of processes, while one writes."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator
from pathlib import Path

import pandas as pd

from skewscope.frames import concat

from . import event_file, folder
from .failures import Damage, StoreError
from .folder import EVENTS, WINDOWS, Kept
from .segment import BROKEN, Segment
from .series import ordered

TRIES = 50  # each reads only what is new since the one before


class Reader:
    """Reads what a store holds; `damaged` lists files, or parts of them, that could not be read and were left out."""

    def __init__(self, directory: Path) -> None:
        """Raise StoreError where the folder is no store, or was made by a newer skewscope."""
        folder.known(directory)
        self.directory = directory
        self.damaged: list[Damage] = []

    def read(
        self, begin_ns: int, end_ns: int, metrics: Collection[str] | None = None, nodes: Collection[str] | None = None
    ) -> dict[str, pd.DataFrame]:
        """Return the tables `windows` and `events` of the windows that ended from `begin_ns` to `end_ns`, both too.

        Windows are of these metrics and nodes, None for all, and come in the order of series and time. Events are of
        all nodes that are asked for, by the window that told them, whatever the metrics.
        """
        windows = self.windows(begin_ns, end_ns, metrics, nodes)
        return {"windows": windows, "events": self.events(begin_ns, end_ns, nodes)}

    def windows(
        self, begin_ns: int, end_ns: int, metrics: Collection[str] | None = None, nodes: Collection[str] | None = None
    ) -> pd.DataFrame:
        """Return the table `windows` as `read` does; of some metrics it costs as much less as they are fewer."""
        return ordered(concat("windows", self._all(WINDOWS, begin_ns, end_ns, metrics, nodes)))

    def events(self, begin_ns: int, end_ns: int, nodes: Collection[str] | None = None) -> pd.DataFrame:
        """Return the table `events` as `read` does."""
        return concat("events", self._all(EVENTS, begin_ns, end_ns, None, nodes))

    def span(self) -> tuple[int, int]:
        """Return the ends of the first and the last window, -1 where there is none."""
        files = folder.counting(folder.listed(self.directory), WINDOWS)
        return (files[0].first_ns, max(one.last_ns for one in files)) if files else (-1, -1)

    def size_bytes(self) -> int:
        """Return how many bytes the store's files have."""
        return sum(folder.size(self.directory, folder.listed(self.directory)).values())

    def _all(
        self, kind: str, begin_ns: int, end_ns: int, metrics: Collection[str] | None, nodes: Collection[str] | None
    ) -> list[pd.DataFrame]:
        """Return the rows of each file; looks anew where the writer has just replaced one."""
        found: dict[Kept, list[pd.DataFrame]] = {}
        for _ in range(TRIES):
            files = folder.counting(folder.listed(self.directory), kind)
            near = [one for one in files if one.first_ns <= end_ns and one.last_ns >= begin_ns]
            try:
                for one in near:
                    if one not in found:
                        found[one] = list(self._file(one, begin_ns, end_ns, metrics, nodes))
            except FileNotFoundError:
                continue
            return [part for one in near for part in found[one]]
        raise StoreError(f"the files of {self.directory} vanish while they are read")

    def _file(
        self, one: Kept, begin_ns: int, end_ns: int, metrics: Collection[str] | None, nodes: Collection[str] | None
    ) -> Iterator[pd.DataFrame]:
        parts = self._events(one) if one.kind == EVENTS else self._windows(one, metrics)
        for ends_ns, part in parts:
            good = ends_ns.between(begin_ns, end_ns).to_numpy(copy=True)
            if nodes is not None:
                wanted = part["node"].cat.categories.isin(list(nodes))
                good &= wanted[part["node"].cat.codes.to_numpy()]
            yield part if good.all() else part[good]

    def _windows(self, one: Kept, metrics: Collection[str] | None) -> Iterator[tuple[pd.Series, pd.DataFrame]]:
        for part in self._groups(one, metrics=metrics):
            yield part["t_ns"], part

    def _events(self, one: Kept) -> Iterator[tuple[pd.Series, pd.DataFrame]]:
        try:
            found = event_file.read(str(self.directory / one.name))
        except FileNotFoundError:
            raise
        except BROKEN as error:
            self._broken(one.name, error)
            return
        yield found

    def _groups(
        self, one: Kept, first: str = "", last: str = "\U0010ffff", metrics: Collection[str] | None = None
    ) -> Iterator[pd.DataFrame]:
        """Yield the rows of each row group that may hold metrics from `first` to before `last`, or `metrics`."""
        try:
            segment = Segment(str(self.directory / one.name))
        except FileNotFoundError:
            raise
        except BROKEN as error:
            self._broken(one.name, error)
            return
        with segment:
            for group in segment.groups:
                if group.last < first or group.first >= last:
                    continue
                if metrics is not None and not any(group.first <= name <= group.last for name in metrics):
                    continue
                try:
                    found = segment.rows(group, metrics)
                except BROKEN as error:
                    self._broken(f"{one.name}, metrics {group.first} to {group.last}", error)
                    continue
                yield found

    def _broken(self, what: str, error: BaseException) -> None:
        """Note damage; what the system refuses for another reason is no damage, and raised."""
        if isinstance(error, OSError) and error.errno not in (None, errno.EIO):
            raise error
        told = Damage(what, f"{error}"[:200] or type(error).__name__)
        if all(one.file != what for one in self.damaged):
            self.damaged.append(told)
