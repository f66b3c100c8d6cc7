"""Pipeline: stages side by side, their bubbles, the ideal against what was seen, and one step's schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from skewscope.reports import wording
from skewscope.reports.rank_table import judged_steps

from .._chart import BLUE, GREEN, GREY, ORANGE, SKY, layout, scale
from .._culprits import FRESH
from .._page import HOW, Block, Cell, Link, nothing
from .._rank_maps import job_of_most, of_job
from .._selection import Selection
from .._step_timeline import chosen_step, drawn, step_view, table
from .._view import View

STAGES, SCHEDULE = "Stages: ideal against seen", "One step's schedule, a rank of each stage"
PARTS = {
    "own work": ("own_ns", BLUE, ""), "transfer": ("transfer_ns", SKY, "/"), "waits (bubble)": ("wait_ns", ORANGE, "."),
    "idle (bubble)": ("idle_ns", GREY, "x"),
}  # fmt: skip
MOST_READ = 500_000  # rows of a recording that stays in its files
NO_STAGES = "Record a pipeline-parallel job; `job.json` or the recording names the stage of each rank."


class Pipeline:
    """The page of pipeline stages."""

    path: ClassVar[str] = "/pipeline"
    title: ClassVar[str] = "Pipeline"
    order: ClassVar[int] = 7
    needs: ClassVar[tuple[str, ...]] = ("rank_steps",)

    def blocks(self, view: View, selection: Selection) -> Sequence[Block]:
        """Return the stages and a step's schedule."""
        if view.empty:
            return (nothing("stages", STAGES, "nothing is loaded", HOW),)
        rows = _judged(view, selection)
        if not len(rows) or rows["stage"].nunique() < 2:
            return (nothing("stages", STAGES, "no job with two pipeline stages or more was recorded", NO_STAGES),)
        return _stages(view, rows, selection), _schedule(view, rows, selection)


def _judged(view: View, selection: Selection) -> pd.DataFrame:
    """Return the steps of ranks that have a stage, without those that are planned to be long."""
    columns = ("job", "step", "rank", "stage", *(column for column, _, _ in PARTS.values()))
    rows = view.rows("rank_steps", columns, every=_every(view))
    if not len(rows) or not (rows["stage"] >= 0).any():
        return rows.iloc[:0]
    rows = of_job(rows, selection.job)
    rows = rows[(rows["stage"] >= 0).to_numpy()]
    return judged_steps(view.having("rank_steps", rows))


def _every(view: View) -> int:
    """Return of how many steps one is read."""
    return 1 if view.large("rank_steps") is None else max(1, -(-view.count("rank_steps") // MOST_READ))


def _stages(view: View, rows: pd.DataFrame, selection: Selection) -> Block:
    parts = rows.groupby("stage")[[column for column, _, _ in PARTS.values()]].mean().fillna(0.0).clip(lower=0.0) / 1e9
    unit, factor = scale(float(parts.sum(axis=1).max()))
    figure, names = go.Figure(), [f"stage {stage}" for stage in parts.index]
    for name, (column, colour, pattern) in PARTS.items():
        figure.add_bar(
            x=names, y=(parts[column] * factor).to_numpy(), name=name,
            marker={"color": colour, "pattern": {"shape": pattern, "fillmode": "overlay", "solidity": 0.2, "size": 7}},
            hovertemplate="%{x}<br>" + name + " %{y:.3g} " + unit + "<extra></extra>",
        )  # fmt: skip
    ideal = float(parts["own_ns"].mean())
    figure.add_scatter(
        x=names, y=[ideal * factor] * len(names), mode="lines", name="own work if all stages were equal",
        line={"color": GREEN, "dash": "dash", "width": 3},
    )  # fmt: skip
    layout(figure, "pipeline stage", f"mean time per step ({unit})", barmode="stack", bargap=0.2)
    batches = _microbatches(view, selection)
    best = _ideal_bubble(len(parts), batches)
    table_rows = tuple(_row(int(stage), parts.loc[stage], ideal, rows, selection) for stage in parts.index)
    columns = ("stage", "ranks", "own work", "of the mean", "transfer", "waits", "idle", "bubble")
    note = (
        f"{batches} microbatches over {len(parts)} stages: equal stages would leave a bubble of {wording.share(best)}."
        if batches
        else "The number of microbatches is not known, so the ideal bubble is not either."
    )
    note += f" The recording is large: one step of {_every(view)} is read." if _every(view) > 1 else ""
    return Block("stages", STAGES, _said(parts, ideal, best), figure, columns, table_rows, note)


def _row(stage: int, part: pd.Series, ideal: float, rows: pd.DataFrame, selection: Selection) -> tuple[Cell, ...]:
    total = float(part.sum())
    ranks = rows.loc[(rows["stage"] == stage).to_numpy(), "rank"].unique()
    first = Link(str(stage), selection.link("/why", **FRESH, rank=int(ranks[0])))
    return (
        first, str(len(ranks)), wording.seconds(float(part["own_ns"])),
        wording.ratio(float(part["own_ns"]) / ideal if ideal > 0 else np.nan),
        *(wording.seconds(float(part[name])) for name in ("transfer_ns", "wait_ns", "idle_ns")),
        wording.share(float(part["wait_ns"] + part["idle_ns"]) / total if total > 0 else np.nan),
    )  # fmt: skip


def _said(parts: pd.DataFrame, ideal: float, best: float) -> str:
    own = parts["own_ns"]
    worst = int(own.to_numpy().argmax())
    bubble = float((parts["wait_ns"] + parts["idle_ns"]).sum() / max(float(parts.to_numpy().sum()), 1e-12))
    beside = f", {wording.share(best)} with equal stages" if np.isfinite(best) else ""
    ratio = float(own.iloc[worst]) / ideal if ideal > 0 else float("nan")
    return (
        f"Stage {parts.index[worst]} works {wording.seconds(float(own.iloc[worst]))} per step, {wording.ratio(ratio)} "
        f"of the mean stage; the stages stand still {wording.share(bubble)} of their time{beside}."
    )


def _ideal_bubble(stages: int, batches: int) -> float:
    """Return the share of a step that equal stages stand still while the pipeline fills and drains.

    >>> _ideal_bubble(4, 12)
    0.2
    """
    return (stages - 1) / (batches + stages - 1) if batches else float("nan")


def _microbatches(view: View, selection: Selection) -> int:
    for name in ("ops", "steps"):
        job, found = selection.job or job_of_most(view, name), set()
        for rows in view.parts(name, ("job", "microbatch")):
            told = of_job(rows, job)["microbatch"].unique()
            found.update(told[told >= 0].tolist())
        if found:
            return len(found)
    return 0


def _schedule(view: View, rows: pd.DataFrame, selection: Selection) -> Block:
    step = chosen_step(view, selection, {})
    first = rows.drop_duplicates("stage").sort_values("stage")["rank"].tolist()
    made = step_view(view, selection, step, [int(rank) for rank in first], only=True)
    if made is None or not len(made.spans):
        return nothing("schedule", SCHEDULE, "no step was recorded with its inside", NO_STAGES)
    waits = (made.split["wait_ns"] / 1e9).fillna(0.0)
    columns, table_rows = table(made)
    said = (
        f"In step {step} rank {waits.idxmin()} waits least, {wording.seconds(float(waits.min()))}, and rank "
        f"{waits.idxmax()} most, {wording.seconds(float(waits.max()))}."
    )
    return Block("schedule", SCHEDULE, said, drawn(made), columns, table_rows, data=made.spans)
