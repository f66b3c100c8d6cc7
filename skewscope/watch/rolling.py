"""The windows table of the horizon as one table: a new window goes in, old ones go out, and nothing is there twice.

A fleet's horizon is most of the service's memory; put together anew from its windows each time it would be there three
times at once. Here it is there once, and one column more while it is rebuilt column by column.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..frames import empty

Array = np.ndarray[Any, Any]
# Seven digits are enough for what is compared with thresholds; a last value may be a time, and keeps all.
SLIM = {
    **dict.fromkeys(("mean_value", "low_value", "high_value", "increase_value"), "float32"), "samples_count": "int32",
}  # fmt: skip


class Rolling:
    """A table `windows` whose rows stand together by metric, each metric's in the order in which they came."""

    def __init__(self) -> None:
        self.table = empty("windows").astype(SLIM)

    def add(self, rows: pd.DataFrame, *, first: bool = False, drop: Collection[int] = ()) -> None:
        """Take the rows of a window, behind those of before or `first`; let go of windows that end at `drop` (ns).

        The table of before must not be used any more: its columns are taken from it.
        """
        old = self.table
        gone = self._in(drop)
        kept = ~gone if gone.any() else None
        metrics = _joined(_ordered(_part(old["metric"], kept), rows["metric"].array, first=first))
        order = np.argsort(metrics.codes, kind="stable")
        made: dict[str, Any] = {}
        for name in list(old.columns):
            column = old.pop(name)
            if name == "metric":
                made[name] = metrics.take(order)
                continue
            part = _part(column, kept)
            del column
            new = rows[name].array if isinstance(part, pd.Categorical) else rows[name].to_numpy(SLIM.get(name))
            made[name] = _joined(_ordered(part, new, first=first)).take(order)
            del part
        self.table = pd.DataFrame(made, copy=False)

    def fill(self, parts: Iterable[pd.DataFrame]) -> None:
        """Take tables `windows`, each with all rows of some metrics; nothing of before stays.

        A metric's rows come to stand by time, those of one time as they stood.
        """
        told: dict[str, list[Any]] = {name: [] for name in self.table.columns}
        for rows in parts:
            order = np.lexsort((rows["t_ns"].to_numpy(), rows["metric"].cat.codes.to_numpy()))
            for name, columns in told.items():
                column = rows[name]
                slim = (
                    column.array if isinstance(column.dtype, pd.CategoricalDtype) else column.to_numpy(SLIM.get(name))
                )
                columns.append(slim.take(order))
        if any(map(len, told["t_ns"])):
            self.table = pd.DataFrame({name: _joined(told.pop(name)) for name in list(told)}, copy=False)

    def drop(self, ends: Collection[int]) -> None:
        """Let go of the windows that end at these times (ns)."""
        gone = self._in(ends)
        if gone.any():
            self.table = self.table[~gone].reset_index(drop=True)

    def _in(self, ends: Collection[int]) -> Array:
        return np.isin(self.table["t_ns"].to_numpy(), np.array(sorted(ends), dtype=np.int64))


def _part(column: pd.Series, kept: Array | None) -> Any:  # noqa: ANN401 - a categorical or an array
    values = column.array if isinstance(column.dtype, pd.CategoricalDtype) else column.to_numpy()
    return values if kept is None else values[kept]


def _ordered(old: Any, new: Any, *, first: bool) -> list[Any]:  # noqa: ANN401 - two categoricals or two arrays
    return [new, old] if first else [old, new]


def _joined(parts: Sequence[Any]) -> Any:  # noqa: ANN401 - categoricals or arrays
    """Return all, one behind the other; names that nobody uses any more go."""
    if not isinstance(parts[0], pd.Categorical):
        return np.concatenate(parts)
    place: dict[str, int] = {}
    for one in parts:
        used = np.zeros(len(one.categories), dtype=bool)
        used[one.codes] = True  # no code is below 0: the frames see to it
        for name in one.categories[used]:
            place.setdefault(str(name), len(place))
    codes = [np.array([place.get(str(name), -1) for name in one.categories], dtype=_code(len(place)))[one.codes]
             for one in parts]  # fmt: skip
    names = pd.Index(list(place), dtype=object)
    return pd.Categorical.from_codes(np.concatenate(codes), categories=names, validate=False)


def _code(count: int) -> type[np.signedinteger[Any]]:
    """Return the smallest type that tells so many names apart."""
    return np.int8 if count < 1 << 7 else np.int16 if count < 1 << 15 else np.int32
