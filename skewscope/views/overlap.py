"""How much communication is hidden by computation, and what would perfect overlap save?

`overlap_percent` is HolisticTraceAnalysis' number: time in which both ran, over the time that any communication ran
(waiting for late ranks inside a collective is part of that). What perfect overlap would save is counted per step from
transfers that nothing hid, after everybody had arrived: waiting for others is not for overlap to save.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from skewscope.contracts import Frames, Picture, Shown
from skewscope.errors import NoData
from skewscope.reports import wording

from ._needed import HOW, largest, smallest, steady
from ._work import Array, Work, device, totals


@dataclass(frozen=True)
class Overlap:
    """The view; it has no settings."""

    needs: ClassVar[tuple[str, ...]] = ("ops", "collectives")

    def show(self, tables: Frames) -> Shown:
        """Return the overlap of each rank and what perfect overlap would save per step; raises NoData."""
        work = device(tables)
        if not len(work.communication.lane):
            raise NoData(f"no timed communication beside the ops; {HOW['collectives']}")
        ranks = np.unique(work.rank)
        rows = _ranks(work, ranks)
        steps = savings(steady(tables))
        pictures = (
            Picture("ranks", "stacked", "Communication of each rank", "rank", parts=("hidden_s", "exposed_s")),
            Picture("steps", "lines", "What perfect overlap would save", "step", parts=("step_s", "perfect_s")),
        )
        notes = () if len(steps) else ("No marked steps: what perfect overlap would save per step is unknown.",)
        return Shown({"ranks": rows, "steps": steps}, _said(rows, steps), notes, pictures)


def _ranks(work: Work, ranks: Array) -> pd.DataFrame:
    compute, communication, either = (totals(spans, ranks) for spans in (work.compute, work.communication, work.moving))
    hidden = np.maximum(compute + communication - either, 0.0)  # sums of floats differ in the last digit
    known = np.where(communication > 0, communication, np.nan)
    return pd.DataFrame({
        "rank": ranks, "communication_s": communication, "hidden_s": hidden, "exposed_s": communication - hidden,
        "overlap_percent": 100 * hidden / known, "compute_s": compute,
    })  # fmt: skip


def savings(rows: pd.DataFrame) -> pd.DataFrame:
    """Return per step how long it took and would take with perfect overlap, from rows of `rank_steps`.

    A step ends with its last rank; each rank would be shorter by its exposed transfers, as far as it has compute to
    hide them behind.
    """
    moved = rows["transfer_ns"].fillna(0.0).clip(lower=0.0)
    free = (rows["compute_ns"] - rows["hidden_ns"].fillna(0.0)).clip(lower=0.0)
    length = (rows["end_ns"] - rows["start_ns"]).astype(float)
    made = pd.DataFrame({"step": rows["step"], "step_s": length / 1e9, "exposed_transfer_s": moved / 1e9,
                         "perfect_s": (length - np.minimum(moved, free)) / 1e9})  # fmt: skip
    over = made.groupby("step", sort=True)
    found = over[["step_s", "perfect_s"]].max()
    found["exposed_transfer_s"] = over["exposed_transfer_s"].median()
    found["saved_s"] = found["step_s"] - found["perfect_s"]
    return found.reset_index()


def _said(rows: pd.DataFrame, steps: pd.DataFrame) -> tuple[str, ...]:
    whole = float(rows["communication_s"].sum())
    said = [f"{wording.share(float(rows['hidden_s'].sum()) / whole) if whole else '-'} of the communication time is "
            "hidden by computation."]  # fmt: skip
    if rows["overlap_percent"].notna().sum() > 1:
        least, most = smallest(rows, "overlap_percent"), largest(rows, "overlap_percent")
        said.append(f"Least on rank {least['rank']} ({wording.share(least['overlap_percent'] / 100)}), most on rank "
                    f"{most['rank']} ({wording.share(most['overlap_percent'] / 100)}).")  # fmt: skip
    if len(steps):
        saved, length = float(steps["saved_s"].median()), float(steps["step_s"].median())
        said.append(f"Perfect overlap would save {wording.seconds(saved)} of a median step of "
                    f"{wording.seconds(length)} ({wording.share(saved / length if length else 0.0)}).")  # fmt: skip
    return tuple(said)
