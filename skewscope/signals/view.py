"""One metric over windows and devices, as a matrix."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Mapping
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
NAMES = ("node", "device", "job")
MOST_REMEMBERED_BYTES = 1 << 18  # of one signal: those of a small fleet are asked for again and again


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
    wanted = [(name, one if isinstance(one, str) else sorted(one)) for name, one in sorted(labels.items())]
    known = remembered(table, "signals", dict[str, Signal])
    asked = f"{metric} {take} {absent} {wanted}"
    if asked in known:
        return known[asked]
    found = _signal(table, metric, take, absent, labels)
    if found.values.nbytes <= MOST_REMEMBERED_BYTES:
        known[asked] = found
    return found


def _signal(
    table: pd.DataFrame, metric: str, take: str, absent: float, labels: Mapping[str, str | Collection[str]]
) -> Signal:
    columns = remembered(table, "columns", lambda: _Columns(table))
    rows = _of_metric(table, columns, metric)
    if labels:
        rows = rows[_selected(table, columns["labels"][rows], labels)]
    every_ns = remembered(table, "times", lambda: np.unique(columns["t_ns"]))
    window_s = float(columns["window_ns"][0]) / 1e9 if len(table) else 1.0
    keys, first = _series(table, columns, rows)
    values = _matrix(np.searchsorted(every_ns, columns["t_ns"][rows]), keys, columns[TAKES[take]][rows],
                     (len(every_ns), len(first)), take)  # fmt: skip
    told = rows[first]
    who = {name: columns.names(name)[columns[name][told]] for name in NAMES}
    found = Signal(every_ns, window_s, **who, rank=columns["rank"][told].astype(np.int64), values=values)
    found = found if absent != absent else _filled(found, table, absent)
    found.values.flags.writeable = False  # others are given it, too
    return found


class _Columns(dict[str, Array]):
    """The columns of a table as arrays, names as codes; pandas takes longer to hand out a column than to use it."""

    def __init__(self, table: pd.DataFrame) -> None:
        named = {name: table[name].cat for name in (*NAMES, "labels", "metric")}
        super().__init__({name: one.codes.to_numpy() for name, one in named.items()})
        self.update({name: table[name].to_numpy() for name in ("rank", "t_ns", "window_ns", *TAKES.values())})
        self._names = {name: one.categories.to_numpy().astype(object) for name, one in named.items()}

    def names(self, column: str) -> Array:
        """Return what the codes of a column stand for."""
        return self._names[column]


def _series(table: pd.DataFrame, columns: _Columns, rows: Array) -> tuple[Array, Array]:
    """Return the number of each row's series, in the order of the identities, and the first row of each series."""
    if not len(rows):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    key = np.zeros(len(rows), dtype=np.int64)
    for name in NAMES:
        key = key * (len(columns.names(name)) + 1) + columns[name][rows]
    low, high = remembered(table, "ranks", lambda: (int(columns["rank"].min()), int(columns["rank"].max())))
    key = key * (high - low + 1) + (columns["rank"][rows] - low)
    keys, uniques = pd.factorize(key, sort=True)
    first = np.zeros(len(uniques), dtype=np.int64)
    first[keys[::-1]] = np.arange(len(rows))[::-1]
    return keys, first


def _of_metric(table: pd.DataFrame, columns: _Columns, metric: str) -> Array:
    """Return the rows of one metric; the table is sorted by it, so that this costs little."""
    names = columns.names("metric")
    places = remembered(table, "metrics", lambda: {str(name): place for place, name in enumerate(names)})
    place = places.get(metric, -1)
    if place < 0:
        return np.zeros(0, dtype=np.int64)
    bounds = remembered(table, "bounds", lambda: _bounds(columns["metric"], len(names)))
    begin, end, whole = bounds[place]
    return np.arange(begin, end) if whole else np.flatnonzero(columns["metric"] == place)


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


def _selected(table: pd.DataFrame, codes: Array, labels: Mapping[str, str | Collection[str]]) -> Array:
    wanted = {name: {value} if isinstance(value, str) else set(value) for name, value in labels.items()}
    told = remembered(table, "labels", lambda: [parsed(str(text)) for text in table["labels"].cat.categories])
    good = np.array([all(one.get(name) in some for name, some in wanted.items()) for one in told], dtype=bool)
    return good[codes] if len(codes) else np.zeros(0, dtype=bool)


def parsed(labels: str) -> dict[str, str]:
    """Return the labels of a text as `samples` and `windows` hold them.

    >>> parsed("reason=hw_thermal,kind=average")
    {'reason': 'hw_thermal', 'kind': 'average'}
    """
    return dict(part.split("=", 1) for part in labels.split(",") if "=" in part)


def _matrix(at: Array, keys: Array, values: Array, shape: tuple[int, int], take: str) -> Array:
    """Return [windows, series] of the values of rows in window `at` and series `keys`."""
    found = np.full(shape, np.nan)
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
