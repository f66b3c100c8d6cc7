"""Numpy columns of what is kept of a trace, filled block by block; no event object outlives its block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from ..contracts import Coded

Array = np.ndarray[Any, Any]
LARGEST_US = 2.0**62 / 1000
CHUNK = 1 << 16  # rows worked on at a time
ROOM = 1 << 18  # rows per array: 2 MB, which the C library gives back to the system when it is freed
FEW = 1 << 10  # rows that a small trace has: it takes no 2 MB a column


class Names:
    """Strings (or thread ids) met so far and their codes.

    >>> names = Names()
    >>> names.codes(["a", "b", "a"]).tolist(), names.values
    ([0, 1, 0], ['a', 'b'])
    """

    def __init__(self) -> None:
        self._place: dict[Any, int] = {}

    @property
    def values(self) -> list[str]:
        """All strings, by code."""
        return list(self._place)

    def __len__(self) -> int:
        return len(self._place)

    def codes(self, names: Iterable[Any]) -> Array:
        """Return the code of each name, new ones given the next number; shape [names], int32."""
        place = self._place
        return np.array([place.setdefault(name, len(place)) for name in names], dtype=np.int32)


class Judged:
    """Names with one property each, worked out once per name."""

    def __init__(self, judge: Callable[[str], int]) -> None:
        self.names = Names()
        self._judge = judge
        self._verdict = np.zeros(0, dtype=np.int64)

    @property
    def values(self) -> list[str]:
        """All names, by code."""
        return self.names.values

    def codes(self, names: Iterable[str]) -> tuple[Array, Array]:
        """Return code and property of each name."""
        codes = self.names.codes(names)
        if len(self._verdict) < len(self.names):
            new = [self._judge(name) for name in self.names.values[len(self._verdict) :]]
            self._verdict = np.concatenate([self._verdict, np.array(new, dtype=np.int64)])
        return codes, self._verdict[codes] if len(codes) else np.zeros(0, dtype=np.int64)


class Columns:
    """Growing columns of one kind of row, kept in a few large arrays so that memory stays whole.

    >>> columns = Columns({"a": "i8"})
    >>> columns.add(a=[1, 2]); columns.add(a=[3])
    >>> len(columns), columns.done()["a"].tolist()
    (3, [1, 2, 3])
    """

    def __init__(self, types: dict[str, str]) -> None:
        self.types = types
        self._full: dict[str, list[Array]] = {name: [] for name in types}
        self._open: dict[str, Array] = {}
        self._room = ROOM  # rows of the open chunk
        self._used = 0
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def add(self, **columns: Any) -> None:  # noqa: ANN401 - arrays and lists of any type
        """Append rows; every declared column must be given."""
        given = {name: np.asarray(columns[name]) for name in self.types}
        rows = len(next(iter(given.values())))
        self._rows += rows
        placed = 0
        while placed < rows:
            if not self._open or self._used == self._room:
                self._more_room(rows - placed)
            step = min(rows - placed, self._room - self._used)
            for name, column in given.items():
                self._open[name][self._used : self._used + step] = column[placed : placed + step]
            self._used += step
            placed += step

    def _more_room(self, rows: int) -> None:
        """Open a chunk for `rows` more: a large one takes over what a small one held."""
        grown = self._open if self._open and self._room < ROOM else {}
        if not grown:
            self._close()
        self._room = FEW if rows <= FEW and not grown else ROOM
        self._open = {name: np.empty(self._room, dtype=kind) for name, kind in self.types.items()}
        for name, column in grown.items():
            self._open[name][: self._used] = column

    def _close(self) -> None:
        """Move the rows of the open chunk to the full ones."""
        if not self._open:
            return
        for name, column in self._open.items():
            self._full[name].append(column[: self._used])
        self._open, self._used = {}, 0

    def pop(self, name: str) -> Array:
        """Return one column and forget it."""
        self._close()
        parts = self._full.pop(name)
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=self.types[name])

    def done(self) -> dict[str, Array]:
        """Return all rows so far, one array a column."""
        self._close()
        if all(len(parts) == 1 for parts in self._full.values()):
            return {name: self._full[name][0] for name in self.types}
        self._full = {name: [self.pop(name)] for name in self.types}
        return {name: self._full[name][0] for name in self.types}

    def keep(self, rows: Array) -> None:
        """Drop all but the given rows."""
        self._full = {name: [column[rows]] for name, column in self.done().items()}
        self._rows = len(rows)


def by_chunks(work: Callable[..., Array], kind: str, *columns: Array) -> Array:
    """Return `work` of the columns, done a chunk at a time so that what lies in between stays small.

    >>> by_chunks(lambda a, b: a + b, "i4", np.array([1, 2]), np.array([3, 4])).tolist()
    [4, 6]
    """
    out = np.empty(len(columns[0]), dtype=kind)
    for at in range(0, len(out), CHUNK):
        out[at : at + CHUNK] = work(*(column[at : at + CHUNK] for column in columns))
    return out


def times(values: Sequence[Any]) -> Array:
    """Return microseconds as whole nanoseconds, exact to one; unknown or absurd is 0. Shape [values], int64.

    >>> times([4376153456525.056, 7.0]).tolist()
    [4376153456525056, 7000]
    """
    if any(isinstance(value, Decimal) for value in values[:1]):
        known = (value if value is not None and abs(value) < LARGEST_US else Decimal(0) for value in values)
        return np.array([int(value.scaleb(3).to_integral_value()) for value in known], dtype=np.int64)
    given = np.array(values, dtype=np.float64)
    given = np.where(np.abs(given) < LARGEST_US, given, 0.0)
    whole = np.floor(given)
    return np.asarray(whole.astype(np.int64) * 1000 + np.rint((given - whole) * 1000).astype(np.int64))


def numbers(values: Sequence[Any]) -> Array:
    """Return integers, -1 for what is none. Shape [values], int64.

    >>> numbers([3, "4", None, "x"]).tolist(), numbers([[5]]).tolist()
    ([3, 4, -1, -1], [-1])
    """
    try:
        found = np.array(values, dtype=np.int64)
    except (TypeError, ValueError, OverflowError):
        found = None
    if found is None or found.ndim != 1:  # equally long lists would be one array of two axes
        found = np.array([number(value) for value in values], dtype=np.int64)
    return found


def number(value: object) -> int:
    """Return one integer, -1 where the value is none or does not fit 64 bits.

    >>> number("7"), number([1]), number(2**64)
    (7, -1, -1)
    """
    try:
        whole = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return -1
    return whole if -(2**63) <= whole < 2**63 else -1


def compact(codes: Array, values: Sequence[str]) -> Coded:
    """Return coded text of which every value occurs; codes below 0 stay.

    >>> compact(np.array([2, 0, 2]), ["a", "b", "c"]).values
    ['a', 'c']
    """
    used = np.unique(codes)
    used = used[used >= 0]
    place = np.full(len(values) + 1, -1, dtype=np.int32)
    place[used] = np.arange(len(used))
    return Coded(place[codes], [values[code] for code in used])


def ordinal(keys: Sequence[Array], order_by: Array) -> Array:
    """Return for each row which one it is (from 0) of its key, counted in the order of `order_by`.

    >>> ordinal([np.array([5, 6, 5])], np.array([30, 20, 10])).tolist()
    [1, 0, 0]
    """
    if not len(order_by):
        return np.zeros(0, dtype=np.int64)
    order = np.lexsort((order_by, *keys))
    new = np.zeros(len(order), dtype=bool)
    new[0] = True
    for key in keys:
        new[1:] |= key[order][1:] != key[order][:-1]
    place = np.arange(len(order))
    out = np.empty(len(order), dtype=np.int64)
    out[order] = place - np.maximum.accumulate(np.where(new, place, 0))
    return out


def outermost(lane: Array, start: Array, end: Array) -> Array:
    """Return the rows (ascending by lane, start) whose span lies in no earlier, longer one of the same lane.

    >>> outermost(np.array([1, 1, 1, 2]), np.array([0, 2, 9, 3]), np.array([8, 4, 12, 5])).tolist()
    [0, 2, 3]
    """
    if not len(lane):
        return np.zeros(0, dtype=np.int64)
    order = np.lexsort((-end, start, lane))
    kept = []
    lanes = lane[order]
    edges = np.flatnonzero(np.diff(lanes, prepend=lanes[:1] - 1))
    for first, behind in zip(edges, [*edges[1:], len(lanes)], strict=True):
        rows = order[first:behind]
        reach = np.maximum.accumulate(end[rows])
        inside = np.zeros(len(rows), dtype=bool)
        inside[1:] = end[rows][1:] <= reach[:-1]
        kept.append(rows[~inside])
    return np.concatenate(kept)
