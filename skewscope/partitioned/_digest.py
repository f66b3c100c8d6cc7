"""One range of steps: read its rows of all ranks, attribute them, keep what the whole needs of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..attribution import attribute
from ..attribution.layout import only
from ..attribution.price_series import PriceSeries
from ..errors import SkewscopeError
from ..frames import concat, frame
from ..sources.canonical_table import columns_of
from ..stats import segments
from ._layout import Piece

Array = np.ndarray[Any, Any]
Tables = dict[str, pd.DataFrame]
NEEDED = {
    "ops": ("job", "rank", "step", "microbatch", "op", "stream", "start_ns", "end_ns", "source"),
    "steps": (),  # all
    "collectives": ("job", "step", "rank", "group", "group_size", "seq", "op", "op_class", "message_bytes", "peer",
                    "ready_ns", "start_ns", "end_ns", "duration_ns", "blocking", "state", "source"),
}  # fmt: skip
OF_STEPS = ("rank_steps", "step_times", "arrivals")
ABSENT = "(missing)"
NARROW = ("step", "wait_for_rank", "work_tokens")


@dataclass(frozen=True)
class Context:
    """What all ranges share: small tables, and how much of the stepwise ones is kept.

    `every` maps a stepwise table to k: the rows of every k-th step are kept, and those of the recording's `first` and
    `last` steps. `required` are the tables without which a range cannot be judged. `whole` reads all columns; `narrow`
    keeps numbers in 4 bytes.
    """

    tables: Tables
    every: Mapping[str, int]
    first: int
    last: int
    required: frozenset[str]
    whole: bool
    narrow: bool


@dataclass(frozen=True)
class Task:
    """One range: steps `first` to `last`, both included; those from `lead` on are read, so that it begins right."""

    place: int
    first: int
    last: int
    lead: int
    pieces: tuple[Piece, ...]
    context: Context


@dataclass
class Digest:
    """What a range gives: small tables, and stepwise ones as `columns`, so that each can be let go by itself.

    `calls` is how many calls `arrivals` numbers; `failed` says why the range gives nothing, `path` which file.
    """

    place: int
    tables: Tables = field(default_factory=dict)
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)
    prices: PriceSeries | None = None
    warnings: list[str] = field(default_factory=list)
    calls: int = 0
    failed: str = ""
    path: str = ""


def digest(task: Task) -> Digest:
    """Return the digest of one range; a failed one where a file cannot be read or its rows break the schema."""
    tables: Tables = {}
    for table in dict.fromkeys(piece.table for piece in task.pieces):
        parts = []
        for piece in task.pieces:
            if piece.table != table:
                continue
            try:
                parts.append(_rows(piece, task))
            except (OSError, pa.ArrowException, SkewscopeError, KeyError, ValueError) as error:
                if all(group.last < task.first for group in piece.groups):
                    return digest(_without_lead(task))
                reason = " ".join(str(error).split())[:300]
                return Digest(task.place, failed=f"damaged table: {reason}", path=piece.path)
        tables[table] = concat(table, parts)
    lacking = [name for name in sorted(task.context.required)
               if name not in tables or not (tables[name]["step"] >= task.first).any()]  # fmt: skip
    if lacking:
        return Digest(task.place, failed=f"no {' and no '.join(lacking)} of these steps can be read", path=ABSENT)
    return _digested(tables, task)


def _without_lead(task: Task) -> Task:
    """Return the task without the step before it, whose file cannot be read."""
    pieces = [piece.within(task.first, task.last) for piece in task.pieces]
    return replace(task, lead=task.first, pieces=tuple(piece for piece in pieces if piece.groups))


def _rows(piece: Piece, task: Task) -> pd.DataFrame:
    """Return the rows of one file whose steps are in the range, with the columns that are needed."""
    with pq.ParquetFile(piece.path) as file:
        names = [name for name in file.schema_arrow.names if task.context.whole or _needed(piece.table, name)]
        rows = file.read_row_groups([group.place for group in piece.groups], columns=names, use_threads=False)
    if any(group.first < task.lead or group.last > task.last for group in piece.groups):
        step = rows.column("step")
        rows = rows.filter(pc.and_(pc.greater_equal(step, task.lead), pc.less_equal(step, task.last)))
    return frame(piece.table, columns_of(piece.table, rows))


def _needed(table: str, column: str) -> bool:
    return not NEEDED[table] or column in NEEDED[table]


def _digested(tables: Tables, task: Task) -> Digest:
    made = attribute({**task.context.tables, **tables})
    prices = made.prices.only(task.first, task.last) if made.prices is not None else None
    if prices is not None and task.context.narrow:
        prices = replace(prices, excess=prices.excess.narrow())
    calls = made.tables["arrivals"]
    kept = {name: made.tables[name] for name in ("clocks", "pair_delays")}
    for name in OF_STEPS:
        kept[name] = _within(made.tables[name], task.first, task.last)
    kept["arrivals"] = _thinned(kept["arrivals"], "collectives", task.context)
    for name, rows in tables.items():
        kept[name] = _thinned(_within(rows, task.first, task.last), name, task.context)
    columns = {name: _columns(kept.pop(name), task.context.narrow and name == "rank_steps")
               for name in (*OF_STEPS, *tables)}  # fmt: skip
    count = int(calls["call"].max()) + 1 if len(calls) else 0
    return Digest(task.place, kept, columns, prices, made.warnings, count)


def _within(rows: pd.DataFrame, first: int, last: int) -> pd.DataFrame:
    step = rows["step"].to_numpy()
    return only(rows, (step >= first) & (step <= last))


def _thinned(rows: pd.DataFrame, table: str, context: Context) -> pd.DataFrame:
    """Return the rows of every k-th step, of the first and the last two, and of calls that tell of a standstill."""
    every = context.every.get(table, 1)
    if every <= 1 or not len(rows):
        return rows
    step = rows["step"].to_numpy()
    kept = (step % every == 0) | (step == context.first) | (step >= context.last - 1)
    if "state" in rows:
        kept |= _telling(rows)
    return only(rows, kept)


def _telling(calls: pd.DataFrame) -> Array:
    """Return which calls are not complete, or are something else on some members than on others."""
    state = calls["state"]
    told = ~state.isin(["", "completed"]).to_numpy()
    recorded = np.flatnonzero((state != "").to_numpy())
    if not len(recorded):
        return told
    keys = [calls[name].cat.codes.to_numpy() for name in ("source", "group", "op_class")] + [calls["seq"].to_numpy()]
    order = recorded[np.lexsort([key[recorded] for key in reversed(keys)])]
    over = segments.runs(*(key[order] for key in keys))
    for name in ("op", "message_bytes"):
        values = calls[name].cat.codes.to_numpy() if name == "op" else calls[name].to_numpy()
        differs = segments.minimum(values[order], over) != segments.maximum(values[order], over)
        told[order[differs[over.of]]] = True
    return told


def _columns(rows: pd.DataFrame, narrow: bool) -> dict[str, Any]:
    """Return the columns of a table; `narrow` ones with numbers in 4 bytes where that loses nothing that matters."""
    made: dict[str, Any] = {}
    for name in rows.columns:
        column = rows[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            made[name] = column.array
        elif narrow and column.dtype == np.float64:
            made[name] = column.to_numpy().astype(np.float32)
        elif narrow and name in NARROW and (not len(column) or column.abs().max() < 2**31):
            made[name] = column.to_numpy().astype(np.int32)
        else:
            made[name] = column.to_numpy()
    return made
