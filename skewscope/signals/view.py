"""One metric over windows and devices, as a matrix."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from skewscope import subjects
from skewscope.contracts import Frames, Window
from skewscope.subjects import Subject

Array = np.ndarray[Any, Any]
TAKES = {
    "mean": "mean_value", "low": "low_value", "high": "high_value", "last": "last_value",
    "increase": "increase_value",
}  # fmt: skip
Known = TypeVar("Known")
_REMEMBERED: dict[int, dict[str, Any]] = {}  # identity of a table -> what was worked out of it
IDENTITY = ("node", "device", "job", "rank")


@dataclass(frozen=True)
class Signal:
    """One metric: `values` [windows, series], NaN where unknown; `t_ns` [windows] are the ends of the windows.

    `node`, `device`, `job` (objects) and `rank` (-1 unknown) are [series].
    """

    t_ns: Array
    window_s: float
    node: Array
    device: Array
    job: Array
    rank: Array
    values: Array

    def __len__(self) -> int:
        return len(self.node)

    def rate(self) -> Signal:
        """Return the growth per second instead of per window."""
        return replace(self, values=self.values / self.window_s)

    def subject(self, column: int) -> Subject:
        """Return what a series is about: a GPU, an adapter, a rank, or the host."""
        node, device, rank = str(self.node[column]), str(self.device[column]), int(self.rank[column])
        if device.startswith("gpu") and node:
            return subjects.gpu(node, device[3:], rank=rank)
        if rank >= 0:
            return subjects.rank(str(self.job[column]) or "job", rank, node=node)
        return subjects.nic(node, device) if device else subjects.node(node)

    def aligned(self, other: Signal, by: tuple[str, ...] = ("node", "device")) -> Array:
        """Return the values of `other` for these series and windows, NaN where it has none; [windows, series].

        `by` names what makes two series one subject, as ("node",) for what a host says of all its devices.
        """
        place = {key: column for column, key in enumerate(_keys(other, by))}
        columns = np.array([place.get(key, -1) for key in _keys(self, by)], dtype=np.int64)
        rows = np.searchsorted(other.t_ns, self.t_ns)
        known = (
            (rows < len(other.t_ns)) & (other.t_ns[np.minimum(rows, len(other.t_ns) - 1)] == self.t_ns)
            if len(other.t_ns)
            else np.zeros(len(self.t_ns), dtype=bool)
        )
        found = np.full((len(self.t_ns), len(self)), np.nan)
        if len(other) and known.any():
            some = columns >= 0
            found[np.ix_(known, some)] = other.values[np.ix_(rows[known], columns[some])]
        return found

    def window(self, mask: Array) -> Window:
        """Return the time from the first to the last window of `mask` [windows]; unknown where there is none."""
        places = np.flatnonzero(mask)
        if not len(places):
            return Window()
        return Window(int(self.t_ns[places[0]] - self.window_s * 1e9), int(self.t_ns[places[-1]]))


def signal(
    tables: Frames, metric: str, *, take: str = "mean", absent: float = float("nan"), **labels: str | Collection[str]
) -> Signal:
    """Return one metric of the table `windows`; no series where the table has none.

    A label selects the rows in which it has that value, or one of those values. What is left of one subject in one
    window is one value: the sum of increases, else the greatest (of lows the smallest). `absent` stands for a series
    that a node does not tell in a window in which it tells others: 0.0 for counters of errors.
    """
    table = tables["windows"]
    rows = _of_metric(table, metric)
    rows = rows[_selected(rows, labels)]
    every_ns = remembered(table, "times", lambda: np.unique(table["t_ns"].to_numpy()))
    window_s = float(table["window_ns"].iloc[0]) / 1e9 if len(table) else 1.0
    keys = rows.groupby(list(IDENTITY), observed=True, sort=True).ngroup().to_numpy() if len(rows) else np.zeros(0, int)
    count = int(keys.max()) + 1 if len(keys) else 0
    values = _matrix(rows, keys, count, every_ns, take)
    first = np.zeros(count, dtype=np.int64)
    first[keys[::-1]] = np.arange(len(rows))[::-1]
    who = {name: rows[name].astype(object).to_numpy()[first] for name in ("node", "device", "job")}
    found = Signal(every_ns, window_s, **who, rank=rows["rank"].to_numpy()[first].astype(np.int64), values=values)
    return found if absent != absent else _filled(found, table, absent)


def _of_metric(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the rows of one metric; the table is sorted by it, so that this costs little."""
    names = table["metric"].cat.categories
    place = names.get_indexer(pd.Index([metric]))[0]
    if place < 0:
        return table.iloc[:0]
    bounds = remembered(table, "bounds", lambda: _bounds(table["metric"].cat.codes.to_numpy(), len(names)))
    begin, end, whole = bounds[place]
    return table.iloc[begin:end] if whole else table[table["metric"].cat.codes.to_numpy() == place]


def remembered(table: pd.DataFrame, name: str, work_out: Callable[[], Known]) -> Known:
    """Return what was worked out of a table, once for all that ask as long as the table lives."""
    known = _REMEMBERED.get(id(table))
    if known is None:
        known = _REMEMBERED[id(table)] = {}
        weakref.finalize(table, _REMEMBERED.pop, id(table), None)
    if name not in known:
        known[name] = work_out()
    found: Known = known[name]
    return found


def _bounds(codes: Array, count: int) -> list[tuple[int, int, bool]]:
    """Return (begin, end, whether all between is of it) of each metric."""
    found = [(0, 0, True)] * count
    if not len(codes):
        return found
    begins = np.concatenate(([0], np.flatnonzero(np.diff(codes)) + 1))
    ends = np.concatenate((begins[1:], [len(codes)]))
    seen: set[int] = set()
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        code = int(codes[begin])
        found[code] = (begin, end, code not in seen)
        seen.add(code)
    return found


def _selected(rows: pd.DataFrame, labels: dict[str, str | Collection[str]]) -> Array:
    wanted = {name: {value} if isinstance(value, str) else set(value) for name, value in labels.items()}
    texts = [str(text) for text in rows["labels"].cat.categories]
    good = np.array(
        [all(parsed(text).get(name) in some for name, some in wanted.items()) for text in texts], dtype=bool
    )
    return good[rows["labels"].cat.codes.to_numpy()] if len(rows) else np.zeros(0, dtype=bool)


def parsed(labels: str) -> dict[str, str]:
    """Return the labels of a text as `samples` and `windows` hold them.

    >>> parsed("reason=hw_thermal,kind=average")
    {'reason': 'hw_thermal', 'kind': 'average'}
    """
    return dict(part.split("=", 1) for part in labels.split(",") if "=" in part)


def _matrix(rows: pd.DataFrame, keys: Array, count: int, every_ns: Array, take: str) -> Array:
    found = np.full((len(every_ns), count), np.nan)
    if not count:
        return found
    at = np.searchsorted(every_ns, rows["t_ns"].to_numpy())
    values = rows[TAKES[take]].to_numpy()
    known = np.isfinite(values)
    at, keys, values = at[known], keys[known], values[known]
    if take == "increase":
        found[at, keys] = 0.0
        np.add.at(found, (at, keys), values)
    else:
        better = np.fmin if take == "low" else np.fmax
        better.at(found, (at, keys), values)
    return found


def _filled(found: Signal, table: pd.DataFrame, absent: float) -> Signal:
    """Return the signal with `absent` where the node tells something else in that window."""
    told = remembered(table, "told", lambda: _told(table, found.t_ns))
    columns = table["node"].cat.categories.get_indexer(pd.Index(found.node.astype(str)))
    values = np.where(np.isnan(found.values) & told[:, columns], absent, found.values)
    return replace(found, values=values)


def _told(table: pd.DataFrame, every_ns: Array) -> Array:
    """Return [windows, nodes]: where a node tells anything at all."""
    told = np.zeros((len(every_ns), len(table["node"].cat.categories)), dtype=bool)
    told[np.searchsorted(every_ns, table["t_ns"].to_numpy()), table["node"].cat.codes.to_numpy()] = True
    return told


def _keys(one: Signal, by: tuple[str, ...]) -> list[tuple[Any, ...]]:
    return list(zip(*(getattr(one, name).tolist() for name in by), strict=True))
