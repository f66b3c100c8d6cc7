"""Where each rank's step goes: own work, transfer, waiting, input, idle."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from skewscope.reports import wording
from skewscope.reports.rank_table import judged_steps

from ._chart import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, Chart, Tables, empty, layout, main_job, scale

MOST_RANKS = 48
TITLE = "Where each rank's step goes"
PARTS = {
    "own work": ("rest_ns", BLUE, ""), "input": ("input_ns", PINK, "x"), "gc": ("gc_ns", RED, "+"),
    "checkpoint": ("checkpoint_ns", GREEN, "|"), "transfer": ("transfer_ns", SKY, "/"), "waits for others":
    ("wait_ns", ORANGE, "."), "idle": ("idle_ns", GREY, ""),
}  # fmt: skip


def split(tables: Tables) -> Chart:
    """Return the mean split of a step per rank, stacked."""
    rows = judged_steps(tables)
    if not len(rows):
        return empty("split", TITLE, "the recording has no steps that could be split")
    rows, note = main_job(rows)
    rows = rows.assign(rest_ns=rows["own_ns"] - rows[["input_ns", "gc_ns", "checkpoint_ns"]].sum(axis=1))
    columns = [column for column, _, _ in PARTS.values()]
    parts = rows.groupby("rank")[columns].mean().fillna(0.0).clip(lower=0.0) / 1e9
    shown, said = _shown(parts)
    unit, factor = scale(float(shown.sum(axis=1).max()))
    figure = go.Figure()
    for name, (column, colour, pattern) in PARTS.items():
        if not (shown[column] > 0).any():
            continue
        figure.add_bar(
            x=list(shown.index), y=(shown[column] * factor).to_list(), name=name,
            marker={"color": colour, "pattern": {"shape": pattern, "fillmode": "overlay", "solidity": 0.2, "size": 7}},
            hovertemplate="%{x}<br>" + name + " %{y:.3g} " + unit + "<extra></extra>",
        )  # fmt: skip
    layout(figure, "rank", f"mean time per step ({unit})", barmode="stack", bargap=0.15).update_xaxes(type="category")
    table = tuple((rank, *(wording.seconds(value) for value in row)) for rank, *row in shown.head(12).itertuples())
    names = ("rank", *PARTS)
    return Chart(
        "split", TITLE, _verdict(parts, rows["stage"].nunique()), figure, names, table, " ".join((said, note)).strip()
    )


def _shown(parts: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    named = parts.rename(index=str)
    if len(parts) <= MOST_RANKS:
        return named, ""
    own = parts["rest_ns"] + parts["input_ns"] + parts["gc_ns"] + parts["checkpoint_ns"]
    kept = own.nlargest(MOST_RANKS).index
    others = parts.drop(index=kept)
    shown = parts.loc[kept].rename(index=str)
    shown.loc["others"] = others.median()
    return (
        shown,
        f"The {MOST_RANKS} ranks with the most own work are drawn, worst first; 'others' is the median of the rest.",
    )


def _verdict(parts: pd.DataFrame, stages: int) -> str:
    total = parts.sum(axis=1)
    waits = (parts["wait_ns"] / total.where(total > 0)).fillna(0.0)
    order = np.argsort(waits.to_numpy(), kind="stable")
    least, most, low, high = waits.index[order[0]], waits.index[order[-1]], waits.min(), waits.max()
    if len(parts) < 2:
        return f"Rank {least} spends {wording.share(low)} of its step waiting for others."
    if high - low < 0.05:
        return f"All ranks wait about equally: {wording.share(waits.median())} of the step. Nobody is waited for."
    reading = (
        "who waits least is who the others wait for" if stages < 2 else "stages differ by design, compare within one"
    )
    return (
        f"Rank {least} waits least ({wording.share(low)} of its step) and rank {most} most ({wording.share(high)}): "
        f"{reading}."
    )
