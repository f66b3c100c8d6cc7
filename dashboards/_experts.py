"""What limits the balance of experts, a placement anew, and how the popularity of experts moves: blocks of page MoE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from skewscope.errors import SkewscopeError
from skewscope.moe import drift, planner
from skewscope.moe.diagnosis import Diagnosis, diagnose
from skewscope.reports import wording

from ._chart import BLUE, GREY, ORANGE, RED, layout
from ._kept import Kept
from ._page import Block, nothing
from ._plan_pictures import apart, parted
from ._selection import Selection
from ._view import View

Floats = np.ndarray[Any, np.dtype[np.float64]]

GAP, PLACED, DRIFT = "Gap ladder: what limits the balance", "Load of GPUs, now and placed anew", "Drift of popularity"
MOST_CELLS = 60_000  # of the two maps together
MOST_PLANNED = 1 << 20  # layers x slots x GPUs: more is not planned while a page waits
MOST_LAYERS = 12
FEW_WINDOWS, MOST_WINDOWS = 4, 64  # of the drift
RUNGS = (
    ("now", "now", "the running placement"), ("ceiling", "noise ceiling", "a perfect placement, with so few tokens"),
    ("bound", "replication bound", "the best with so many slots"),
    ("group_bound", "group bound", "the best while router groups stay on their nodes"),
    ("plan", "plan", "a plan on the window it was made from"),
    ("held_out", "plan, next window", "what a plan is worth"),
)  # fmt: skip
LIMITS = {
    "placement": "the running placement, so place anew (`skewscope plan moe`)",
    "drift": "drift from window to window, so replan more often or plan for several workloads",
    "noise": "chance, so leave it as it is, or give more tokens to a step", "packing": "packing into few slots per GPU",
    "groups": "groups of experts bound to nodes, so price a global placement",
    "replication": "hot experts with too few replicas, so add redundant experts",
}  # fmt: skip
MORE = "Load counts per step, and a map of experts or a job's expert-parallel size beside them."

KEPT = Kept[tuple[Block, ...]](12)


@dataclass(frozen=True, eq=False)
class _Maps:
    now: Floats  # [L, G], load over its mean
    planned: Floats


def blocks(view: View, selection: Selection, rows: pd.DataFrame) -> tuple[Block, ...]:
    """Return the ladder, the two maps and the drift of the selected loads; what cannot be known says why.

    They are worked out once for a view and a selection, for the job and phase with the most tokens.
    """
    key = (view.id, selection.job, selection.begin, selection.end)
    return KEPT.get(key, lambda: _blocks(_diagnosed(view.having("expert_loads", rows))))


def _diagnosed(tables: Mapping[str, pd.DataFrame]) -> Diagnosis | None:
    try:
        found = diagnose(tables)
    except SkewscopeError:
        return None
    return max(found, key=lambda one: int(one.loads.counts.sum()), default=None)


def _blocks(found: Diagnosis | None) -> tuple[Block, ...]:
    if found is None:
        why = "the loads cannot be judged"
        return nothing("gap", GAP, why, MORE), nothing("placed", PLACED, why, MORE), nothing("drift", DRIFT, why, MORE)
    return _gap(found), _placed(found), _drifted(found)


def _is_small(found: Diagnosis) -> bool:
    placed = found.layout.placement
    return placed is not None and placed.slots.size * placed.gpus <= MOST_PLANNED


def _gap(found: Diagnosis) -> Block:
    if found.layout.placement is None:
        return nothing("gap", GAP, "how many GPUs share the experts is not known", MORE)
    if not _is_small(found):
        return nothing(
            "gap", GAP, "so many slots and GPUs are not planned while a page waits", "Use `skewscope plan moe`."
        )
    ladder = found.ladder
    assert ladder is not None  # noqa: S101 - there is a placement
    rungs = [(title, getattr(ladder, name), said) for name, title, said in RUNGS]
    rungs = [one for one in rungs if np.isfinite(one[1]).any()]
    figure = go.Figure()
    for label, colour, of in (("mean over layers", BLUE, np.nanmean), ("worst layer", ORANGE, np.nanmin)):
        figure.add_bar(x=[title for title, _, _ in rungs], y=[float(of(one)) for _, one, _ in rungs], name=label,
                       marker={"color": colour})  # fmt: skip
    layout(figure, "rung", "balance: mean over busiest GPU (1)", barmode="group").update_yaxes(range=[0, 1.05])
    rows = tuple((title, _three(np.nanmean(one)), _three(np.nanmin(one)), said) for title, one, said in rungs)
    said = f"GPUs are balanced to {_three(ladder.now.mean())} of 1 now; what limits it is {LIMITS[ladder.limit]}."
    note = f"{found.layout.basis[:1].upper()}{found.layout.basis[1:]}; {ladder.slots} slots on {ladder.gpus} GPUs."
    columns = ("rung", "mean", "worst layer", "what it is")
    return Block("gap", GAP, said, figure, columns, rows, " ".join((note, *found.loads.warnings[:1])))


def _placed(found: Diagnosis) -> Block:
    if not _is_small(found):
        return nothing("placed", PLACED, "there is no placement that could be compared", MORE)
    maps = _maps(found)
    if maps.now.size + maps.planned.size > MOST_CELLS:
        keep = np.argsort(-maps.now.max(1), kind="stable")[: max(1, MOST_CELLS // (2 * maps.now.shape[1]))]
        maps = _Maps(maps.now[np.sort(keep)], maps.planned[np.sort(keep)])
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.2, subplot_titles=("now", "anew"))
    for row, cells in enumerate((maps.now, maps.planned), 1):
        figure.add_trace(go.Heatmap(z=cells.astype(np.float32), coloraxis="coloraxis", meta="map",
                                    hovertemplate="layer %{y}<br>GPU %{x}<br>%{z:.3f} x the mean<extra></extra>"),
                         row=row, col=1)  # fmt: skip
    tall, wide = maps.now.shape
    layout(figure, "GPU", "MoE layer").update_xaxes(tick0=0, dtick=apart(wide), showgrid=False, zeroline=False)
    figure.update_yaxes(autorange="reversed", tick0=0, dtick=apart(tall), showgrid=False, zeroline=False)
    both = np.concatenate([maps.now, maps.planned])
    low, high = float(both.min()), float(both.max())
    bar = {"title": {"text": "x mean"}, "thickness": 12}
    scale = {"colorscale": parted(1.0, low, high), "cmin": low, "cmax": high, "colorbar": bar}
    figure.update_layout(height=660, coloraxis=scale)
    now, anew = (1 / cells.max(1) for cells in (maps.now, maps.planned))
    order = np.argsort(now, kind="stable")[:MOST_LAYERS]
    layers = found.loads.layers
    rows = tuple((str(layers[at]), str(int(maps.now[at].argmax())), _three(now[at]), _three(anew[at]))
                 for at in order.tolist())  # fmt: skip
    said = (
        f"The busiest GPU has {wording.ratio(float(maps.now.max()))} the mean of its layer now; placed anew, "
        f"{wording.ratio(float(maps.planned.max()))} on the same loads."
    )
    note = "A plan that fits the loads it was made from: the ladder says what is left of it on later ones."
    return Block("placed", PLACED, said, figure, ("layer", "busiest GPU", "balance now", "placed anew"), rows, note)


def _maps(found: Diagnosis) -> _Maps:
    placed, total = found.layout.placement, found.loads.total()
    assert placed is not None  # noqa: S101 - asked before
    anew = planner.plan(total, slots=placed.slots.shape[1], gpus=placed.gpus).placement
    made = []
    for one in (placed, anew):
        loads = one.gpu_loads(total)
        mean = loads.mean(-1, keepdims=True)
        made.append(np.asarray(np.where(mean > 0, loads / np.where(mean > 0, mean, 1), 1.0)))
    return _Maps(*made)


def _drifted(found: Diagnosis) -> Block:
    steps = len(found.loads.steps)
    if not found.loads.ordered or steps < 2:
        why = "one window only" if steps < 2 else "the steps have no order in time"
        return nothing("drift", DRIFT, why, "Load counts per step, in order.")
    edges = drift.cut(steps, min(MOST_WINDOWS, max(FEW_WINDOWS, steps // drift.REACH_STEPS)))
    moved = drift.drift(found.loads.counts, edges, found.deff)
    at = found.loads.steps[edges[1:-1]]
    mean, worst = moved.bits.mean(1), moved.bits.max(1)
    figure = go.Figure()
    figure.add_scatter(x=at, y=mean, name="mean over layers", mode="lines+markers", line={"color": BLUE})
    figure.add_scatter(x=at, y=worst, name="worst layer", mode="lines+markers", line={"color": ORANGE})
    for height, name, colour in ((drift.WARN_BITS, "unusual", GREY), (drift.ALARM_BITS, "another workload", RED)):
        figure.add_scatter(x=found.loads.steps[[0, -1]], y=[height] * 2, name=name, mode="lines",
                           line={"color": colour, "dash": "dash"})  # fmt: skip
    layout(figure, "step", "change of popularity (bits)").update_yaxes(rangemode="tozero")
    rows = tuple((str(at[place]), f"{mean[place]:.4f}", f"{worst[place]:.4f}",
                  str(found.loads.layers[int(moved.bits[place].argmax())]),
                  wording.share(float(moved.overlap[place].mean())))
                 for place in np.argsort(-mean, kind="stable")[:MOST_LAYERS].tolist())  # fmt: skip
    return Block("drift", DRIFT, _moved(found, mean, at), figure,
                 ("step", "mean (bits)", "worst layer (bits)", "layer", "hottest that stay"), rows,
                 "Between neighbouring windows, without what chance alone would show.")  # fmt: skip


def _moved(found: Diagnosis, mean: Floats, at: np.ndarray[Any, Any]) -> str:
    most = int(mean.argmax())
    if found.changes:
        steps = ", ".join(str(found.loads.steps[one.place]) for one in found.changes[:4])
        return f"The workload became another one at step {steps}: plans from before do not fit any more."
    said = f"The greatest change between windows is {mean[most]:.4f} bits, at step {at[most]}"
    if mean[most] < drift.SAME_BITS:
        return f"{said}: the workload stays the same."
    return f"{said}, below the {drift.ALARM_BITS:g} bits of another workload."


def _three(value: float) -> str:
    return f"{float(value):.3f}"
