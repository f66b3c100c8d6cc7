"""Cuts samples into windows as they come: what `signals.windows` does with a whole recording, window by window."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from skewscope.frames import concat, empty, frame
from skewscope.signals.windows import growth

from ..sources._telemetry_series import XID, Meaning, Series
from ._foreign import Foreign
from ._roll import RANK, TEXTS, Roll
from .contract import WINDOW_NS
from .wanted import wanted

Array = np.ndarray[Any, Any]
FORGET_NS = 20 * WINDOW_NS  # after so long without a sample a series is forgotten
FORGET_MORE = 2000  # and a quarter of the rest: fewer are not worth the work
MOST_WAITING = 20_000_000  # samples that wait to be cut: beyond, the oldest go
FOREIGN = -2  # of a series that is of another exporter: (-2 - its number there)

Renumbered = Callable[[Array], Array]
Moved = Callable[[Renumbered], None]


@dataclass(frozen=True)
class Cut:
    """One window: its tables and how many samples came."""

    tables: dict[str, pd.DataFrame]
    samples: int


class Cutter:
    """Takes samples of series by number and gives windows; safe for one that adds and one that cuts.

    A counter that never grew is left out, unless it is a rank's and above 0: a job that hangs from the first window on
    must be seen. A series unseen for 10 minutes is forgotten: then `moved` is called with the new numbers of all, -1
    for none.
    """

    def __init__(self, moved: Moved = lambda numbers: None) -> None:
        self.roll = Roll()
        self.lock = threading.RLock()
        self._foreign = Foreign()
        self._moved = moved
        self._wanted = wanted()
        self._waiting: list[tuple[Array, Array, Array]] = []
        self._count = 0
        self._now_ns = 0
        self.lost = 0  # samples that were never cut

    def number(self, some: Sequence[Series]) -> int:
        """Return the number of what one exported series means, -1 where no room reads it; hold `lock` meanwhile."""
        some = tuple(one for one in some if one.meaning.metric in self._wanted or one.meaning.metric == XID)
        if len(some) == 1 and _plain(some[0]):
            return self.roll.number(some[0], self._now_ns)
        return FOREIGN - self._foreign.number(some, self._now_ns) if some else -1

    def add(self, numbers: Array, values: Array, t_ns: Array | int) -> None:
        """Take samples: numbers [N] of series, values [N], times [N] or one for all."""
        times = np.broadcast_to(np.asarray(t_ns, dtype=np.int64), numbers.shape)
        with self.lock:
            self._waiting.append((numbers, values, times))
            self._count += len(numbers)
            while self._count > MOST_WAITING:
                gone = len(self._waiting.pop(0)[0])
                self._count -= gone
                self.lost += gone

    def cut(self, end_ns: int) -> Cut:
        """Return the window that ends at `end_ns`; samples of before only say where counters stood, later ones wait."""
        with self.lock:
            numbers, values, t_ns = self._taken(end_ns)
            self._now_ns = end_ns
            inside = int((t_ns > end_ns - WINDOW_NS).sum())
            own = numbers >= 0
            tables = {"windows": self._rows(numbers[own], values[own], t_ns[own], end_ns)}
            others, events = self._foreign.cut(FOREIGN - numbers[~own], values[~own], t_ns[~own], end_ns)
            if len(others):
                others = others[others["metric"].isin(self._wanted).to_numpy()]
                tables["windows"] = concat("windows", [tables["windows"], others])
            tables["events"] = events
            tables["ranks"] = _ranks(tables["windows"])
            self._forget(end_ns)
        return Cut(tables, inside)

    def _taken(self, end_ns: int) -> tuple[Array, Array, Array]:
        if not self._waiting:
            return np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0, dtype=np.int64)
        numbers, values, t_ns = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        later = t_ns > end_ns
        self._waiting = [(numbers[later], values[later], t_ns[later])] if later.any() else []
        self._count = int(later.sum())
        known = ~later & np.isfinite(values)
        return numbers[known], values[known], t_ns[known]

    def _rows(self, numbers: Array, values: Array, t_ns: Array, end_ns: int) -> pd.DataFrame:
        roll = self.roll
        if not len(numbers):
            return empty("windows")
        seen = np.flatnonzero(np.bincount(numbers, minlength=1))
        known = seen[np.isfinite(roll.last[seen])]
        # Where a counter stood counts as before all samples, even if the clock was set back since.
        numbers = np.concatenate((known, numbers))
        values = np.concatenate((roll.last[known], values))
        t_ns = np.concatenate((np.full(len(known), -1, dtype=np.int64), t_ns))
        order = np.lexsort((t_ns, numbers))
        numbers, values, t_ns = numbers[order], values[order], t_ns[order]
        fresh = np.concatenate(([True], (np.diff(numbers) != 0) | (np.diff(t_ns) != 0)))
        numbers, values, t_ns = numbers[fresh], values[fresh], t_ns[fresh]
        step = growth(numbers, values)
        ends = np.concatenate((np.flatnonzero(np.diff(numbers)), [len(numbers) - 1]))
        roll.last[numbers[ends]], roll.seen_ns[numbers[ends]] = values[ends], end_ns
        inside = t_ns > end_ns - WINDOW_NS
        return self._table(numbers[inside], values[inside], step[inside], end_ns) if inside.any() else empty("windows")

    def _table(self, numbers: Array, values: Array, step: Array, end_ns: int) -> pd.DataFrame:
        roll = self.roll
        begins = np.flatnonzero(np.concatenate(([True], np.diff(numbers) != 0)))
        counts = np.diff(np.concatenate((begins, [len(numbers)])))
        who, last = numbers[begins], values[begins + counts - 1]
        counter = roll.counter[who]
        increase = np.where(counter, np.add.reduceat(step, begins), np.nan)
        roll.grew[who] |= increase > 0
        columns = {
            "mean_value": np.where(counter, np.nan, np.add.reduceat(values, begins) / counts),
            "low_value": np.where(counter, np.nan, np.minimum.reduceat(values, begins)),
            "high_value": np.where(counter, np.nan, np.maximum.reduceat(values, begins)),
            "last_value": last, "increase_value": increase, "samples_count": counts,
        }  # fmt: skip
        told = ~counter | roll.grew[who] | ((roll.codes[who, RANK] >= 0) & (last > 0))
        codes = roll.codes[who[told]]
        names = {name: roll.names(at, codes[:, at]) for at, name in enumerate(TEXTS)}
        by = [codes[:, RANK], *(names[name].codes for name in ("job", "device", "node", "labels", "metric"))]
        order = np.lexsort(by)
        return frame("windows", {
            "t_ns": end_ns, "window_ns": WINDOW_NS, "rank": codes[order, RANK],
            **{name: type(coded)(coded.codes[order], coded.values) for name, coded in names.items()},
            **{name: column[told][order] for name, column in columns.items()},
        })  # fmt: skip

    def _forget(self, end_ns: int) -> None:
        old = int((self.roll.seen_ns[: len(self.roll)] < end_ns - FORGET_NS).sum())
        if old <= FORGET_MORE + len(self.roll) // 4 and not self._foreign.crowded(end_ns - FORGET_NS):
            return
        moved, others = self.roll.compact(end_ns - FORGET_NS), self._foreign.compact(end_ns - FORGET_NS)
        where = np.concatenate((np.where(others >= 0, FOREIGN - others, -1)[::-1], [-1], moved))
        first = len(others) + 1  # numbers count from here: foreign ones stand to the left

        def renumbered(numbers: Array) -> Array:
            new: Array = where[numbers + first]
            return new

        kept = [(renumbered(numbers), values, t_ns) for numbers, values, t_ns in self._waiting]
        self._waiting = [(n[n != -1], values[n != -1], t_ns[n != -1]) for n, values, t_ns in kept]
        self._moved(renumbered)


def _plain(one: Series) -> bool:
    """Return whether values count as they are."""
    bare = Meaning(one.meaning.metric, one.meaning.labels)
    return one.meaning == bare and one.meaning.metric != XID and not one.blanks and not one.order


def _ranks(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the table `ranks` as series of ranks tell it: which node and GPU each is on."""
    told = rows[(rows["rank"] >= 0).to_numpy() & (rows["job"].astype(str) != "").to_numpy()]
    if not len(told):
        return empty("ranks")
    device = told["device"].astype(str)
    place = device.where(device.str.fullmatch(r"gpu\d{1,3}"), "gpu-1").str[3:].astype(int)
    found = told.assign(gpu=place).sort_values(["job", "rank", "gpu"], kind="stable")
    found = found.drop_duplicates(["job", "rank"], keep="last")
    return frame("ranks", {name: found[name] for name in ("job", "rank", "node", "gpu")})
