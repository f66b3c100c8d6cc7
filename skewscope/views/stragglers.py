"""Which ranks do the others wait for, how much does that cost, and is it more than chance?

`last_percent` is the share of collectives that a rank reached last, by more than the clocks may be wrong;
`caused_wait_s` is what the others waited in them, summed, and `alone_s` the part of the waiting (once per call) that
this rank alone causes: until the second last had come. `relative_ratio` is the best rank's median own work per step
over the rank's own, `individual_ratio` its own best stretch over its latest, as the straggler detection of
nvidia-resiliency-ext scores them (below 0.75 is slow there). A rank is called a straggler where it is last more often
than chance would have it (binomial, corrected for the number of ranks) and its lateness stands above the noise of the
others; else the answer is: nobody. Point-to-point messages are left out: the order of a pipeline decides who waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from skewscope.contracts import Frames, Picture, Shown
from skewscope.errors import NoData
from skewscope.reports import wording
from skewscope.stats import segments
from skewscope.stats.robust import binomial_tail, mad

from ._needed import largest, needed, smallest, steady

Array = np.ndarray[Any, Any]
LISTED = 3
HELD_UP = 0.95  # a score from which a rank's own work does not explain its lateness


@dataclass(frozen=True)
class Stragglers:
    """The view; `chance_ratio` is how likely chance alone may be, `slow_ratio` the score below which a rank is slow.

    `stretch_count` steps make one stretch of a rank's own history.
    """

    chance_ratio: float = 0.01
    slow_ratio: float = 0.75
    stretch_count: int = 10
    needs: ClassVar[tuple[str, ...]] = ("arrivals",)

    def show(self, tables: Frames) -> Shown:
        """Return who is last, how often and at what cost, by rank, group and step; raises NoData for one rank."""
        needed(tables, "arrivals")
        rows = tables["arrivals"]
        rows = rows[(rows["members_count"] > 1).to_numpy() & np.isfinite(rows["wait_ns"].to_numpy()) & ~_messages(rows)]
        if not len(rows):
            raise NoData("no collective of two ranks in the recording; record two ranks or more")
        rows = rows.iloc[np.argsort(rows["call"].to_numpy(), kind="stable")]
        across = _across_stages(rows, tables["rank_steps"])
        rows = rows[~across] if across.any() and not across.all() else rows
        late = _lateness(rows)
        noise_s = _noise(late, tables["clocks"])
        ranks = self._ranks(late, tables, noise_s)
        groups = _summed(late, ["group", "rank"])
        steps = _steps(late)
        pictures = (
            Picture("ranks", "bars", "What the others waited for each rank", "rank", "caused_wait_s"),
            Picture("steps", "heatmap", "Lateness alone, by step and rank", "step", "rank", "alone_s"),
        )
        found = {"ranks": ranks, "groups": groups, "steps": steps}
        return Shown(found, self._said(ranks, late, noise_s), _notes(rows, across), pictures)

    def _ranks(self, late: pd.DataFrame, tables: Frames, noise_s: float) -> pd.DataFrame:
        made = _summed(late, ["rank"])
        calls = made["calls_count"].to_numpy()
        share = (late.assign(expected=1 / late["members"]).groupby("rank")["expected"].mean()).to_numpy()
        chance = [binomial_tail(int(hits), int(count), float(usual)) for hits, count, usual in
                  zip(made["last_count"], calls, share, strict=True)]  # fmt: skip
        made["chance_ratio"] = np.minimum(np.array(chance) * len(made), 1.0)
        made = made.merge(self._scores(tables), on="rank", how="left")
        per_call = made["alone_s"] / made["last_count"].where(made["last_count"] > 0)
        made["straggler"] = ((made["chance_ratio"] < self.chance_ratio) & (per_call > noise_s)).to_numpy()
        order = ["straggler", "alone_s", "caused_wait_s", "rank"]
        return made.sort_values(order, ascending=[False, False, False, True], kind="stable").reset_index(drop=True)

    def _scores(self, tables: Frames) -> pd.DataFrame:
        """Return the relative and the individual score of each rank; NaN where steps are not recorded."""
        if not len(tables["rank_steps"]):
            return pd.DataFrame({"rank": np.zeros(0, dtype=np.int32), "relative_ratio": [], "individual_ratio": []})
        rows = steady(tables).sort_values(["rank", "step"], kind="stable")
        rank, work = rows["rank"].to_numpy(), rows["work_ns"].to_numpy()
        over = segments.runs(rank)
        own = segments.median(work, over)
        stage = rows["stage"].to_numpy()[over.first]
        best = pd.Series(own).groupby(stage).transform("min").to_numpy()
        stretch = np.minimum(
            segments.ordinal(over) // self.stretch_count, np.maximum(over.size // self.stretch_count - 1, 0)[over.of]
        )
        parts = segments.runs(rank, stretch)
        medians = segments.median(work, parts)
        of_rank = segments.runs(rank[parts.first])
        latest = medians[of_rank.first + of_rank.size - 1]
        individual = np.where(
            of_rank.size > 1, segments.minimum(medians, of_rank) / np.where(latest > 0, latest, np.nan), np.nan
        )
        return pd.DataFrame(
            {
                "rank": rank[over.first],
                "relative_ratio": best / np.where(own > 0, own, np.nan),
                "individual_ratio": individual,
            }
        )

    def _said(self, ranks: pd.DataFrame, late: pd.DataFrame, noise_s: float) -> tuple[str, ...]:
        guilty = ranks[ranks["straggler"].to_numpy()]
        guilty = (
            guilty.sort_values("relative_ratio", kind="stable")
            if (guilty["relative_ratio"] < HELD_UP).any()
            else guilty
        )
        said = [
            f"Rank {one['rank']} reaches {wording.share(one['last_percent'] / 100)} of {one['calls_count']} "
            f"collectives last; that alone costs {wording.seconds(one['alone_s'])}, and the others waited "
            f"{wording.seconds(one['caused_wait_s'])} in all{_held_up(one['relative_ratio'])}."
            for one in guilty.head(LISTED).to_dict("records")
        ]
        if not said:
            most = largest(ranks, "last_percent")
            said.append(
                f"Nobody is a straggler: rank {most['rank']} is last most often, "
                f"{wording.share(most['last_percent'] / 100)} of {most['calls_count']} collectives, which chance "
                f"gives {_often(most['chance_ratio'])} or lies below the noise of {wording.seconds(noise_s)} a call."
            )
        slow = ranks[(ranks["relative_ratio"] < self.slow_ratio).to_numpy()]
        if len(slow):
            worst = smallest(slow, "relative_ratio")
            said.append(
                f"{_scoring(len(slow))} below {self.slow_ratio:g} beside their peers, rank {worst['rank']} lowest "
                f"({worst['relative_ratio']:.2f})."
            )
        fallen = ranks[(ranks["individual_ratio"] < self.slow_ratio).to_numpy()]
        if len(fallen):
            worst = smallest(fallen, "individual_ratio")
            said.append(
                f"{_scoring(len(fallen))} below {self.slow_ratio:g} beside their own history, rank {worst['rank']} "
                f"lowest ({worst['individual_ratio']:.2f})."
            )
        return tuple(said)


def _scoring(count: int) -> str:
    return "1 rank scores" if count == 1 else f"{count} ranks score"


def _held_up(relative: float) -> str:
    """Return what the own work of a rank that is last says: where it is like its peers', something made it late."""
    return "; its own work is like its peers', so something holds it up" if relative >= HELD_UP else ""


def _messages(rows: pd.DataFrame) -> Array:
    """Return which rows are point-to-point messages: a pipeline's order decides who is last there."""
    names = [str(name) for name in rows["op"].cat.categories]
    places = [place for place, name in enumerate(names) if name.endswith(("send", "recv")) and name != "send_recv"]
    return np.isin(rows["op"].cat.codes.to_numpy(), places)


def _often(chance: float) -> str:
    return f"in {wording.share(chance)} of such recordings" if chance < 1 else "easily"


def _lateness(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per call and member: whether it was last, its wait, what it made others wait, and alone."""
    over = segments.runs(rows["call"].to_numpy())
    wait = rows["wait_ns"].to_numpy() / 1e9
    total = segments.total(wait, over)
    second = segments.minimum(np.where(wait > 0, wait, np.inf), over)
    last = rows["last"].to_numpy()
    return pd.DataFrame({
        "call": rows["call"].to_numpy(), "group": rows["group"].astype(str).to_numpy(), "step": rows["step"].to_numpy(),
        "rank": rows["rank"].to_numpy(), "members": over.size[over.of], "last": last, "wait_s": wait,
        "late_s": rows["late_ns"].to_numpy() / 1e9, "caused_s": np.where(last, total[over.of], 0.0),
        "alone_s": np.where(last & np.isfinite(second[over.of]), second[over.of], 0.0),
    })  # fmt: skip


def _noise(late: pd.DataFrame, clocks: pd.DataFrame) -> float:
    """Return the lateness in s of a call that says nothing: the spread of ranks that are not last, and the clocks."""
    rest = late["late_s"].to_numpy()[~late["last"].to_numpy()]
    spread = float(mad(rest[np.isfinite(rest)])) if np.isfinite(rest).any() else 0.0
    doubt = float(clocks["uncertainty_ns"].max()) / 1e9 if len(clocks) else 0.0
    return max(spread, doubt if np.isfinite(doubt) else 0.0)


def _summed(late: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    over = late.groupby(keys, sort=True)
    made = pd.DataFrame({
        "calls_count": over.size(), "last_count": over["last"].sum(), "last_percent": 100 * over["last"].mean(),
        "caused_wait_s": over["caused_s"].sum(), "alone_s": over["alone_s"].sum(), "own_wait_s": over["wait_s"].sum(),
        "late_median_s": over["late_s"].median(),
    })  # fmt: skip
    return made.reset_index()


def _steps(late: pd.DataFrame) -> pd.DataFrame:
    """Return what each rank's lateness alone cost in each step in which it was last."""
    mine = late[late["last"].to_numpy() & (late["step"] >= 0).to_numpy()]
    over = mine.groupby(["step", "rank"], sort=True)
    made = pd.DataFrame(
        {"last_count": over.size(), "alone_s": over["alone_s"].sum(), "caused_wait_s": over["caused_s"].sum()}
    )
    return made.reset_index()


def _across_stages(rows: pd.DataFrame, rank_steps: pd.DataFrame) -> Array:
    """Return which rows belong to calls between stages of a pipeline: its order decides who is last there, too."""
    stages = rank_steps[["rank", "stage"]].drop_duplicates("rank") if len(rank_steps) else None
    if stages is None or stages["stage"].nunique() < 2:
        return np.zeros(len(rows), dtype=bool)
    stage = rows["rank"].map(dict(zip(stages["rank"], stages["stage"], strict=True))).fillna(-1).to_numpy()
    over = segments.runs(rows["call"].to_numpy())
    return np.asarray((segments.minimum(stage, over) != segments.maximum(stage, over))[over.of])


def _notes(rows: pd.DataFrame, across: Array) -> tuple[str, ...]:
    said = []
    if across.any():
        what = "are all there are" if across.all() else "are left out"
        said.append(f"Calls between stages of the pipeline {what}: its schedule decides who is last in them.")
    blind = float(rows["by_wait"].mean())
    if blind >= 0.01:
        said.append(
            f"In {blind:.0%} of the rows the clocks decide nothing: who waited least is taken for the last one."
        )
    return tuple(said)
