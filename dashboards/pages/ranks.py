"""Ranks: who is slow, in which steps; all ranks and all steps on one map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from .. import _heat
from .._chart import Floats
from .._page import HOW, Block, Cell, Control, Link, nothing
from .._rank_kinds import Kind
from .._rank_maps import RankMap, kinds, rank_map
from .._rank_scores import Scores, order, scores, verdict
from .._selection import Selection
from .._view import View

MOST_ROWS, MOST_MARKS = 12, 3
ORDERS = (("", "host, then rank"), ("rank", "rank"), ("stage", "pipeline stage"), ("score", "worst first"))
OF_GPUS = {"hot": "hottest GPU first", "clock": "slowest clock first"}
TITLE = "Ranks and steps"
NONE = (
    "Record steps with `skewscope run -- python train.py` or a profiler and load the recording, or watch a cluster "
    "whose ranks run the hook."
)


class Ranks:
    """The map of ranks and steps."""

    path: ClassVar[str] = "/ranks"
    title: ClassVar[str] = "Ranks"
    order: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("rank_steps", "arrivals", "windows")

    def blocks(self, view: View, selection: Selection) -> Sequence[Block]:
        """Return the map, with the worst ranks beside it."""
        if view.empty:
            return (nothing("ranks", TITLE, "nothing is loaded", HOW),)
        kind = _chosen(view, selection)
        made = rank_map(view, kind, selection.job) if kind else None
        if kind is None or made is None:
            return (nothing("ranks", TITLE, "no steps, collectives or phases of ranks were recorded", NONE),)
        judged = scores(view, made, selection)
        rows = order(view, made, judged, selection)
        if not len(rows):
            return (_nobody(selection),)
        said, marks = verdict(view, made, judged, selection)
        figure = _drawn(made, rows, marks, selection)
        worst = judged.worst_first[:MOST_ROWS]
        return (
            Block(
                "ranks", f"{kind.name} per rank and {_step(made)}", said, figure, _columns(made),
                tuple(_row(made, judged, at, selection) for at in worst), _note(made, rows),
                controls=_controls(view, kind, selection), links=_links(made, marks, selection), zoom=True,
                data=_data(made, judged),
            ),
        )  # fmt: skip

    def zoomed(
        self, view: View, selection: Selection, x0: float, x1: float, y0: float, y1: float, block: str = ""
    ) -> go.Figure | None:
        """Return the map of the range in view, pooled anew."""
        kind = _chosen(view, selection)
        made = rank_map(view, kind, selection.job) if kind else None
        if made is None:
            return None
        judged = scores(view, made, selection)
        rows = order(view, made, judged, selection)
        _, marks = verdict(view, made, judged, selection)
        if not len(rows):
            return None
        matrix = _matrix(made, rows)
        return _heat.figure(matrix, _heat.seen(matrix, x0, x1, y0, y1), _placed(made, rows, marks))


def _chosen(view: View, selection: Selection) -> Kind | None:
    there = kinds(view)
    return next((kind for kind in there if kind.key == selection.show), there[0] if there else None)


def _step(made: RankMap) -> str:
    return "window" if made.axis == "time" else made.axis


def _matrix(made: RankMap, rows: Floats) -> _heat.Matrix:
    same = len(rows) == len(made.rank) and bool((np.diff(rows) == 1).all())
    names = made.row_names()
    return _heat.Matrix(
        made.values if same else made.values[rows], names if same else [names[at] for at in rows.tolist()],
        made.column_names(), "end of the window (UTC)" if made.axis == "time" else made.axis, "rank", made.unit,
        made.kind.diverging,
    )  # fmt: skip


def _drawn(made: RankMap, rows: Floats, marks: Sequence[int], selection: Selection) -> go.Figure:
    matrix = _matrix(made, rows)
    at = _heat.whole(matrix)
    left, right = columns_of(made, selection)
    if right > left:
        at = _heat.Range(at.top, at.bottom, left, right)
    return _heat.figure(matrix, at, _placed(made, rows, marks))


def columns_of(made: RankMap, selection: Selection) -> tuple[int, int]:
    """Return the selected columns, the second left out; (0, 0) where none of them is there."""
    first, last = (selection.since_ns, selection.until_ns) if made.axis == "time" else (selection.begin, selection.end)
    left = int(np.searchsorted(made.columns, first)) if first >= 0 else 0
    right = int(np.searchsorted(made.columns, last, side="right")) if last >= 0 else len(made.columns)
    return (left, right) if right > left else (0, 0)


def _placed(made: RankMap, rows: Floats, marks: Sequence[int]) -> list[tuple[int, str]]:
    places = {int(row): place for place, row in enumerate(rows.tolist())}
    return [(places[at], f"rank {made.rank[at]}") for at in marks if at in places and len(rows) > 1][:MOST_MARKS]


def _controls(view: View, kind: Kind, selection: Selection) -> tuple[Control, ...]:
    there = kinds(view)
    shows = tuple(("" if kind is there[0] else kind.key, kind.name) for kind in there)
    chosen = "" if kind is there[0] else kind.key
    orders = (*ORDERS, *((one.key, OF_GPUS[one.key]) for one in there if one.key in OF_GPUS))
    return (
        Control("Show", "show", shows, chosen),
        Control("Order", "order", orders, selection.order if selection.order in dict(orders) else ""),
    )


def _columns(made: RankMap) -> tuple[str, ...]:
    return ("rank", "host", "stage", "median", "worst third", "most", f"{_step(made)}s above half")


def _row(made: RankMap, judged: Scores, at: int, selection: Selection) -> tuple[Cell, ...]:
    rank, node, stage = int(made.rank[at]), str(made.node[at]), int(made.stage[at])
    host: Cell = Link(node, selection.link("/node", node=node, rank=rank, show="")) if node else "-"
    return (
        Link(str(rank), selection.link("/why", rank=rank, job=made.job, show="", order="")), host,
        str(stage) if stage >= 0 else "-",
        *(_heat.said(float(part[at]), made.unit) for part in (judged.median, judged.score, judged.most)),
        _heat.said(float(judged.hit[at]), "share"),
    )  # fmt: skip


def _links(made: RankMap, marks: Sequence[int], selection: Selection) -> tuple[Link, ...]:
    found = [
        Link(
            f"What of rank {made.rank[at]}?" if made.kind.unit else f"Why is rank {made.rank[at]} slow?",
            selection.link("/why", rank=int(made.rank[at]), show="", order=""),
        )
        for at in marks[:1]
    ]
    if selection.node and selection.rank < 0:
        found.append(Link("Show all hosts", selection.link("/ranks", node="")))
    return tuple(found)


def _note(made: RankMap, rows: Floats) -> str:
    high, wide = -(-len(rows) // _heat.MOST_ROWS), -(-len(made.columns) // _heat.MOST_COLUMNS)
    said = f"Job {made.job}: {len(rows):,} ranks, {len(made.columns):,} {_step(made)}s."
    if high > 1 or wide > 1:
        said += f" Each cell shows the worst of {high} ranks x {wide} {_step(made)}s; zoom in for single ones."
    return said


def _data(made: RankMap, judged: Scores) -> pd.DataFrame:
    """Return one row a rank for the export: the matrix itself is in the recording's tables."""
    return pd.DataFrame({
        "job": made.job, "rank": made.rank, "node": made.node, "stage": made.stage,
        f"median_{made.unit}": judged.median, f"worst_third_{made.unit}": judged.score,
        f"most_{made.unit}": judged.most, "hit_share": judged.hit,
    })  # fmt: skip


def _nobody(selection: Selection) -> Block:
    where = f"host {selection.node}" if selection.node else "this selection"
    everybody: Any = Link("Show all ranks", selection.link("/ranks", node="", rank=-1))
    return Block(
        "ranks", TITLE, f"Nothing to show: no rank ran on {where}.", advice="Select another host.", links=(everybody,)
    )
