"""Answers of views as a document `skewscope.view/1`, and the texts of their tables."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from . import wording
from .view_schema import NAME

if TYPE_CHECKING:
    from ..contracts import Shown
    from ..recording import Input

FIRST_TIME_NS = 10**17  # from here on a number of ns is a time of the calendar (1973), below a duration
UNITS = (
    "_bytes_per_s",
    "_bytes",
    "_percent",
    "_ratio",
    "_count",
    "_flops_per_s",
    "_flops",
    "_tokens",
    "_per_s",
    "_ns",
    "_us",
    "_ms",
    "_s",
)


def document(answers: Iterable[Any], inputs: Sequence[Input]) -> dict[str, Any]:
    """Return the document of answers (`skewscope.viewing.Answer`) about these inputs."""
    return {
        "schema": NAME,
        "inputs": [
            {"path": one.path, "format": one.format, "rank": one.rank if one.rank >= 0 else None, "events": one.events,
             "status": one.status, "error": one.error or None}
            for one in inputs
        ],
        "views": [_view(one) for one in answers],
    }  # fmt: skip


def _view(answer: Any) -> dict[str, Any]:  # noqa: ANN401 - an Answer, which lives two floors above
    shown: Shown | None = answer.shown
    return {
        "view": answer.view, "question": answer.question, "settings": dict(answer.settings),
        "missing": answer.missing or None,
        "said": list(shown.said) if shown else [], "notes": list(shown.notes) if shown else [],
        "tables": {name: records(rows) for name, rows in shown.tables.items()} if shown else {},
        "pictures": [dataclasses.asdict(one) for one in shown.pictures] if shown else [],
    }  # fmt: skip


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as JSON objects; what is not finite is None.

    >>> records(pd.DataFrame({"rank": [0], "idle_s": [np.nan]}))
    [{'rank': 0, 'idle_s': None}]
    """
    columns = {str(name): [_plain(value) for value in rows[name].tolist()] for name in rows.columns}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _plain(value: Any) -> Any:  # noqa: ANN401 - a cell of any type
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bool | int | str) or value is None:
        return value
    return str(value)


def unit(column: str) -> str:
    """Return the unit that a column's name ends with, "" for a name or an ordinal.

    >>> unit("moved_bytes_per_s"), unit("idle_percent"), unit("rank")
    ('_bytes_per_s', '_percent', '')
    """
    return next((one for one in UNITS if column.endswith(one)), "")


def heading(column: str) -> str:
    """Return a column's name for people; the unit stands in the cells.

    >>> heading("compute_s"), heading("idle_percent"), heading("launches_count"), heading("tokens_per_s")
    ('compute', 'idle %', 'launches', 'tokens/s')
    """
    found = unit(column)
    name = column.removesuffix(found).replace("_", " ") or found.strip("_")
    if found == "_percent":
        return f"{name} %"
    if found == "_ratio":
        return f"{name} ratio"
    return f"{name}/s" if found.endswith("_per_s") else name


def cell(column: str, value: Any) -> str:  # noqa: ANN401 - a cell of any type
    """Return a value of a column for people: durations, sizes and shares with units, "-" for unknown.

    >>> cell("idle_s", 0.0123), cell("moved_bytes", 2.5e9), cell("idle_percent", 41.26), cell("rank", 3)
    ('12.3 ms', '2.5 GB', '41.3', '3')
    >>> cell("slowest_rank", -1)
    '-'
    """
    if isinstance(value, str):
        return wording.clean(value) or wording.UNKNOWN
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if value is None or not math.isfinite(value):
        return wording.UNKNOWN
    found = unit(column)
    if value == -1 and found in ("", "_count", "_bytes", "_ns", "_tokens"):  # how tables say unknown
        return wording.UNKNOWN
    if found in ("_s", "_ms", "_us", "_ns"):
        return _time(value, found)
    if found.startswith(("_bytes", "_flops")):
        kind = "FLOP" if found.startswith("_flops") else "B"
        return wording.prefixed(value) + kind + ("/s" if found.endswith("_per_s") else "")
    return f"{value:.1f}" if found == "_percent" else _number(value)


def _time(value: float, found: str) -> str:
    if found == "_ns" and value >= FIRST_TIME_NS:
        return wording.clock(int(value))
    return wording.seconds(value * {"_s": 1.0, "_ms": 1e-3, "_us": 1e-6, "_ns": 1e-9}[found])


def _number(value: float) -> str:
    if isinstance(value, int | np.integer) or float(value).is_integer():
        return f"{int(value)}" if abs(value) < 1e4 else f"{int(value):,}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def texts(rows: pd.DataFrame, most: int | None = None, longest: int = 10_000) -> tuple[tuple[str, ...], ...]:
    """Return the first rows of a table as texts for people, those above `longest` letters cut.

    >>> texts(pd.DataFrame({"name": ["a_long_kernel"], "idle_s": [0.5]}), longest=8)
    (('a_lon...', '500 ms'),)
    """
    part = rows if most is None else rows.head(most)
    columns = [[_cut(cell(str(name), value), longest) for value in part[name].tolist()] for name in part.columns]
    return tuple(zip(*columns, strict=True)) if columns else ()


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 3] + "..."
