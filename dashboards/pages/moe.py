"""MoE: the load of every expert in every layer, what limits the balance of GPUs, a placement anew, and drift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from skewscope import tables as schema
from skewscope.reports import wording
from skewscope.signals.view import signal

from .. import _experts, _heat
from .._chart import BLUE, GREY, RED, layout
from .._culprits import FRESH, counted
from .._lines import left_out, lines
from .._page import HOW, Block, Cell, Link, nothing
from .._rank_maps import of_job
from .._selection import LARGEST, Selection
from .._view import View

Array = np.ndarray[Any, Any]
LOADS, LADDER, LIVE = "Load of experts by layer", "The worst layers", "Busiest expert over the mean, live"
RATIO, MOST_ROWS, MOST_LAYERS = "skewscope_moe_expert_max_mean_ratio", 12, 64
TABLE, MOST_READ = "expert_loads", 8_000_000  # rows: of more, one step of several is read
COLUMNS = tuple(column.name for column in schema.table(TABLE).columns)
NO_LOADS = (
    "Load expert counts: a table `expert_loads` (Parquet: job, step, layer, expert, rank, routed_tokens), or let the "
    "hook tell the ratio live."
)


class Moe:
    """The page of experts."""

    path: ClassVar[str] = "/moe"
    title: ClassVar[str] = "MoE"
    order: ClassVar[int] = 9
    needs: ClassVar[tuple[str, ...]] = ("expert_loads", "windows")

    def blocks(self, view: View, selection: Selection) -> Sequence[Block]:
        """Return the map of experts and layers with the ladder, else what the hook tells live."""
        if view.empty:
            return (nothing("loads", LOADS, "nothing is loaded", HOW),)
        rows = _rows(view, selection)
        live = _live(view, selection)
        if not len(rows):
            empty = nothing("loads", LOADS, "no loads of single experts were recorded", NO_LOADS)
            return (live, empty) if live.figure is not None else (empty,)
        blocks = (_loads(rows), *_experts.blocks(view, selection, rows), _ladder(rows))
        return (*blocks, live) if live.figure is not None else blocks

    def zoomed(
        self, view: View, selection: Selection, x0: float, x1: float, y0: float, y1: float, block: str = ""
    ) -> go.Figure | None:
        """Return the map of the range in view."""
        rows = _rows(view, selection)
        if not len(rows):
            return None
        matrix = _matrix(rows)
        return _heat.figure(matrix, _heat.seen(matrix, x0, x1, y0, y1))


def _rows(view: View, selection: Selection) -> pd.DataFrame:
    """Return the loads of the selected job and steps, of all steps where none of them is there."""
    every = max(1, -(-view.count(TABLE) // MOST_READ))
    last = selection.end if selection.end >= 0 else LARGEST
    span = (selection.begin, last) if selection.begin >= 0 or selection.end >= 0 else None
    rows = view.rows(TABLE, COLUMNS, span, every)
    if not len(rows) and span is not None:
        rows = view.rows(TABLE, COLUMNS, None, every)
    return of_job(rows, selection.job) if len(rows) else rows


def _tokens(rows: pd.DataFrame) -> tuple[Array, Array, Array]:
    """Return (layers, experts, tokens [layers, experts]) summed over steps, ranks and replicas."""
    layers, row = np.unique(rows["layer"].to_numpy(), return_inverse=True)
    experts, column = np.unique(rows["expert"].to_numpy(), return_inverse=True)
    tokens = np.zeros((len(layers), len(experts)))
    np.add.at(tokens, (row, column), rows["routed_tokens"].to_numpy().clip(min=0))
    return layers, experts, tokens


def _matrix(rows: pd.DataFrame) -> _heat.Matrix:
    layers, experts, tokens = _tokens(rows)
    mean = tokens.mean(axis=1, keepdims=True)
    beyond = np.where(mean > 0, tokens / np.where(mean > 0, mean, 1.0) - 1.0, np.nan).astype(np.float32)
    return _heat.Matrix(
        beyond, [f"layer {layer}" for layer in layers], [str(expert) for expert in experts], "expert", "layer", "share",
        True, True,
    )  # fmt: skip


def _loads(rows: pd.DataFrame) -> Block:
    layers, experts, tokens = _tokens(rows)
    matrix = _matrix(rows)
    order = np.argsort(-np.nan_to_num(matrix.values.ravel(), nan=-np.inf), kind="stable")[:MOST_ROWS]
    wide = len(experts)
    table = tuple(
        (str(layers[at // wide]), str(experts[at % wide]), f"{tokens.ravel()[at]:,.0f}",
         wording.share(float(tokens.ravel()[at] / max(tokens[at // wide].sum(), 1))),
         wording.ratio(float(matrix.values.ravel()[at]) + 1))
        for at in order.tolist()
    )  # fmt: skip
    first = int(order[0])
    idle = float((tokens == 0).mean())
    said = (
        f"Expert {experts[first % wide]} of layer {layers[first // wide]} takes "
        f"{wording.ratio(float(matrix.values.ravel()[first]) + 1)} the mean of its layer; {wording.share(idle)} of "
        "experts get nothing."
    )
    dropped = rows["dropped_tokens"].to_numpy()
    lost, routed = int(dropped[dropped > 0].sum()), int(rows["routed_tokens"].sum())
    note = f"{len(layers)} layers, {wide} experts, {counted(rows['step'].nunique(), 'step')}."
    if lost:
        note += f" {wording.share(lost / max(routed, 1))} of tokens were dropped at full experts."
    columns = ("layer", "expert", "tokens", "of the layer", "against the mean")
    return Block("loads", LOADS, said, _heat.figure(matrix), columns, table, note, zoom=True, data=rows)


def _ladder(rows: pd.DataFrame) -> Block:
    """Return the layers by how far their busiest expert stands above the mean: what balancing could win at most."""
    layers, _, tokens = _tokens(rows)
    mean = tokens.mean(axis=1)
    good = mean > 0
    layers, tokens, mean = layers[good], tokens[good], mean[good]
    if not len(layers):
        return nothing("ladder", LADDER, "no token was routed", NO_LOADS)
    gap = tokens.max(axis=1) / mean
    order = np.argsort(-gap, kind="stable")
    shown = order[:MOST_LAYERS]
    figure = go.Figure(
        go.Bar(
            x=[f"layer {layers[at]}" for at in shown], y=gap[shown],
            marker={"color": [RED if place == 0 else BLUE for place in range(len(shown))]},
            hovertemplate="%{x}<br>%{y:.2f} x the mean<extra></extra>",
        )
    )  # fmt: skip
    figure.add_hline(y=1.0, line={"color": GREY, "dash": "dash"})
    layout(figure, "layer, the worst first", "busiest expert over the mean (1)").update_xaxes(type="category")
    rows_ = tuple(
        (str(layers[at]), wording.ratio(float(gap[at])), str(int(tokens[at].argmax())),
         wording.share(float(mean[at] / tokens[at].max())))
        for at in shown[:MOST_ROWS].tolist()
    )  # fmt: skip
    said = (
        f"Layer {layers[order[0]]} is worst, its busiest expert at {wording.ratio(float(gap[order[0]]))} the mean; the "
        f"median layer has {wording.ratio(float(np.median(gap)))}."
    )
    note = "Balance is the mean over the busiest: what placing experts anew could win at most, one expert a GPU."
    return Block("ladder", LADDER, said, figure, ("layer", "busiest over mean", "expert", "balance"), rows_, note)


def _live(view: View, selection: Selection) -> Block:
    windows = view.tables.get("windows", pd.DataFrame())
    if not len(windows) or RATIO not in windows["metric"].cat.categories:
        return nothing("live", LIVE, "no rank tells the ratio", NO_LOADS)
    found = signal(view.tables, RATIO)
    peak = np.array([np.nanmax(line) if np.isfinite(line).any() else -np.inf for line in found.values.T])
    order = np.argsort(-peak, kind="stable")
    names = [f"rank {rank} on {node}" for rank, node in zip(found.rank.tolist(), found.node.tolist(), strict=True)]
    figure = lines(found.t_ns, found.values, names, "busiest expert over the mean (1)", order.tolist())
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (Link(names[at], selection.link("/why", **FRESH, rank=int(found.rank[at]))), wording.ratio(float(peak[at])))
        for at in order[:MOST_ROWS].tolist()
    )
    most = wording.ratio(float(peak[order[0]]))
    said = f"{names[order[0]]} saw the most uneven layer: its busiest expert at {most} the mean."
    return Block("live", LIVE, said, figure, ("rank", "most"), rows, left_out(len(names)))
