"""When did the job, or a rank, become slower or faster?

The length of steps, and each rank's own work against the median of its peers, are searched for changes of level that
last (Greyhound finds fail-slow onsets in iteration times the same way, with another test). Of many ranks the
`most_count` with the largest drifts are searched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from skewscope.contracts import Frames, Picture, Shown
from skewscope.errors import NoData
from skewscope.reports import wording
from skewscope.stats import changepoint

from ._needed import needed, steady

Array = np.ndarray[Any, Any]
COLUMNS = ("what", "rank", "step", "before_s", "after_s", "change_ratio", "chance_ratio", "steps_before_count")


@dataclass(frozen=True)
class ChangePoints:
    """The view; levels last `fewest_count` steps at least, and differ by `change_ratio` at least."""

    fewest_count: int = 8
    change_ratio: float = 0.1
    most_count: int = 64
    needs: ClassVar[tuple[str, ...]] = ("rank_steps", "step_times")

    def show(self, tables: Frames) -> Shown:
        """Return the changes of level, the job's first, and the searched series; raises NoData for short recordings."""
        needed(tables, *self.needs)
        times = tables["step_times"]
        times = times[~times["planned"].to_numpy() & times["duration_ns"].notna().to_numpy()].sort_values("step")
        if len(times) < 2 * self.fewest_count:
            raise NoData(f"{len(times)} steps are too few to tell a change of level from noise; record "
                         f"{2 * self.fewest_count} or more")  # fmt: skip
        step, length = times["step"].to_numpy(), times["duration_ns"].to_numpy() / 1e9
        found = self._changes("step time", -1, step, length)
        ranks, steps, work, beyond = _matrix(steady(tables))
        for row in _drifting(beyond, self.most_count):
            known = np.isfinite(beyond[row])
            usual = float(np.nanmedian(work[row] - beyond[row]))
            found += self._changes("own work", int(ranks[row]), steps[known], beyond[row][known] + usual)
        changes = pd.DataFrame([dict(zip(COLUMNS, one, strict=True)) for one in found], columns=list(COLUMNS))
        series = pd.DataFrame({"step": step, "step_s": length, "level_s": _levels(step, length, changes)})
        pictures = (Picture("series", "lines", "Length of steps and its levels", "step", parts=("step_s", "level_s")),)
        return Shown({"changes": changes, "series": series}, _said(changes, len(step)), (), pictures)

    def _changes(self, what: str, rank: int, step: Array, values: Array) -> list[tuple[Any, ...]]:
        found = changepoint.changes(values, fewest=self.fewest_count, ratio=self.change_ratio)
        return [
            (what, rank, int(step[one.place]), one.before, one.after, one.after / one.before if one.before else np.nan,
             one.chance, one.place)
            for one in found
        ]  # fmt: skip


def _matrix(rows: pd.DataFrame) -> tuple[Array, Array, Array, Array]:
    """Return ranks [r], steps [s], own work in s [r, s] and what of it is beyond the median of the peers [r, s]."""
    peers = rows.groupby(["step", "stage"], sort=False)["work_ns"].transform("median")
    ranks, row = np.unique(rows["rank"].to_numpy(), return_inverse=True)
    steps, column = np.unique(rows["step"].to_numpy(), return_inverse=True)
    work, beyond = (np.full((len(ranks), len(steps)), np.nan) for _ in range(2))
    work[row, column] = rows["work_ns"].to_numpy() / 1e9
    beyond[row, column] = (rows["work_ns"] - peers).to_numpy() / 1e9
    return ranks, steps, work, beyond


def _drifting(beyond: Array, most: int) -> Array:
    """Return the rows whose sums of deviations from their median wander farthest, the worst first."""
    centre = np.nanmedian(beyond, axis=1, keepdims=True)
    clipped = np.nan_to_num(np.sign(beyond - centre))
    far = np.abs(np.cumsum(clipped - clipped.mean(axis=1, keepdims=True), axis=1)).max(axis=1)
    return np.argsort(-far, kind="stable")[:most]


def _levels(step: Array, length: Array, changes: pd.DataFrame) -> Array:
    cuts = changes["step"][changes["what"] == "step time"].to_numpy()
    part = np.searchsorted(cuts, step, side="right")
    return np.asarray(pd.Series(length).groupby(part).transform("median"))


def _said(changes: pd.DataFrame, steps: int) -> tuple[str, ...]:
    if not len(changes):
        return (
            f"No change of level in {steps} steps: neither the step time nor any rank's own work shifted for good.",
        )
    said = []
    for one in changes.head(4).to_dict("records"):
        who = "The step time" if one["rank"] < 0 else f"The own work of rank {one['rank']}"
        way = "grew" if one["after_s"] > one["before_s"] else "fell"
        said.append(
            f"{who} {way} at step {one['step']} from {wording.seconds(one['before_s'])} to "
            f"{wording.seconds(one['after_s'])}."
        )
    return tuple(said)
