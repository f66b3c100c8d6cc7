"""The windows that an analysis looks back on, bounded: the last ones, and some from before the oldest open incident."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..frames import concat, empty
from ..signals.windows import WINDOW_S
from .rolling import Rolling

WINDOW_NS = int(WINDOW_S * 1e9)
LENGTH = 24  # windows: the longest memory of a room is ten minutes


@dataclass(frozen=True)
class Cut:
    """One window: its end and its tables."""

    end_ns: int
    tables: Mapping[str, pd.DataFrame]


class Horizon:
    """Keeps the last `length` windows; `anchor` holds on to what was usual before an incident.

    A fault that lasts longer than the horizon would else become what is usual, and its price would vanish.
    """

    def __init__(self, length: int = LENGTH, before: int = 8) -> None:
        self._length, self._before = length, before
        self._recent: deque[int] = deque()  # ends
        self._held: tuple[int, ...] = ()  # ends, which may be recent ones too
        self._onset_ns = -1
        self._windows = Rolling()
        self._events: dict[int, pd.DataFrame] = {}
        self._ranks: pd.DataFrame | None = None

    @property
    def end_ns(self) -> int:
        """The end of the last window, -1 before the first."""
        return self._recent[-1] if self._recent else -1

    @property
    def onset_ns(self) -> int:
        """Before when all that is held on to was, -1 for nothing."""
        return self._onset_ns

    def __len__(self) -> int:
        return len(self._recent)

    def add(self, end_ns: int, tables: Mapping[str, pd.DataFrame]) -> bool:
        """Take a window; False where it is not later than the last. A gap longer than the horizon begins it anew.

        What `tables` gave out before must not be used any more.
        """
        if end_ns <= self.end_ns:
            return False
        if self._recent and end_ns - self.end_ns > self._length * WINDOW_NS:
            self._recent.clear()
            self._held, self._onset_ns = (), -1
        ranks = tables.get("ranks")
        if ranks is not None and len(ranks):
            self._ranks = ranks
        self._recent.append(end_ns)
        if len(self._recent) > self._length:
            self._recent.popleft()
        self._take(Cut(end_ns, tables))
        self._let_go()
        return True

    def fill(self, parts: Iterable[pd.DataFrame], events: pd.DataFrame) -> None:
        """Take the past at once, in the place of all that is there: much faster than window after window.

        `parts` are tables `windows`, each with all rows of some metrics. Windows from before the horizon's length are
        held on to until the next `anchor`.
        """
        self._windows.fill(parts)
        ends = np.unique(self._windows.table["t_ns"].to_numpy()).tolist()
        known = ends[-self._length :]
        self._recent = deque(end for end in known if end > known[-1] - self._length * WINDOW_NS)
        self._held, self._onset_ns = tuple(end for end in ends if end not in self._recent), -1
        self._events = {end: _inside(events, end) for end in ends}

    def anchor(self, onset_ns: int, older: Iterable[Cut] = ()) -> None:
        """Hold on to the windows right before `onset_ns`, -1 for none, from `older` and from what is kept.

        An earlier onset replaces a later one, unless that would leave fewer windows: rooms that see an incident begin
        in what is held on to would else push it away, little by little.
        """
        if onset_ns < 0:
            self._held, self._onset_ns = (), -1
        elif self._onset_ns < 0 or onset_ns < self._onset_ns:
            told = {cut.end_ns: cut for cut in older if cut.end_ns <= onset_ns}
            known = sorted({*told, *(end for end in (*self._held, *self._recent) if end <= onset_ns)})
            before = tuple(known[-self._before :])
            if self._onset_ns < 0 or len(before) >= len(self._held):
                there = {*self._held, *self._recent}
                self._held, self._onset_ns = before, onset_ns
                for end_ns in sorted(set(before) - there, reverse=True):
                    self._take(told[end_ns], first=True)
        self._let_go()

    def before(self, onset_ns: int) -> int:
        """Return from when on (ns) windows are wanted to say what was usual before `onset_ns`."""
        return onset_ns - self._before * WINDOW_NS

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables of all that is kept, each window once, each metric's rows together."""
        events = concat("events", (self._events[end] for end in sorted(self._events)))
        found = {"windows": self._windows.table, "events": events}
        if self._ranks is not None:
            found["ranks"] = self._ranks
        return found

    def _take(self, cut: Cut, *, first: bool = False) -> None:
        rows = cut.tables.get("windows")
        if rows is not None and len(rows):
            self._windows.add(rows, first=first, drop=self._unwanted(cut.end_ns))
        events = cut.tables.get("events")
        self._events[cut.end_ns] = events if events is not None else empty("events")

    def _unwanted(self, new_ns: int = -1) -> set[int]:
        return set(self._events) - {*self._held, *self._recent, new_ns}

    def _let_go(self) -> None:
        """Drop what is neither recent nor held on to."""
        gone = self._unwanted()
        for end_ns in gone:
            del self._events[end_ns]
        if gone:
            self._windows.drop(gone)


def _inside(events: pd.DataFrame, end_ns: int) -> pd.DataFrame:
    """Return the events of the window that ends at `end_ns`."""
    return events[events["t_ns"].between(end_ns - WINDOW_NS, end_ns, inclusive="right")].reset_index(drop=True)
