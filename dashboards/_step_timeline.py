"""One step as a timeline: what a few ranks did, and the path of last arrivals that decided its length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from skewscope.reports import wording

from ._chart import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, label, layout
from ._rank_maps import job_of_most, of_job
from ._selection import Selection
from ._view import View

Array = np.ndarray[Any, Any]
MOST_RANKS, MOST_SPANS, MOST_PATH = 8, 4000, 200
KINDS = {
    "own work": (BLUE, ""), "input": (PINK, "x"), "gc": (RED, "+"), "checkpoint": (GREEN, "|"),
    "transfer": (SKY, "/"), "waits for others": (ORANGE, "."),
}  # fmt: skip
OF_PHASE = {
    "data": "input", "h2d": "input", "gc": "gc", "checkpoint": "checkpoint", "eval": "checkpoint",
    "comm_wait": "waits for others", "sync": "waits for others",
}  # fmt: skip
OF_OP = {"data": "input", "gc": "gc", "checkpoint": "checkpoint", "eval": "checkpoint"}
SPLIT = {
    "own work": "own_ns", "of it input": "input_ns", "transfer": "transfer_ns", "waits for others": "wait_ns",
    "idle": "idle_ns",
}  # fmt: skip
COLUMNS = {
    "rank_steps": ("job", "step", "rank", "start_ns", "end_ns", *SPLIT.values()),
    "arrivals": ("job", "step", "rank", "op", "group", "ready_ns", "end_ns", "late_ns", "wait_ns", "last"),
    "ops": ("job", "step", "rank", "op", "name", "start_ns", "end_ns"),
    "steps": ("job", "step", "rank", "phase", "start_ns", "end_ns"),
}  # fmt: skip
OWN = ("cpu", "kernel", "memcpy", "memset", "forward", "backward", "optimizer", *OF_OP)


@dataclass(frozen=True, eq=False)
class StepView:
    """A step of some ranks: `spans` has rank, kind, begin_s, end_s, what; `path` has rank, at_s, what, late_s.

    `split` is the rows of `rank_steps` of these ranks, in their order.
    """

    step: int
    ranks: list[int]
    spans: pd.DataFrame
    path: pd.DataFrame
    split: pd.DataFrame
    length_s: float


def chosen_step(view: View, selection: Selection, span: Mapping[str, Any]) -> int:
    """Return the step to show: of the selected ones, else of a finding's window, the one of middle length; -1 if none.

    Steps that are planned to be long are left out where others are there.
    """
    times = view.tables.get("step_times", pd.DataFrame())
    times = of_job(times, selection.job) if len(times) else times
    times = times[np.isfinite(times["duration_ns"].to_numpy())] if len(times) else times
    if not len(times):
        return -1
    step, start, planned = (times[name].to_numpy() for name in ("step", "start_ns", "planned"))
    end = start + times["duration_ns"].to_numpy()
    first, last = _number(span.get("first_step")), _number(span.get("last_step"))
    since, until = _number(span.get("start_ns")), _number(span.get("end_ns"))
    tests = (
        (selection.begin >= 0) & (step >= selection.begin) & ((step <= selection.end) | (selection.end < 0)),
        (first >= 0) & (step >= first) & (step <= last) & ~planned,
        (since >= 0) & (end > since) & (start < until) & ~planned,
        (since >= 0) & (step == step[np.argmax(end)]),
        ~planned,
    )
    some = next((np.flatnonzero(test) for test in tests if test.any()), np.arange(len(step)))
    by_length = some[np.argsort(times["duration_ns"].to_numpy()[some], kind="stable")]
    return int(step[by_length[len(by_length) // 2]])


def _number(value: int | None) -> int:
    return -1 if value is None else int(value)


def step_view(
    view: View, selection: Selection, step: int, first: Sequence[int] = (), *, only: bool = False
) -> StepView | None:
    """Return the step for the ranks that matter: `first`, those that arrived last, and the ones that waited most.

    With `only` the first ones are all, up to twice as many.
    """
    rows = _of_step(view, "rank_steps", selection, step)
    if not len(rows):
        return None
    begin = int(rows["start_ns"].min())
    late = _of_step(view, "arrivals", selection, step)
    path = _path(late, begin)
    by_wait = rows.sort_values("wait_ns")["rank"].to_numpy()
    named = [*first, *path["rank"].value_counts().index.tolist()[:3], *by_wait[:1].tolist(), *by_wait[::-1].tolist()]
    there = set(rows["rank"].tolist())
    named, most = ([*first], 2 * MOST_RANKS) if only else (named, MOST_RANKS)
    ranks = [int(rank) for rank in dict.fromkeys(named) if rank in there][:most]
    spans = pd.concat([_own(view, selection, step, ranks), _calls(late, ranks)], ignore_index=True)
    if not len(spans):
        spans = _parts(rows, ranks)
    spans = spans.assign(begin_s=(spans["begin_ns"] - begin) / 1e9, end_s=(spans["end_ns"] - begin) / 1e9)
    spans = spans[(spans["end_s"] > spans["begin_s"]).to_numpy()]
    longest = spans.assign(size=spans["end_s"] - spans["begin_s"]).nlargest(MOST_SPANS, "size").sort_values("begin_s")
    split = rows.drop_duplicates("rank").set_index("rank").reindex(ranks).fillna({name: 0.0 for name in SPLIT.values()})
    return StepView(step, ranks, longest, path, split, (int(rows["end_ns"].max()) - begin) / 1e9)


def _of_step(view: View, table: str, selection: Selection, step: int) -> pd.DataFrame:
    name = selection.job or job_of_most(view, table)
    rows = view.rows(table, COLUMNS[table], (step, step))
    return of_job(rows, name) if len(rows) else rows


def _path(late: pd.DataFrame, begin: int) -> pd.DataFrame:
    """Return who arrived last at each call of the step, in the order of time."""
    columns = ("rank", "at_s", "what", "late_s")
    rows = late[(late["last"] & (late["ready_ns"] > 0)).to_numpy()] if len(late) else late
    if not len(rows):
        return pd.DataFrame({name: [] for name in columns})
    rows = rows.sort_values("ready_ns").tail(MOST_PATH)
    return pd.DataFrame({
        "rank": rows["rank"].to_numpy(), "at_s": (rows["ready_ns"].to_numpy() - begin) / 1e9,
        "what": (rows["op"].astype(str) + " of " + rows["group"].astype(str)).to_numpy(),
        "late_s": rows["late_ns"].to_numpy() / 1e9,
    })  # fmt: skip


def _own(view: View, selection: Selection, step: int, ranks: Sequence[int]) -> pd.DataFrame:
    """Return own work of the ranks: recorded operations, else the phases of the step."""
    ops = _of_step(view, "ops", selection, step)
    ops = ops[(ops["rank"].isin(ranks) & ops["op"].astype(str).isin(OWN)).to_numpy()] if len(ops) else ops
    if len(ops):
        kind, name = ops["op"].astype(str), ops["name"].astype(str)
        return pd.DataFrame({
            "rank": ops["rank"].to_numpy(), "kind": kind.map(OF_OP).fillna("own work").to_numpy(),
            "begin_ns": ops["start_ns"].to_numpy(), "end_ns": ops["end_ns"].to_numpy(),
            "what": name.where(name != "", kind).to_numpy(),
        })  # fmt: skip
    steps = _of_step(view, "steps", selection, step)
    steps = (
        steps[(steps["rank"].isin(ranks) & (steps["phase"].astype(str) != "step")).to_numpy()] if len(steps) else steps
    )
    phase = steps["phase"].astype(str) if len(steps) else pd.Series(dtype=str)
    return pd.DataFrame({
        "rank": steps["rank"].to_numpy() if len(steps) else [],
        "kind": phase.map(OF_PHASE).fillna("own work").to_numpy(),
        "begin_ns": steps["start_ns"].to_numpy() if len(steps) else [],
        "end_ns": steps["end_ns"].to_numpy() if len(steps) else [], "what": phase.to_numpy(),
    })  # fmt: skip


def _calls(late: pd.DataFrame, ranks: Sequence[int]) -> pd.DataFrame:
    """Return waiting (from own to last arrival) and transfer (from there to the end) at collectives."""
    rows = (
        late[(late["rank"].isin(ranks) & (late["ready_ns"] > 0) & (late["end_ns"] > 0)).to_numpy()]
        if len(late)
        else late
    )
    if not len(rows):
        return pd.DataFrame({name: [] for name in ("rank", "kind", "begin_ns", "end_ns", "what")})
    ready, wait = rows["ready_ns"].to_numpy(), np.nan_to_num(rows["wait_ns"].to_numpy()).astype(np.int64)
    rank, what = rows["rank"].to_numpy(), rows["op"].astype(str).to_numpy()
    met = np.minimum(ready + wait, rows["end_ns"].to_numpy())
    return pd.DataFrame({
        "rank": np.concatenate([rank, rank]), "kind": ["waits for others"] * len(rows) + ["transfer"] * len(rows),
        "begin_ns": np.concatenate([ready, met]), "end_ns": np.concatenate([met, rows["end_ns"].to_numpy()]),
        "what": np.concatenate([what, what]),
    })  # fmt: skip


def _parts(rows: pd.DataFrame, ranks: Sequence[int]) -> pd.DataFrame:
    """Return the parts of the step one after another where their times are not known."""
    made = []
    for row in rows[rows["rank"].isin(ranks).to_numpy()].to_dict("records"):
        at = float(row["start_ns"])
        for kind, column in (("own work", "own_ns"), ("transfer", "transfer_ns"), ("waits for others", "wait_ns")):
            size = float(np.nan_to_num(row[column]))
            made.append((row["rank"], kind, at, at + size, "in this step, the order is not known"))
            at += size
    return pd.DataFrame(made, columns=["rank", "kind", "begin_ns", "end_ns", "what"])


def drawn(made: StepView) -> go.Figure:
    """Return the timeline as horizontal bars, with the path of last arrivals over it."""
    factor, unit = (1.0, "s") if made.length_s >= 1 else (1e3, "ms")
    figure = go.Figure()
    for kind, (colour, pattern) in KINDS.items():
        some = made.spans[(made.spans["kind"] == kind).to_numpy()]
        if not len(some):
            continue
        figure.add_bar(
            orientation="h", y=[f"rank {rank}" for rank in some["rank"]], name=kind,
            base=(some["begin_s"] * factor).to_numpy(), x=((some["end_s"] - some["begin_s"]) * factor).to_numpy(),
            marker={"color": colour, "line": {"width": 0}, "pattern": {
                "shape": pattern, "fillmode": "overlay", "solidity": 0.2, "size": 6}},
            customdata=[label(text) for text in some["what"]],
            hovertemplate="%{y}: " + kind + "<br>%{customdata}<br>%{x:.3g} " + unit + "<extra></extra>",
        )  # fmt: skip
    path = made.path[made.path["rank"].isin(made.ranks).to_numpy()]
    if len(path):
        figure.add_scatter(
            x=(path["at_s"] * factor).to_numpy(), y=[f"rank {rank}" for rank in path["rank"]], mode="lines+markers",
            name="last to arrive", line={"color": GREY, "width": 1, "dash": "dot"},
            marker={"color": RED, "symbol": "diamond", "size": 8, "line": {"color": "#ffffff", "width": 1}},
            customdata=[label(text) for text in path["what"]],
            hovertemplate="%{y} is the last at %{customdata}<br>%{x:.4g} " + unit + "<extra></extra>",
        )  # fmt: skip
    layout(figure, f"time in the step ({unit})", "rank", barmode="overlay", bargap=0.35)
    figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=[f"rank {one}" for one in made.ranks[::-1]]
    )
    return figure


def table(made: StepView) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return per rank how its step splits, and at how many calls it came last."""
    last = made.path["rank"].value_counts()
    rows = tuple(
        (str(rank), *(wording.seconds(float(made.split[column].to_numpy()[place]) / 1e9) for column in SPLIT.values()),
         str(int(last.get(rank, 0))))
        for place, rank in enumerate(made.ranks)
    )  # fmt: skip
    return ("rank", *SPLIT, "last at calls"), rows
