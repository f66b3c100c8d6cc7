"""Who is a member of a job in which window, from series of its ranks that end and begin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from skewscope.contracts import Frames
from skewscope.signals.view import signal

Array = np.ndarray[Any, Any]
STEPS = "skewscope_steps_total"
GONE = -1.0
SILENT_COUNT = 2  # windows in which a host tells nothing at all: fewer are missed scrapes, or a restart of the agent


@dataclass(frozen=True)
class Membership:
    """One job: `here` [windows, series] says where its ranks are, `node` [series] on which host.

    `first` and `last` are the windows between which anybody of it was there.
    """

    job: str
    here: Array
    node: Array
    first: int
    last: int

    @property
    def hosts(self) -> int:
        """How many hosts it had."""
        return len(np.unique(self.node))

    def changes(self) -> tuple[Array, Array]:
        """Return the windows in which somebody left, and in which somebody joined who was not there from the start."""
        before, now = self.here[:-1], self.here[1:]
        moved: list[Array] = [before & ~now, now & ~before]
        found = [np.flatnonzero(np.asarray(one.any(axis=1))[: self.last]) + 1 for one in moved]
        found = [one[one > self.first + 1] for one in found]  # a job's ranks do not begin at once
        return _apart(found[0]), _apart(found[1])

    def leavers(self, windows: Array) -> list[str]:
        """Return the hosts of those who left in some windows or the one after."""
        after = np.minimum(windows + 1, len(self.here) - 1)
        gone = np.zeros(self.here.shape[1], dtype=bool)
        for at, then in zip(windows.tolist(), after.tolist(), strict=True):
            gone |= self.here[at - 1] & ~(self.here[at] & self.here[then])
        return sorted(np.unique(self.node[gone].astype(str)).tolist())


def jobs(tables: Frames) -> Iterator[Membership]:
    """Yield the membership of each job that has ranks."""
    told = signal(tables, STEPS, take="increase", absent=GONE)
    for job in sorted({str(name) for name in told.job} - {""}):
        mine = np.flatnonzero(told.job == job)
        values = told.values[:, mine]
        here = (values >= 0) | _unheard(values)
        there = np.flatnonzero((values >= 0).any(axis=1))
        if len(there):
            yield Membership(job, here, told.node[mine], int(there[0]), int(there[-1]))


def _unheard(values: Array) -> Array:
    """Return where a host is silent for so short a time that its ranks are thought to be where they were before."""
    silent = np.isnan(values)
    long = np.zeros_like(silent)
    for start in range(len(silent) - SILENT_COUNT + 1):
        span = slice(start, start + SILENT_COUNT)
        long[span] |= silent[span].all(axis=0)
    before = np.vstack([values[:1], values[:-1]]) >= 0
    return np.asarray(silent & ~long & before)


def _apart(windows: Array) -> Array:
    """Return the windows without those right after another: what happens at once is told in one window or the next.

    >>> _apart(np.array([3, 4, 9])).tolist()
    [3, 9]
    """
    return windows[np.concatenate(([True], np.diff(windows) > 1))] if len(windows) else windows
