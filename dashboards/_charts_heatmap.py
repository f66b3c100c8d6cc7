"""The rank x step map: who did more own work than its peers, and when."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from skewscope.reports import wording
from skewscope.reports.rank_table import excess_ns, judged_steps, rank_table

from ._chart import ORANGE, Chart, Floats, Tables, bin_edges, cut_rows, empty, layout, main_job, scale

MOST_RANKS, MOST_STEPS = 256, 400
SMALL_RATIO = 0.05  # of a step: less than this names nobody, as in the severities


def heatmap(tables: Tables) -> Chart:
    """Return own work beyond the peers' median per rank and step; lateness where own work is unknown."""
    cells, kind, note = _cells(tables)
    title = f"{kind} per rank and step"
    if cells.empty:
        return empty("heatmap", title, "the recording has no steps and no matched collectives")
    ranks, steps, matrix = _matrix(cells)
    ranks, steps, drawn, said = _binned(ranks, steps, matrix)
    unit, factor = scale(float(np.nanmax(np.abs(drawn), initial=0.0)))
    limit = _limit(drawn) * factor or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=(drawn * factor).astype(np.float32), x=[str(step) for step in steps],
            y=[str(rank) for rank in ranks], zmin=-limit, zmax=limit, zmid=0, meta="diverging",
            colorbar={"title": {"text": unit}, "thickness": 14},
            hovertemplate="rank %{y}<br>step %{x}<br>%{z:.3g} " + unit + "<extra></extra>",
        )
    )  # fmt: skip
    layout(figure, "step", "rank").update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(type="category", nticks=16)
    figure.update_layout(height=380 if len(ranks) <= 64 else 560)
    if len(ranks) <= 24:
        figure.update_yaxes(dtick=1)
    verdict, rank = _verdict(cells, kind, tables)
    if rank is not None and len(ranks) > 24:
        _point_at(figure, rank, int(ranks[np.searchsorted(ranks, rank, side="right") - 1]))
    return Chart("heatmap", title, verdict, figure, *_table(tables), f"{said} {note}".strip())


def _cells(tables: Tables) -> tuple[pd.DataFrame, str, str]:
    """Return rank, step, value_s of the main job, what the value is, and a note."""
    rows, note = judged_steps(tables), ""
    if len(rows):
        rows, note = main_job(rows)
        value = excess_ns(rows) / 1e9
        return _three(rows["rank"], rows["step"], value), "Own work beyond peers", note
    late = tables.get("arrivals", pd.DataFrame())
    if not len(late):
        return pd.DataFrame(), "Own work beyond peers", ""
    late, note = main_job(late)
    known = (late["step"] >= 0).any()
    step = late["step"] if known else late["call"]
    cells = _three(late["rank"], step, late["late_ns"] / 1e9).groupby(["rank", "step"], as_index=False).mean()
    return cells, "Lateness at collectives", note if known else f"{note} Steps are unknown: calls are drawn.".strip()


def _three(rank: pd.Series, step: pd.Series, value: pd.Series) -> pd.DataFrame:
    made = pd.DataFrame({"rank": rank.to_numpy(), "step": step.to_numpy(), "value_s": value.to_numpy(dtype=float)})
    kept: pd.DataFrame = made.loc[np.isfinite(made["value_s"].to_numpy())]
    return kept


def _limit(drawn: Floats) -> float:
    """Return where the colours end: one slow rank among hundreds sets it, a single wild cell does not."""
    rows = np.nanmedian(np.where(np.isfinite(drawn), np.abs(drawn), 0.0), axis=1)
    return float(max(np.nanquantile(np.abs(drawn), 0.995), rows.max()))


def _point_at(figure: go.Figure, rank: int, row: int) -> None:
    """Point at a row that may be one pixel high."""
    figure.add_annotation(
        xref="paper", x=0, y=str(row), text=f"rank {rank}", showarrow=True, arrowhead=2, ax=46, ay=-20, bgcolor=ORANGE,
        font={"color": "#000000", "size": 12}, borderpad=2,
    )  # fmt: skip


def _matrix(cells: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
    ranks, row = np.unique(cells["rank"].to_numpy(), return_inverse=True)
    steps, column = np.unique(cells["step"].to_numpy(), return_inverse=True)
    matrix = np.full((len(ranks), len(steps)), np.nan)
    matrix[row, column] = cells["value_s"].to_numpy()
    return ranks, steps, matrix


def _binned(ranks: Floats, steps: Floats, matrix: Floats) -> tuple[Floats, Floats, Floats, str]:
    """Keep the worst value of each bin, so that binning hides no slow rank."""
    down, across = bin_edges(len(ranks), MOST_RANKS), bin_edges(len(steps), MOST_STEPS)
    if len(down) == len(ranks) and len(across) == len(steps):
        return ranks, steps, matrix, ""
    drawn = np.fmax.reduceat(np.fmax.reduceat(matrix, down, axis=0), across, axis=1)
    high, wide = -(-len(ranks) // len(down)), -(-len(steps) // len(across))
    return ranks[down], steps[across], drawn, f"Each cell shows the worst of {high} ranks x {wide} steps."


def _verdict(cells: pd.DataFrame, kind: str, tables: Tables) -> tuple[str, int | None]:
    """Return what the map says, and the rank that stands out where one does."""
    medians = cells.groupby("rank")["value_s"].median().sort_values(ascending=False)
    step_s = _step_s(tables)
    worst, rank = float(medians.iloc[0]), int(medians.index.to_numpy()[0])
    what = "more own work than its peers" if kind.startswith("Own") else "later than the other members"
    if len(medians) < 2:
        return f"Only rank {rank} was recorded, so it cannot be compared with peers.", None
    if step_s > 0 and worst < SMALL_RATIO * step_s:
        return f"No rank stands out: the most is rank {rank} with {wording.share(worst / step_s)} of a step.", None
    hit = float((cells.loc[cells["rank"] == rank, "value_s"] > worst / 2).mean())
    part = f", {wording.share(worst / step_s)} of a step" if step_s > 0 else ""
    second = f"the next, rank {medians.index[1]}, has {wording.seconds(float(medians.iloc[1]))}"
    return f"Rank {rank}: {wording.seconds(worst)} {what}{part}, in {wording.share(hit)} of its steps; {second}.", rank


def _table(tables: Tables) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    columns = ("rank", "host", "stage", "own work", "beyond peers", "vs peers", "late", "last")
    rows = [
        (
            str(row["rank"]), row["node"] or wording.UNKNOWN,
            str(row["stage"]) if row["stage"] >= 0 else wording.UNKNOWN,
            wording.seconds(row["own_s"]), wording.seconds(row["excess_s"]), wording.ratio(row["versus_ratio"]),
            wording.seconds(row["late_s"]), wording.share(row["last_ratio"]),
        )
        for row in rank_table(tables).head(10).to_dict("records")
    ]  # fmt: skip
    return columns, cut_rows(rows)


def _step_s(tables: Tables) -> float:
    """Return the usual length of a step in s: as measured, else the usual own work; 0 where neither is known."""
    for name, column in (("step_times", "duration_ns"), ("rank_steps", "work_ns")):
        rows = tables.get(name, pd.DataFrame())
        usual = float(rows[column].median()) / 1e9 if len(rows) else 0.0
        if usual > 0:
            return usual
    return 0.0
