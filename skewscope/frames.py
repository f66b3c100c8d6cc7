"""Where tables meet pandas: typed frames with every declared column, unknowns filled, names coded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any

import numpy as np
import pandas as pd

from . import tables as schema
from .contracts import Coded, Columns
from .errors import SchemaError
from .tables import Column

DTYPES = {"i64": "int64", "i32": "int32", "i16": "int16", "f64": "float64", "bool": "bool"}
_KINDS: dict[str, np.dtype[Any]] = {kind: np.dtype(name) for kind, name in DTYPES.items()}


def frame(table: str, columns: Columns) -> pd.DataFrame:
    """Return a frame of `table` with all its columns in order; optional ones not given are unknown.

    Raises SchemaError naming the table and column that is missing, unknown or of the wrong type.

    >>> frame("ranks", {"job": "job", "rank": [0, 1]})["node"].tolist()
    ['', '']
    """
    return part(table, columns).frame()


@dataclass(frozen=True)
class Part:
    """Some `rows` of a table, checked, its names as Coded: many of them are united sooner than frames are."""

    columns: dict[str, Any]
    rows: int

    def __len__(self) -> int:
        return self.rows

    def frame(self) -> pd.DataFrame:
        """Return the rows as a frame."""
        made = {name: _categorical(one) if isinstance(one, Coded) else one for name, one in self.columns.items()}
        return pd.DataFrame(made, copy=False)


def part(table: str, columns: Columns) -> Part:
    """Return rows of `table` that are no frame yet, with all its columns in order; raises SchemaError as `frame`.

    >>> part("ranks", {"job": "job", "rank": [0, 1]}).columns["rank"].tolist()
    [0, 1]
    """
    declared = schema.table(table)
    if not columns.keys() <= declared.by_name.keys():
        strange = min(set(columns) - set(declared.by_name))
        raise SchemaError(f"table {table} has no column {strange!r}; it has {', '.join(declared.by_name)}")
    rows = _length(columns)
    made = {column.name: _column(table, column, columns.get(column.name), rows) for column in declared.columns}
    for name, value in made.items():
        if len(value.codes if isinstance(value, Coded) else value) != rows:
            raise SchemaError(f"table {table}: column {name!r} is not {rows} rows long")
    return Part(made, rows)


def united(table: str, parts: Iterable[Part]) -> Part:
    """Return the rows of all parts, in their order; codes of equal names become equal.

    >>> united("ranks", [part("ranks", {"job": name, "rank": [0]}) for name in "ab"]).frame()["job"].tolist()
    ['a', 'b']
    """
    kept = [one for one in parts if len(one)]
    if len(kept) == 1:
        return kept[0]
    declared = schema.table(table).columns
    if not kept:
        return part(table, {column.name: [] for column in declared})
    made = {column.name: _end_to_end(column, [one.columns[column.name] for one in kept]) for column in declared}
    return Part(made, sum(map(len, kept)))


def empty(table: str) -> pd.DataFrame:
    """Return a frame of `table` with no rows.

    >>> len(empty("steps"))
    0
    """
    return _empty(table).copy(deep=False)  # writing to a copy leaves the original alone


def let_go() -> None:
    """Forget what is shared between frames. What runs for months does so each window: all is made anew when asked for.

    pandas notes every use of a shared column, and strikes the notes out only once there are 500 of them.
    """
    _empty.cache_clear()
    _one_name.cache_clear()


@lru_cache(maxsize=256)
def _empty(table: str) -> pd.DataFrame:
    return frame(table, {column.name: [] for column in schema.table(table).columns})


def concat(table: str, frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return one frame of all rows; codes of equal names become equal.

    >>> one = frame("ranks", {"job": "a", "rank": [0]}); two = frame("ranks", {"job": "b", "rank": [0]})
    >>> concat("ranks", [one, two])["job"].tolist()
    ['a', 'b']
    """
    parts = [one for one in frames if len(one)]
    if not parts:
        return empty(table)
    if len(parts) == 1:
        return parts[0].reset_index(drop=True)
    names = schema.table(table).by_name
    return united(table, [part(table, {name: one[name] for name in names}) for one in parts]).frame()


def check(table: str, given: pd.DataFrame) -> pd.DataFrame:
    """Return `given` as a frame of `table`: casts what fits, raises SchemaError for what does not."""
    declared = schema.table(table)
    for column in declared.columns:
        if column.name not in given and not column.optional:
            raise SchemaError(f"table {table}: column {column.name!r} is missing; it means: {column.doc}")
    return frame(table, {name: given[name] for name in given.columns if name in declared.by_name})


def all_tables(given: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return `given` with an empty frame for every canonical table that it lacks; all share these: change none."""
    return {name: given[name] if name in given else _empty(name) for name in schema.names()}


def _length(columns: Columns) -> int:
    for value in columns.values():
        if isinstance(value, Coded):
            return len(value.codes)
        if isinstance(value, Sequence | np.ndarray | pd.Series | pd.Categorical) and not isinstance(value, str):
            return len(value)
    return 1 if columns else 0


def _column(table: str, column: Column, value: Any, rows: int) -> Any:  # noqa: ANN401 - arrays of any type
    if value is None:
        if not column.optional and rows:
            raise SchemaError(f"table {table}: column {column.name!r} is missing; it means: {column.doc}")
        value = column.unknown
    if column.type == "str":
        return _coded(value, rows)
    if type(value) is np.ndarray and value.dtype == _KINDS[column.type]:
        return value
    if np.isscalar(value):
        return _filled(table, column, value, rows)
    array = np.asarray(value)
    if column.type.startswith("i") and array.dtype.kind == "f":
        array = np.where(np.isfinite(array), array, -1)
    elif array.dtype.kind == "O":
        array = np.array([column.unknown if item is None or item is pd.NA else item for item in array])
    try:
        return array.astype(_KINDS[column.type], copy=False)
    except (TypeError, ValueError, OverflowError) as error:
        raise SchemaError(f"table {table}: column {column.name!r} is not {column.type}: {error}") from None


def _filled(table: str, column: Column, value: Any, rows: int) -> Any:  # noqa: ANN401 - one value of any type
    try:
        return np.full(rows, value, dtype=_KINDS[column.type])
    except (TypeError, ValueError, OverflowError) as error:
        raise SchemaError(f"table {table}: column {column.name!r} is not {column.type}: {error}") from None


def _categorical(column: Coded) -> pd.Categorical[Any]:
    if len(column.values) == 1:  # the codes are zeros
        return pd.Categorical.from_codes(
            np.zeros(len(column.codes), dtype=np.int8), dtype=_one_name(column.values[0]), validate=False
        )
    return pd.Categorical.from_codes(column.codes, categories=pd.Index(list(column.values), dtype=object))


@lru_cache(maxsize=256)
def _one_name(value: str) -> pd.CategoricalDtype:
    return pd.CategoricalDtype(pd.Index([value], dtype=object))


def _coded(value: Any, rows: int) -> Coded:  # noqa: ANN401 - arrays of any type
    """Return text with every code known and every value once."""
    if isinstance(value, str):
        return Coded(np.zeros(rows, dtype=np.int8), [value])
    if isinstance(value, Coded):
        return _without_gaps(np.asarray(value.codes), list(value.values))
    if isinstance(value, pd.Series):
        value = value.array
    if isinstance(value, pd.Categorical):
        return _without_gaps(np.asarray(value.codes), [str(name) for name in value.categories])
    names = value if set(map(type, value)) <= {str} else [_text(item) for item in value]
    place: defaultdict[str, int] = defaultdict(count().__next__)
    codes = np.fromiter(map(place.__getitem__, names), dtype=np.int64, count=len(names))
    return Coded(codes, list(place))


def _text(item: object) -> str:
    return "" if item is None or item is pd.NA or item != item else str(item)


def _without_gaps(codes: np.ndarray[Any, Any], values: list[str]) -> Coded:
    unique = list(dict.fromkeys(values))
    if len(unique) != len(values):
        place = {name: index for index, name in enumerate(unique)}
        codes = np.array([place[name] for name in values] + [-1])[codes]
    if len(codes) and codes.min() < 0:
        if "" not in unique:
            unique.append("")
        codes = np.where(codes < 0, unique.index(""), codes)
    if len(codes) and codes.max() >= len(unique):
        raise SchemaError(f"a code of {codes.max()} for {len(unique)} values")
    return Coded(codes, unique)


def _end_to_end(column: Column, values: Sequence[Any]) -> Any:  # noqa: ANN401 - Coded or an array
    return _union(values) if column.type == "str" else np.concatenate(values)


def _union(columns: Sequence[Coded]) -> Coded:
    place: dict[str, int] = {}
    moved = [np.array([place.setdefault(name, len(place)) for name in one.values], dtype=np.int32) for one in columns]
    return Coded(np.concatenate([codes[one.codes] for codes, one in zip(moved, columns, strict=True)]), list(place))
