"""One snapshot of the data, as all pages read it; a page sees nothing else."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from skewscope.frames import all_tables

from ._act_records import Acts
from ._large import Large, Span, Tables

NO_REPORT: Mapping[str, Any] = {
    "schema": "skewscope.report/1",
    "inputs": [],
    "job": {"ranks": 0, "steps": 0, "start_ns": None, "end_ns": None, "parallelism": {}},
    "summary": {
        "step_time_s": {"mean": None, "p50": None, "p99": None}, "ideal_step_time_s": None, "slowdown": None,
        "wasted_share": None, "wasted_gpu_hours": None, "communication_share": None,
        "communication_hidden_share": None, "verdict": "No data yet.",
    },
    "findings": [], "recommendations": [], "steps": [], "collectives": [], "warnings": [],
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class View:
    """One snapshot. `id` changes when the data change, so it keys what is made of them; `time_ns` -1 is unknown.

    `report` is a `skewscope.report/1` document, `incidents` are `skewscope.incident/1`, the newest change first;
    `tables` holds every canonical and derived table, maybe empty.
    """

    id: str = "nothing"
    title: str = "nothing loaded"
    time_ns: int = -1
    report: Mapping[str, Any] = field(default_factory=lambda: NO_REPORT)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=lambda: all_tables({}))
    incidents: tuple[Mapping[str, Any], ...] = ()
    live: bool = False
    errors: tuple[str, ...] = ()  # why the source is not up to date, one line each
    decisions: tuple[Mapping[str, Any], ...] = ()  # `skewscope.decision/1`: what people answered, newest first
    acts: Acts | None = None  # what an engine did and asks; None where none is seen

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show at all.

        >>> View().empty
        True
        """
        told = self.report["inputs"] or self.report["findings"] or self.report["job"]["ranks"] or self.incidents
        return not told and not any(self.count(name) for name in self.tables)

    def large(self, name: str) -> Large | None:
        """Return a table that stays in its file, None for one that is in memory."""
        return self.tables.large.get(name) if isinstance(self.tables, Tables) else None

    def count(self, name: str) -> int:
        """Return how many rows a table has; 0 where it is not there."""
        large = self.large(name)
        if large is not None:
            return large.count
        return len(self.tables[name]) if name in self.tables else 0

    def having(self, name: str, table: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
        """Return the tables with another one in the place of `name`; none is read for it."""
        beneath: Any = self.tables  # is not changed
        return ChainMap({name: table}, beneath)

    def rows(self, name: str, columns: Sequence[str], step: Span | None = None, every: int = 1) -> pd.DataFrame:
        """Return these columns of a table, where they are; of a span of steps, or of one step of `every`, if asked.

        Of a table in its file only these columns are read, narrower than they were (see `_large`).
        """
        large = self.large(name)
        if large is not None:
            return large.rows(columns, step, every)
        if not self.count(name):
            return pd.DataFrame()
        table = self.tables[name]
        table = table[[column for column in columns if column in table]]
        return table if step is None else table[table["step"].between(*step).to_numpy()]

    def parts(self, name: str, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Yield these columns of a table piece by piece, for sums that need not hold it whole; nothing if empty."""
        large = self.large(name)
        if large is not None:
            yield from large.parts(columns)
        elif self.count(name):
            yield self.rows(name, columns)

    def names(self, name: str, column: str) -> tuple[str, ...]:
        """Return the distinct texts of a column, sorted, without ""."""
        large = self.large(name)
        if large is not None:
            found = set(large.names(column))
        elif self.count(name) and column in self.tables[name]:
            found = {str(one) for one in self.tables[name][column].unique()}
        else:
            found = set()
        return tuple(sorted(found - {""}))

    def jobs(self) -> tuple[str, ...]:
        """Return the names of the jobs that the tables know, sorted."""
        tables = ("ranks", "rank_steps", "steps", "arrivals", "windows")
        found = {job for name in tables for job in self.names(name, "job")}
        return tuple(sorted(found))
