"""Hands the rows of one range of a trace from process to process, and numbers their names anew where they arrive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from ._kineto_columns import Array, Judged

Coding = Mapping[str, Mapping[str, str]]  # table -> its coded columns -> the attribute with their names


class Tables(Protocol):
    """Rows in tables (attributes of type Columns) whose columns in `CODING` are numbers of names kept beside them."""

    CODING: ClassVar[Coding]


@dataclass(frozen=True)
class Packed:
    """The tables of one range, without spare room, and the names that their codes stand for."""

    tables: dict[str, dict[str, Array]]
    names: dict[str, list[Any]]


def packed(rows: Tables) -> Packed:
    """Return all tables of `rows` and their names."""
    used = {attribute for coded in rows.CODING.values() for attribute in coded.values()}
    tables = {name: getattr(rows, name).done() for name in rows.CODING}
    return Packed(tables, {name: getattr(rows, name).values for name in sorted(used)})


def take(rows: Tables, given: Packed) -> None:
    """Append what was packed elsewhere; names get the numbers that they have, or would get, in `rows`."""
    moved = {name: _numbers(getattr(rows, name), values) for name, values in given.names.items()}
    for table, columns in given.tables.items():
        coded = rows.CODING[table]
        getattr(rows, table).add(
            **{name: moved[coded[name]][column] if name in coded else column for name, column in columns.items()}
        )


def _numbers(names: Any, values: list[Any]) -> Array:  # noqa: ANN401 - Names or Judged
    codes = names.codes(values)
    return np.asarray(codes[0] if isinstance(names, Judged) else codes)
