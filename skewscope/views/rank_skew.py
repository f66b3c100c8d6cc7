"""How far apart are the ranks in each part of their steps?

For each quantity: the median over the steps of each rank, then the least, the middle and the greatest rank. A wide
spread of *own work* is where to look; a spread of *waiting* mirrors it. Steps planned to be long are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from skewscope.contracts import Frames, Picture, Shown
from skewscope.errors import NoData
from skewscope.reports import wording
from skewscope.stats.robust import mad

from ._needed import largest, needed, smallest, steady

QUANTITIES = {
    "step": "", "own work": "work_ns", "compute": "compute_ns", "forward": "forward_ns", "backward": "backward_ns",
    "input": "input_ns", "garbage collection": "gc_ns", "checkpoint": "checkpoint_ns",
    "exposed transfer": "transfer_ns", "waiting": "wait_ns", "idle": "idle_ns", "communication": "comm_ns",
    "hidden communication": "hidden_ns",
}  # fmt: skip


@dataclass(frozen=True)
class RankSkew:
    """The view; it has no settings."""

    needs: ClassVar[tuple[str, ...]] = ("rank_steps",)

    def show(self, tables: Frames) -> Shown:
        """Return the spread of each quantity over ranks, and each rank's medians; raises NoData for one rank."""
        needed(tables, "rank_steps")
        rows = steady(tables)
        if rows["rank"].nunique() < 2:
            raise NoData("only one rank was recorded; record two or more to compare them")
        timed = rows.assign(step_ns=(rows["end_ns"] - rows["start_ns"]).astype(float))
        columns = {name: column or "step_ns" for name, column in QUANTITIES.items()}
        medians = timed.groupby("rank", sort=True)[list(columns.values())].median() / 1e9
        skew = pd.DataFrame([_row(name, medians[column]) for name, column in columns.items()
                             if medians[column].notna().any() and medians[column].abs().max() > 0])  # fmt: skip
        ranks = medians.rename(columns=lambda name: name.replace("_ns", "_s")).reset_index()
        pictures = (
            Picture("skew", "bars", "How far the slowest rank is from the middle one", "quantity", "beyond_median_s"),
            Picture("ranks", "points", "Own work of each rank", "rank", "work_s"),
        )
        return Shown({"skew": skew, "ranks": ranks}, _said(skew), (), pictures)


def _row(name: str, values: pd.Series) -> dict[str, object]:
    table = values.dropna().rename_axis("rank").rename("time_s").reset_index()
    least, most, known = smallest(table, "time_s"), largest(table, "time_s"), table["time_s"]
    middle = float(known.median())
    return {
        "quantity": name,
        "min_s": float(known.min()),
        "median_s": middle,
        "max_s": float(known.max()),
        "min_rank": int(least["rank"]),
        "max_rank": int(most["rank"]),
        "beyond_median_s": float(known.max()) - middle,
        "max_ratio": float(known.max()) / middle if middle > 0 else np.nan,
        "noise_s": float(mad(known.to_numpy())),
    }


def _said(skew: pd.DataFrame) -> tuple[str, ...]:
    said = []
    for name in ("own work", "waiting"):
        part = skew[skew["quantity"] == name]
        if len(part):
            row = part.iloc[0]
            said.append(f"{name.capitalize()} per step: {wording.seconds(row['min_s'])} (rank {row['min_rank']}) to "
                        f"{wording.seconds(row['max_s'])} (rank {row['max_rank']}), median "
                        f"{wording.seconds(row['median_s'])}.")  # fmt: skip
    return tuple(said)
