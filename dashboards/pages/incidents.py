"""Incidents: when it began, and what else happened then, on one time line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from skewscope.reports import wording

from .._act_proof import done_block, marks
from .._chart import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, label, layout
from .._culprits import FRESH, condition, who
from .._lines import times
from .._page import HOW, Block, Cell, Link, nothing
from .._selection import Selection
from .._view import View

MOST_BARS, MOST_ROWS, MOST_MARKS = 24, 50, 600
LINE, EVENTS = "What happened when", "Events"
STATES = {"open": (RED, ""), "growing": (RED, "x"), "mitigated": (ORANGE, "/"), "closed": (GREY, ".")}
ROLES = {"culprit": (RED, ""), "victim": (ORANGE, "/"), "context": (SKY, ".")}
MARKS = (("diamond", PINK), ("circle", BLUE), ("square", GREEN), ("triangle-up", ORANGE), ("x", GREY))
NO_EVENTS = (
    "Kernel logs (`dmesg`, journal) beside a recording are read as events; agents deliver XIDs and link changes."
)
SHORTEST_NS = 10**9


class Incidents:
    """The time line."""

    path: ClassVar[str] = "/incidents"
    title: ClassVar[str] = "Incidents"
    order: ClassVar[int] = 3
    needs: ClassVar[tuple[str, ...]] = ("events",)

    def blocks(self, view: View, selection: Selection) -> Sequence[Block]:
        """Return the time line of incidents (of findings where nobody watched), what was done, and the events."""
        done = done_block(view, selection)
        if view.empty and not done:
            return (nothing("timeline", LINE, "nothing is loaded", HOW),)
        return _timeline(view, selection), *done, _events(view, selection)


def _timeline(view: View, selection: Selection) -> Block:
    bars = _of_incidents(view) if view.incidents else _of_findings(view)
    marked = pd.concat([_marks(view), marks(view)], ignore_index=True)
    if not bars and not len(marked):
        return nothing("timeline", LINE, "no incident, finding or event has a time", "Watch a cluster, or load one.")
    figure = go.Figure()
    for kind in dict.fromkeys(bar["kind"] for bar in bars):
        _add_bars(figure, kind, [bar for bar in bars if bar["kind"] == kind])
    for place, (event, rows) in enumerate(marked.groupby("event", sort=True)):
        _add_marks(figure, str(event), rows, MARKS[place % len(MARKS)])
    layout(figure, "time (UTC)", "", barmode="overlay", bargap=0.4).update_xaxes(type="date", nticks=6)
    names = [bar["name"] for bar in bars]
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=["events", *names[::-1]])
    legend = 18 * max(0, len(figure.data) - 4)  # on a phone each entry takes a line
    figure.update_layout(height=max(320, 150 + 34 * (len(names) + 1)) + legend)
    table = tuple(_row(one, selection) for one in (view.incidents or _timed(view))[:MOST_ROWS])
    columns = (
        "state" if view.incidents else "role",
        "severity",
        "who",
        "condition",
        "began (UTC)",
        "ended (UTC)",
        "share of step",
        "GPU-hours",
    )
    data = pd.DataFrame(bars).replace({"name": {"<br>": " "}}, regex=True) if bars else None
    return Block("timeline", LINE, _said(view, bars), figure, columns, table, _note(view, bars), data=data)


def _of_incidents(view: View) -> list[dict[str, Any]]:
    now = max([view.time_ns, *(one["changed_ns"] for one in view.incidents)])
    return [
        {"name": _name(one), "kind": one["state"], "begin_ns": one["opened_ns"], "end_ns": one["closed_ns"] or now,
         "what": one["summary"]}
        for one in view.incidents[:MOST_BARS]
    ]  # fmt: skip


def _timed(view: View) -> list[Mapping[str, Any]]:
    found = wording.culprits_first(view.report["findings"])
    return [one for one in found if (one["window"]["start_ns"] or 0) > 0]


def _of_findings(view: View) -> list[dict[str, Any]]:
    return [
        {"name": _name(one), "kind": one["role"], "begin_ns": one["window"]["start_ns"],
         "end_ns": one["window"]["end_ns"] or one["window"]["start_ns"], "what": one.get("summary", "")}
        for one in _timed(view)[:MOST_BARS]
    ]  # fmt: skip


def _name(one: Mapping[str, Any]) -> str:
    who, what = label(f"{wording.who(one['subject'])}:", 40), label(f"{one['condition']} ({one['id'][:8]})", 40)
    return f"{who}<br>{what}"  # two lines leave room on a phone


def _add_bars(figure: go.Figure, kind: str, bars: Sequence[Mapping[str, Any]]) -> None:
    colour, pattern = {**STATES, **ROLES}.get(kind, (GREY, ""))
    begin = np.array([bar["begin_ns"] for bar in bars], dtype=np.int64)
    size = np.maximum(np.array([bar["end_ns"] for bar in bars], dtype=np.int64) - begin, SHORTEST_NS)
    figure.add_bar(
        orientation="h", y=[bar["name"] for bar in bars], base=times(begin), x=size / 1e6, name=kind,
        marker={"color": colour, "pattern": {"shape": pattern, "fillmode": "overlay", "solidity": 0.25, "size": 7}},
        customdata=[label(bar["what"], 120) for bar in bars],
        hovertemplate="%{y}<br>%{customdata}<br>from %{base}<extra>" + label(kind) + "</extra>",
    )  # fmt: skip


def _add_marks(figure: go.Figure, event: str, rows: pd.DataFrame, look: tuple[str, str]) -> None:
    figure.add_scatter(
        x=times(rows["t_ns"].to_numpy()), y=["events"] * len(rows), mode="markers", name=label(event),
        marker={"symbol": look[0], "color": look[1], "size": 9},
        customdata=[label(text, 100) for text in rows["what"]],
        hovertemplate="%{x}<br>%{customdata}<extra>" + label(event) + "</extra>",
    )  # fmt: skip


def _marks(view: View) -> pd.DataFrame:
    """Return t_ns, event, what of the events, and of the begins of checkpoints."""
    rows = view.tables.get("events", pd.DataFrame())
    made = [pd.DataFrame({"t_ns": [], "event": [], "what": []}).astype({"t_ns": "int64"})]
    if len(rows):
        known = rows[(rows["t_ns"] > 0).to_numpy()].tail(MOST_MARKS)
        where = known["node"].astype(str) + " " + known["device"].astype(str)
        made.append(pd.DataFrame({
            "t_ns": known["t_ns"].to_numpy(), "event": known["event"].astype(str).to_numpy(),
            "what": (where.str.strip() + ": " + known["message"].astype(str)).to_numpy(),
        }))  # fmt: skip
    if "checkpoint" in view.names("steps", "phase"):
        parts = view.parts("steps", ("job", "step", "phase", "start_ns"))
        saves = pd.concat([one[(one["phase"] == "checkpoint").to_numpy()].astype({"job": str}) for one in parts])
        first = saves.groupby(["job", "step"], observed=True)["start_ns"].min().reset_index().tail(MOST_MARKS)
        made.append(pd.DataFrame({
            "t_ns": first["start_ns"].to_numpy(), "event": "checkpoint",
            "what": [f"job {job}, step {step}" for job, step in zip(first["job"], first["step"], strict=True)],
        }))  # fmt: skip
    return pd.concat([part for part in made if len(part)] or made, ignore_index=True)


def _row(one: Mapping[str, Any], selection: Selection) -> tuple[Cell, ...]:
    live = "state" in one
    begin = one["opened_ns"] if live else one["window"]["start_ns"]
    end = one["closed_ns"] if live else one["window"]["end_ns"]
    rank, node = one["subject"]["rank"], one["subject"]["node"]
    place = selection.having(rank=-1 if rank is None else int(rank), node=str(node or ""))
    named: Cell = Link(wording.who(one["subject"]), place.link("/why", **FRESH)) if live else who(one, selection)
    return (
        one["state"] if live else one["role"], one["severity"], named, condition(one["condition"], selection),
        wording.clock(begin), wording.clock(end) if end else "-", wording.share(one["cost"]["share"] or None),
        wording.hours(one["cost"]["gpu_hours"] or None),
    )  # fmt: skip


def _said(view: View, bars: Sequence[Mapping[str, Any]]) -> str:
    if view.incidents:
        there = sum(one["state"] in ("open", "growing") for one in view.incidents)
        newest = view.incidents[0]
        return (
            f"{there} of {len(view.incidents)} incidents are open; the newest change, at "
            f"{wording.clock(newest['changed_ns'])}, is {wording.who(newest['subject'])}: {newest['condition']}."
        )
    if not bars:
        return "Nothing was found; only events are drawn."
    first = min(bars, key=lambda bar: int(bar["begin_ns"]))
    name = first["name"].replace("<br>", " ")
    have = "finding has" if len(bars) == 1 else "findings have"
    return f"{len(bars)} {have} a time; the first began at {wording.clock(first['begin_ns'])}: {name}."


def _note(view: View, bars: Sequence[Mapping[str, Any]]) -> str:
    if view.incidents:
        hidden = len(view.incidents) - len(bars)
        return f"{hidden} older incidents are not drawn." if hidden > 0 else ""
    return "Nobody watched: these are the windows of the findings. `skewscope watch` keeps incidents."


def _events(view: View, selection: Selection) -> Block:
    rows = view.tables.get("events", pd.DataFrame())
    rows = rows[(rows["node"].astype(str) == selection.node).to_numpy()] if len(rows) and selection.node else rows
    if not len(rows):
        where = f" on {selection.node}" if selection.node else ""
        return nothing("events", EVENTS, f"no XID, link change, restart or stack was recorded{where}", NO_EVENTS)
    counts = rows["event"].astype(str).value_counts()
    table = tuple(
        (
            wording.clock(int(row["t_ns"])) if row["t_ns"] > 0 else "-",
            Link(str(row["node"]), selection.link("/node", **FRESH, node=str(row["node"]))) if row["node"] else "-",
            str(row["device"]) or "-", str(row["event"]), str(row["code"]) if row["code"] >= 0 else "-",
            str(row["message"])[:160],
        )
        for row in rows.sort_values("t_ns", ascending=False).head(MOST_ROWS).to_dict("records")
    )  # fmt: skip
    said = f"{len(rows)} events, most of them {counts.index[0]} ({counts.iloc[0]})."
    return Block("events", EVENTS, said, columns=("time (UTC)", "host", "device", "event", "code", "message"),
                 rows=table, data=rows)  # fmt: skip
