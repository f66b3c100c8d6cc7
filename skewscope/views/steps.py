"""How long is each step, where does its time go, and which rank is the slowest in it?

Compute, communication, waiting and idle are medians over the ranks of a step; `slowest_rank` has the most own work and
`slowest_ratio` is its work over the median of its peers. A culprit that changes from step to step shows here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from skewscope.contracts import Frames, Picture, Shown
from skewscope.reports import wording

from ._needed import largest, needed

PARTS = ("compute_s", "input_s", "transfer_s", "wait_s", "idle_s")


@dataclass(frozen=True)
class Steps:
    """The view; it has no settings."""

    needs: ClassVar[tuple[str, ...]] = ("rank_steps", "step_times")

    def show(self, tables: Frames) -> Shown:
        """Return one row per step; raises NoData without marked steps."""
        needed(tables, *self.needs)
        rows, times = tables["rank_steps"], tables["step_times"]
        steps = _table(rows, times)
        pictures = (
            Picture("steps", "lines", "Length of steps", "step", parts=("step_s", "ideal_s")),
            Picture("steps", "stacked", "Where the time of each step goes (median rank)", "step", parts=PARTS),
        )
        return Shown({"steps": steps}, _said(steps), (), pictures)


def _table(rows: pd.DataFrame, times: pd.DataFrame) -> pd.DataFrame:
    over = rows.groupby("step", sort=True)
    medians = (
        over[["compute_ns", "input_ns", "transfer_ns", "wait_ns", "idle_ns", "comm_ns", "hidden_ns"]].median() / 1e9
    )
    peers = rows.groupby(["step", "stage"], sort=False)["work_ns"].transform("median")
    excess = (rows["work_ns"] - peers).fillna(-np.inf)
    worst = (
        rows.assign(excess=excess, usual=peers)
        .sort_values(["step", "excess", "rank"], ascending=[True, False, True], kind="stable")
        .drop_duplicates("step")
    )
    worst = worst.set_index("step")
    worst["rank"] = worst["rank"].where(worst["excess"] > 0, -1)  # equal work has no slowest rank
    tokens = rows["work_tokens"].where(rows["work_tokens"] >= 0).groupby(rows["step"]).sum(min_count=1)
    length = times.drop_duplicates("step").set_index("step")
    made = pd.DataFrame(
        {
            "step_s": length["duration_ns"] / 1e9,
            "ideal_s": length["ideal_ns"] / 1e9,
            **{name: medians[name.replace("_s", "_ns")] for name in PARTS},
            "communication_s": medians["comm_ns"],
            "hidden_s": medians["hidden_ns"],
            "slowest_rank": worst["rank"],
            "slowest_work_s": worst["work_ns"] / 1e9,
            "slowest_ratio": worst["work_ns"] / worst["usual"].where(worst["usual"] > 0),
            "ranks_count": over.size(),
            "work_tokens": tokens,
            "planned": length["planned"],
        }
    )
    made = made.dropna(subset=["step_s"]).rename_axis("step").reset_index()
    made["tokens_per_s"] = made["work_tokens"] / made["step_s"].where(made["step_s"] > 0)
    made["slowest_rank"] = made["slowest_rank"].fillna(-1).astype(np.int64)
    made["ranks_count"] = made["ranks_count"].fillna(0).astype(np.int64)
    made["planned"] = made["planned"].astype(bool)
    return made


def _said(steps: pd.DataFrame) -> tuple[str, ...]:
    length = steps["step_s"]
    longest = largest(steps, "step_s")
    said = [f"{len(steps)} steps of {wording.seconds(float(length.median()))} at the median; the longest is step "
            f"{int(longest['step'])} with {wording.seconds(longest['step_s'])}."]  # fmt: skip
    ranks = steps["slowest_rank"][steps["slowest_rank"] >= 0]
    if len(ranks) and int(steps["ranks_count"].max()) > 1:
        counts = ranks.value_counts()
        often = int(counts[counts == counts.max()].index.min())
        said.append(
            f"Rank {often} has the most own work in {wording.share(float((ranks == often).mean()))} of the steps"
            f" ({len(counts)} of the ranks are the slowest of some step)."
        )
    return tuple(said)
