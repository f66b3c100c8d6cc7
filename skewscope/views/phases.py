"""What are the phases of a step, who is in which when, and how large are the bubbles of the pipeline?

With stages and microbatches in the recording: forward and backward work of each stage, and its *bubble*, the part of
the step in which the stage computes nothing. The least bubble that a schedule without interleaving allows is
(stages - 1) / (microbatches + stages - 1). Else the phases that the job marked: data, forward, backward, optimizer, or
rollout, generation, prefill and decode, whatever their names. Recordings of metrics tell the shares of the phases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from skewscope.contracts import Frames, Picture, Shown
from skewscope.errors import NoData
from skewscope.reports import wording

from ._needed import HOW, largest
from ._phase_series import measured
from ._work import COMPUTE, _kind

Array = np.ndarray[Any, Any]
SPANS = 3000  # of the timeline


@dataclass(frozen=True)
class Phases:
    """The view; the timeline is of `step`, -1 takes the step of median length."""

    step: int = -1
    needs: ClassVar[tuple[str, ...]] = ()  # stages among the ops, steps with phases, or metrics

    def show(self, tables: Frames) -> Shown:
        """Return the phases or stages and the timeline of one step; raises NoData without either."""
        ops = tables["ops"]
        pipeline = ops[((ops["stage"] >= 0) & (ops["microbatch"] >= 0)).to_numpy()]
        names = [str(name) for name in pipeline["op"].cat.categories]
        computes = [place for place, name in enumerate(names) if _kind(name) == COMPUTE]
        pipeline = pipeline[np.isin(pipeline["op"].cat.codes.to_numpy(), computes)]
        if len(pipeline) and pipeline["stage"].nunique() > 1:
            return self._pipeline(pipeline)
        series = measured(tables)
        steps = tables["steps"]
        marked = len(steps) > 0 and not set(steps["phase"].unique()) <= {"step"}
        if len(series) and (not marked or series["phase"].iloc[0].startswith("generation")):
            return _measured(series)
        if not marked:
            raise NoData(f"no phases and no pipeline stages in the recording; {HOW['steps']}, and mark phases "
                         "(record_function) inside them")  # fmt: skip
        return self._marked(steps)

    def _pipeline(self, rows: pd.DataFrame) -> Shown:
        lane = rows["stage"].to_numpy().astype(np.int64) * (int(rows["rank"].max()) + 1) + rows["rank"].to_numpy()
        table = pd.DataFrame(
            {
                "lane": lane,
                "stage": rows["stage"].to_numpy(),
                "rank": rows["rank"].to_numpy(),
                "step": rows["step"].to_numpy(),
                "microbatch": rows["microbatch"].to_numpy(),
                "op": rows["op"].astype(str).to_numpy(),
                "start": rows["start_ns"].to_numpy(),
                "end": rows["end_ns"].to_numpy(),
            }
        )
        forward, backward = (table["op"].str.startswith(word).to_numpy() for word in ("forward", "backward"))
        length = (table["end"] - table["start"]).to_numpy() / 1e9
        timed = table.assign(forward_s=np.where(forward, length, 0.0), backward_s=np.where(backward, length, 0.0),
                             compute_s=length)  # fmt: skip
        each = timed.groupby(["step", "stage", "rank"], sort=True)
        cells = each[["forward_s", "backward_s", "compute_s"]].sum()
        whole = timed.groupby("step").agg(first=("start", "min"), last=("end", "max"))
        cells = cells.reset_index().merge(((whole["last"] - whole["first"]) / 1e9).rename("step_s"), on="step")
        cells["bubble_s"] = (cells["step_s"] - cells["compute_s"]).clip(lower=0.0)
        stages = cells.groupby("stage", sort=True)[["forward_s", "backward_s", "bubble_s", "step_s"]].median()
        stages["ranks_count"] = cells.groupby("stage")["rank"].nunique()
        stages["microbatches_count"] = timed.groupby("stage")["microbatch"].nunique()
        stages["bubble_percent"] = 100 * stages["bubble_s"] / stages["step_s"].where(stages["step_s"] > 0)
        stages = stages.reset_index()
        timeline = _timeline(timed, self.step, whole["last"] - whole["first"], "stage")
        found = {"stages": stages, "timeline": timeline}
        return Shown(
            found, _said_pipeline(stages), (), _pictures("stages", ("forward_s", "backward_s", "bubble_s"), "stage")
        )

    def _marked(self, steps: pd.DataFrame) -> Shown:
        table = pd.DataFrame(
            {
                "rank": steps["rank"].to_numpy(),
                "step": steps["step"].to_numpy(),
                "phase": steps["phase"].astype(str).to_numpy(),
                "start": steps["start_ns"].to_numpy(),
                "end": steps["end_ns"].to_numpy(),
                "microbatch": steps["microbatch"].to_numpy(),
                "stage": steps["rank"].to_numpy(),
            }
        ).drop_duplicates(["rank", "step", "phase", "start"])
        table["time_s"] = (table["end"] - table["start"]) / 1e9
        whole = table[table["phase"] == "step"]
        parts = table[table["phase"] != "step"]
        each = parts.groupby(["phase", "rank", "step"], sort=True)["time_s"].sum().reset_index()
        ranks = each.groupby(["phase", "rank"], sort=True)["time_s"].median().reset_index()
        over = ranks.groupby("phase", sort=True)["time_s"]
        phases = pd.DataFrame(
            {
                "calls_count": parts.groupby("phase").size(),
                "median_s": over.median(),
                "min_s": over.min(),
                "max_s": over.max(),
            }
        )
        worst = ranks.sort_values(["time_s", "rank"], ascending=[False, True], kind="stable").drop_duplicates("phase")
        phases["longest_rank"] = worst.set_index("phase")["rank"]
        usual = float(whole["time_s"].median()) if len(whole) else np.nan
        phases["step_percent"] = 100 * phases["median_s"] / usual
        phases = phases.sort_values("median_s", ascending=False, kind="stable").reset_index()
        shown = parts.rename(columns={"phase": "op"})
        length = parts.groupby("step")["end"].max() - parts.groupby("step")["start"].min()
        timeline = _timeline(shown, self.step, length, "rank")
        found = {"phases": phases, "ranks": ranks, "timeline": timeline}
        pictures = (
            Picture("ranks", "bars", "Median time of each phase by rank", "rank", "time_s", "phase"),
            Picture("timeline", "spans", "One step", "start_s", "lane", "op", parts=("end_s",)),
        )
        return Shown(found, _said_marked(phases), (), pictures)


def _measured(series: pd.DataFrame) -> Shown:
    """Return the answer of a recording of metrics: shares of time, without a timeline of single steps."""
    ranks = series.groupby(["phase", "rank"], sort=True)["spent_s"].sum().rename("time_s").reset_index()
    whole = series.drop_duplicates(["rank", "time_s"]).groupby("rank")["window_s"].sum()
    ranks["share_percent"] = 100 * ranks["time_s"] / ranks["rank"].map(whole)
    over = ranks.groupby("phase", sort=True)["time_s"]
    phases = pd.DataFrame(
        {"ranks_count": over.size(), "median_s": over.median(), "min_s": over.min(), "max_s": over.max()}
    )
    worst = ranks.sort_values(["time_s", "rank"], ascending=[False, True], kind="stable").drop_duplicates("phase")
    phases["longest_rank"] = worst.set_index("phase")["rank"]
    phases["share_percent"] = ranks.groupby("phase")["share_percent"].median()
    phases = phases.sort_values("median_s", ascending=False, kind="stable").reset_index()
    course = series.groupby(["phase", "time_s"], sort=True)[["spent_s", "window_s"]].sum().reset_index()
    course["share_percent"] = 100 * course["spent_s"] / course["window_s"]
    pictures = (
        Picture("course", "lines", "Share of the time in each phase, all ranks", "time_s", "share_percent", "phase"),
        Picture("ranks", "bars", "Time of each phase by rank", "rank", "time_s", "phase"),
    )
    parts = [f"{one['phase']} {wording.share(one['share_percent'] / 100)}" for one in phases.head(4).to_dict("records")]
    found = {"phases": phases, "ranks": ranks, "course": course.drop(columns="window_s")}
    return Shown(found, (f"A median rank's time, as its metrics tell: {', '.join(parts)}.",), (), pictures)


def _timeline(table: pd.DataFrame, step: int, length: pd.Series, lanes: str) -> pd.DataFrame:
    """Return the spans of one step, in s since it began; several spans of a lane that overlap stay as they are."""
    if step < 0 or step not in length.index:
        order = length.sort_values(kind="stable")
        step = int(order.index[(len(order) - 1) // 2])
    part = table[table["step"] == step]
    part = part.iloc[np.lexsort((part["start"].to_numpy(), part["rank"].to_numpy(), part[lanes].to_numpy()))].head(
        SPANS
    )
    begin = int(part["start"].min())
    rank = [f"rank {one}" for one in part["rank"].tolist()]
    stage = [f"stage {one}, " for one in part["stage"].tolist()] if lanes == "stage" else [""] * len(part)
    return pd.DataFrame(
        {
            "lane": [one + other for one, other in zip(stage, rank, strict=True)],
            "step": step,
            "op": part["op"].to_numpy(),
            "microbatch": part["microbatch"].to_numpy(),
            "start_s": (part["start"].to_numpy() - begin) / 1e9,
            "end_s": (part["end"].to_numpy() - begin) / 1e9,
        }
    )


def _pictures(main: str, parts: tuple[str, ...], x: str) -> tuple[Picture, ...]:
    return (
        Picture(main, "stacked", "Where a step goes, by stage", x, parts=parts),
        Picture("timeline", "spans", "One step", "start_s", "lane", "op", parts=("end_s",)),
    )


def _said_pipeline(stages: pd.DataFrame) -> tuple[str, ...]:
    count, batches = len(stages), int(stages["microbatches_count"].max())
    least = (count - 1) / (batches + count - 1)
    work = stages.assign(work_s=stages["forward_s"] + stages["backward_s"])
    heavy, usual = largest(work, "work_s"), float(work["work_s"].median())
    low, high = (wording.share(float(one) / 100) for one in stages["bubble_percent"].agg(["min", "max"]))
    said = [
        f"{count} stages, {batches} microbatches: the bubble is {low} to {high} of the step; even stages without "
        f"interleaving would have {wording.share(least)}."
    ]
    said.append(
        f"Stage {int(heavy['stage'])} computes longest, {wording.seconds(heavy['work_s'])} a step "
        f"({wording.ratio(heavy['work_s'] / usual if usual else None)} the median stage)."
    )
    return tuple(said)


def _said_marked(phases: pd.DataFrame) -> tuple[str, ...]:
    parts = [f"{one['phase']} {wording.seconds(one['median_s'])}" for one in phases.head(5).to_dict("records")]
    said = [f"A median rank's step: {', '.join(parts)}."]
    spread = phases[(phases["median_s"] > 0).to_numpy()]
    if len(spread):
        worst = largest(spread.assign(apart_s=spread["max_s"] - spread["median_s"]), "apart_s")
        said.append(f"Ranks are farthest apart in {worst['phase']}: rank {int(worst['longest_rank'])} takes "
                    f"{wording.seconds(worst['max_s'])}, the median {wording.seconds(worst['median_s'])}.")  # fmt: skip
    return tuple(said)
