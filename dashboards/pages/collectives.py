"""Collectives: who comes late, how long calls take by size and group, and bandwidth against peers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from skewscope.reports import wording
from skewscope.signals.view import Signal, parsed, signal

from .._chart import label, layout, scale
from .._charts_arrivals import arrivals
from .._culprits import host
from .._lines import COLOURS, left_out, lines
from .._page import HOW, Block, Cell, nothing
from .._rank_maps import of_job
from .._selection import Selection
from .._view import View

MOST_ROWS, MOST_GROUPS = 24, 12
MOST_READ = 1_000_000  # rows of a recording that stays in its files
CALLS = ("job", "step", "call", "group", "op", "members_count", "message_bytes", "transfer_ns")
EVEN = 0.1
SIZES, SPEED = "Transfer time by size and group", "Bus bandwidth against peers"
BANDWIDTH = "skewscope_collective_bus_bandwidth_bytes_per_second"
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "x")
NO_CALLS = "Record collectives with `skewscope run`, a profiler, or the NCCL flight recorder."
NO_SPEED = "Live agents whose ranks run the hook tell it; recordings give it with sizes and durations of calls."
FACTORS = {
    "all_reduce": lambda n: 2 * (n - 1) / n, "all_gather": lambda n: n - 1.0, "reduce_scatter": lambda n: (n - 1) / n,
    "all_to_all": lambda n: (n - 1) / n,
}  # fmt: skip


class Collectives:
    """The page of collective calls."""

    path: ClassVar[str] = "/collectives"
    title: ClassVar[str] = "Collectives"
    order: ClassVar[int] = 5
    needs: ClassVar[tuple[str, ...]] = ("arrivals", "windows")

    def blocks(self, view: View, selection: Selection) -> Sequence[Block]:
        """Return lateness, transfer times and bandwidth."""
        if view.empty:
            return (nothing("arrivals", "Collectives", "nothing is loaded", HOW),)
        calls = _calls(view, selection)
        return _late(view), _sizes(calls), _speed(view, calls, selection)


def _late(view: View) -> Block:
    every = _every(view)
    columns = ("job", "step", "rank", "members_count", "late_ns", "last", "by_wait")
    made = Block.of(
        arrivals({"arrivals": view.rows("arrivals", columns, every=every)}),
        advice="" if view.count("arrivals") else NO_CALLS,
    )
    return replace(made, note=f"{made.note} {_thinned(every)}".strip())


def _every(view: View) -> int:
    """Return of how many steps one is read, so that a table in its file gives few enough rows."""
    return 1 if view.large("arrivals") is None else max(1, -(-view.count("arrivals") // MOST_READ))


def _thinned(every: int) -> str:
    return f"The recording is large: one step of {every} is read." if every > 1 else ""


def _calls(view: View, selection: Selection) -> pd.DataFrame:
    """Return one row a call: group, op, members_count, message_bytes, step, transfer_s, seconds."""
    rows = view.rows("arrivals", CALLS, every=_every(view))
    if not len(rows):
        return pd.DataFrame()
    rows = of_job(rows, selection.job)
    known = (rows["transfer_ns"] > 0) & (rows["members_count"] > 1)
    if selection.begin >= 0:
        last = selection.end if selection.end >= 0 else np.inf
        within = known & (rows["step"] >= selection.begin) & (rows["step"] <= last)
        known = within if within.any() else known
    rows = rows[known.to_numpy()]
    if not len(rows):
        return pd.DataFrame()
    made = rows.groupby("call", sort=False).agg(
        group=("group", "first"), op=("op", "first"), members=("members_count", "first"),
        message_bytes=("message_bytes", "max"), transfer_ns=("transfer_ns", "median"),
    )  # fmt: skip
    return made.assign(group=made["group"].astype(str), op=made["op"].astype(str), transfer_s=made["transfer_ns"] / 1e9)


def _sizes(calls: pd.DataFrame) -> Block:
    if not len(calls):
        return nothing("sizes", SIZES, "no call has a known transfer time", NO_CALLS)
    keys = ["op", "group", "members", "message_bytes"]
    found = calls.groupby(keys)["transfer_s"].agg(["median", "count", "max"]).reset_index()
    found["total"] = found["median"] * found["count"]
    found = found.sort_values("total", ascending=False)
    unit, factor = scale(float(found["median"].max()))
    figure, ops = go.Figure(), list(dict.fromkeys(found["op"]))
    for place, op in enumerate(ops):
        some = found[(found["op"] == op).to_numpy()].head(400)
        figure.add_scatter(
            x=np.maximum(some["message_bytes"].to_numpy(), 1), y=(some["median"] * factor).to_numpy(), mode="markers",
            name=label(op), customdata=[label(f"{name}, {count} ranks") for name, count in zip(
                some["group"], some["members"], strict=True)],
            marker={"color": COLOURS[place % len(COLOURS)], "symbol": SYMBOLS[place % len(SYMBOLS)], "size": 9},
            hovertemplate="%{customdata}<br>%{x} bytes<br>%{y:.3g} " + unit + "<extra>" + label(op) + "</extra>",
        )  # fmt: skip
    layout(figure, "message (bytes)", f"median transfer time ({unit})").update_xaxes(type="log")
    figure.update_yaxes(type="log")
    rows = tuple(
        (row["op"], row["group"], str(row["members"]), _bytes(row["message_bytes"]), f"{row['count']:,}",
         wording.seconds(row["median"]), wording.seconds(row["max"]), wording.seconds(row["total"]))
        for row in found.head(MOST_ROWS).to_dict("records")
    )  # fmt: skip
    first = found.iloc[0]
    said = (
        f"{first['op']} of {_bytes(first['message_bytes'])} in group {first['group']} takes most: {first['count']} "
        f"calls of {wording.seconds(float(first['median']))} at the median, after everybody had arrived."
    )
    columns = ("operation", "group", "ranks", "message", "calls", "median", "longest", "in all")
    return Block("sizes", SIZES, said, figure, columns, rows, data=found)


def _bytes(size: float) -> str:
    """Return a size as people say it.

    >>> _bytes(3 * 2**20), _bytes(-1)
    ('3 MiB', '-')
    """
    if size < 0:
        return "-"
    for name, worth in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= worth:
            return f"{size / worth:.3g} {name}"
    return f"{size:.0f} B"


def _speed(view: View, calls: pd.DataFrame, selection: Selection) -> Block:
    windows = view.tables.get("windows", pd.DataFrame())
    if len(windows) and BANDWIDTH in windows["metric"].cat.categories:
        return _live(view, selection)
    calls = (
        calls[calls["op"].isin(FACTORS).to_numpy() & (calls["message_bytes"] > 0).to_numpy()] if len(calls) else calls
    )
    if not len(calls):
        return nothing("bandwidth", SPEED, "no call has a known size and transfer time", NO_SPEED)
    factor = np.array([FACTORS[op](n) for op, n in zip(calls["op"], calls["members"], strict=True)])
    speed = calls.assign(speed=calls["message_bytes"] * factor / calls["transfer_s"])
    speed = speed.assign(octave=np.floor(np.log2(speed["message_bytes"])))
    usual = speed.groupby(["op", "octave", "members"])["speed"].transform("median")
    speed = speed.assign(versus=speed["speed"] / usual)
    found = speed.groupby(["op", "group"])[["speed", "versus"]].median()
    found["calls"] = speed.groupby(["op", "group"]).size()
    found = found.reset_index().sort_values("versus").head(MOST_GROUPS * 2)
    figure = go.Figure(
        go.Bar(
            x=[label(f"{op} {group}") for op, group in zip(found["op"], found["group"], strict=True)],
            y=(found["versus"] * 100).to_numpy(), width=0.5, marker={"color": COLOURS[0]},
            hovertemplate="%{x}<br>%{y:.0f} % of its peers<extra></extra>",
        )
    )  # fmt: skip
    layout(figure, "operation and group", "bandwidth, of peers of the same size (%)").update_xaxes(type="category")
    rows = tuple(
        (row["op"], row["group"], f"{row['calls']:,}", f"{row['speed'] / 1e9:.3g} GB/s", wording.share(row["versus"]))
        for row in found.to_dict("records")
    )  # fmt: skip
    worst = found.iloc[0]
    said = (
        f"{worst['op']} in group {worst['group']} is slowest against calls of the same kind and size: "
        f"{worst['speed'] / 1e9:.3g} GB/s, {wording.share(float(worst['versus']))} of their median."
    )
    if worst["versus"] > 1 - EVEN:
        said = f"All {len(found)} kinds of calls reach the bandwidth of their peers within {wording.share(EVEN)}."
        if len(found) == 1:
            said = f"Only {worst['op']} in group {worst['group']} was recorded: {worst['speed'] / 1e9:.3g} GB/s."
    note = "Bus bandwidth: bytes over the slowest link by the algorithm's lower bound, over the transfer time."
    return Block("bandwidth", SPEED, said, figure, ("operation", "group", "calls", "bandwidth", "of peers"), rows, note)


def _live(view: View, selection: Selection) -> Block:
    """Return the bandwidth that the agents tell: one line a host, for the largest group that most hosts are in."""
    kinds = _labels(view)
    best: tuple[float, str, Signal] | None = None
    for text in kinds[:MOST_GROUPS]:
        labels: dict[str, Any] = dict(parsed(text))
        found = signal(view.tables, BANDWIDTH, **labels)
        some = ~np.isnan(found.values).all(axis=0)
        if some.sum() < 2:
            continue
        medians = np.nanmedian(found.values[:, some], axis=0)
        if not np.median(medians) > 0:
            continue
        low = float(medians.min() / np.median(medians))
        if best is None or low < best[0]:
            best = (low, text, found)
    if best is None:
        return nothing("bandwidth", SPEED, "fewer than two hosts tell the bandwidth of one group", NO_SPEED)
    low, text, found = best
    with np.errstate(all="ignore"):
        medians = np.array([np.nanmedian(line) if np.isfinite(line).any() else np.inf for line in found.values.T])
    order = np.argsort(medians, kind="stable")
    names = [f"{node}" for node in found.node]
    figure = lines(found.t_ns, found.values / 1e9, names, "bus bandwidth (GB/s)", order.tolist())
    usual = float(np.median(medians[np.isfinite(medians)]))
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (host(names[at], selection), f"{medians[at] / 1e9:.3g} GB/s", wording.share(float(medians[at]) / usual))
        for at in order[:MOST_GROUPS].tolist() if np.isfinite(medians[at])
    )  # fmt: skip
    said = (
        f"Of {text.replace(',', ', ')} host {names[order[0]]} is slowest: {medians[order[0]] / 1e9:.3g} GB/s, "
        f"{wording.share(low)} of the median of {len(names)} hosts."
    )
    return Block("bandwidth", SPEED, said, figure, ("host", "median", "of peers"), rows, left_out(len(names)))


def _labels(view: View) -> list[str]:
    """Return the label texts of the bandwidth, the most frequent first."""
    windows = view.tables["windows"]
    rows = windows[(windows["metric"] == BANDWIDTH).to_numpy()]
    return [str(text) for text in rows["labels"].value_counts().index if text in set(rows["labels"])]
