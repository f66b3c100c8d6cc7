"""One side of a comparison: a run's report and, where they are at hand, its tables; counts to normalise by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ..reports.rank_table import judged_steps

Array = np.ndarray[Any, Any]
Document = Mapping[str, Any]

DEVICE = ("kernel", "memcpy", "memset")
LOST_RATIO = 0.25  # of device work without a launch: more means that launches were not recorded


@dataclass(frozen=True)
class Run:
    """A recording that was analysed: `report` is its `skewscope.report/1`; without `tables` only that is compared."""

    name: str
    report: Document
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    @cached_property
    def step_s(self) -> Array:
        """Seconds of each judged step (not planned to be long), in order; empty where no steps were recorded."""
        times = self.table("step_times")
        if len(times):
            length = times.loc[~times["planned"].to_numpy(dtype=bool), "duration_ns"].to_numpy(dtype=float) / 1e9
        else:
            told = [step["duration_s"] for step in self.report.get("steps", ())]
            length = np.array([np.nan if one is None else one for one in told], dtype=float)
        return np.asarray(length[np.isfinite(length) & (length > 0)])

    @cached_property
    def rank_steps(self) -> pd.DataFrame:
        """The judged rows of `rank_steps`, maybe none."""
        return judged_steps(self.tables)

    @cached_property
    def judged(self) -> Array:
        """Numbers of the steps that are compared, sorted; empty where the recording tells no steps."""
        times = self.table("step_times")
        if not len(times):
            return np.zeros(0, dtype=np.int64)
        kept = times.loc[~times["planned"].to_numpy(dtype=bool), "step"].to_numpy(dtype=np.int64)
        return np.unique(kept[kept >= 0])

    @cached_property
    def ranks(self) -> int:
        """How many ranks the tables hold rows of, at least 1; by the report where there are no tables."""
        seen = [self.table(name)["rank"].unique().tolist() for name in ("ops", "collectives", "rank_steps", "steps")
                if len(self.table(name))]  # fmt: skip
        if not seen:
            return max(1, int(self.report["job"]["ranks"] or 0))
        return max(1, len({rank for ranks in seen for rank in ranks if rank >= 0}))

    @cached_property
    def ops(self) -> pd.DataFrame:
        """Operations, without device work that was launched before the recording began: it is of no recorded step."""
        ops = self.table("ops")
        early = _early(ops)
        return ops if early is None else ops[~early]

    @cached_property
    def calls(self) -> pd.DataFrame:
        """Collectives, without those that ran while a rank's device still worked on what was launched before."""
        calls, ops = self.table("collectives"), self.table("ops")
        early = _early(ops)
        if early is None or not len(calls):
            return calls
        last = ops[early].groupby("rank")["start_ns"].max()
        until = last.reindex(calls["rank"]).fillna(-1).to_numpy()
        ready = calls["ready_ns"].to_numpy()
        return calls[(ready < 0) | (ready > until)]

    def table(self, name: str) -> pd.DataFrame:
        """Return a table, an empty frame where there is none."""
        found = self.tables.get(name)
        return found if found is not None else pd.DataFrame()


def one_source(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of both sides from one source: the same on both where there is one, else each its largest.

    A trace and a flight recorder of one job tell the same calls: together they would count twice.
    """
    counts = [_measured(rows) for rows in (first, second)]
    shared = set(counts[0]) & set(counts[1])
    made = []
    for rows, count in zip((first, second), counts, strict=True):
        open_to = {name: counts[0][name] + counts[1][name] for name in shared} or count
        chosen = max(sorted(open_to), key=open_to.__getitem__, default="")
        made.append(rows[(rows["source"] == chosen).to_numpy()] if len(count) > 1 else rows)
    return made[0], made[1]


def _measured(rows: pd.DataFrame) -> dict[str, int]:
    """Return how many rows with an end each source has."""
    if not len(rows):
        return {}
    source = rows["source"].astype("category").cat
    codes = source.codes.to_numpy()
    there = np.bincount(codes[codes >= 0], minlength=len(source.categories))
    ended = np.bincount(codes[(codes >= 0) & (rows["end_ns"].to_numpy() > 0)], minlength=len(source.categories))
    return {str(name): int(ended[at]) for at, name in enumerate(source.categories) if there[at]}


def _early(ops: pd.DataFrame) -> Array | None:
    """Return which device operations have no launch although nearly all others have one; None where that says nothing.

    A recording that tells launches tells all that happened in it: what lacks one was launched before.
    """
    if not len(ops):
        return None
    device = ops["op"].isin(DEVICE).to_numpy()
    early = device & (ops["launch_ns"].to_numpy() < 0)
    return early if 0 < early.sum() < LOST_RATIO * device.sum() else None


def scale_of(run: Run) -> dict[str, Any]:
    """Return what a comparison says of a run's size: ranks recorded, ranks of the job, steps compared, formats."""
    formats = sorted({str(item["format"]) for item in run.report["inputs"] if item["format"]})
    return {
        "name": run.name, "ranks": int(run.report["job"]["ranks"] or 0), "ranks_recorded": run.ranks,
        "steps": int(len(run.step_s)), "formats": formats,
    }  # fmt: skip
