"""Where the time of the job goes: the price of each cause, and the step time over the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from skewscope.reports import wording

from ._chart import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    Chart,
    Floats,
    Found,
    Tables,
    bin_edges,
    empty,
    label,
    layout,
    main_job,
    scale,
)

MOST_CAUSES, MOST_STEPS, MOST_WINDOWS = 8, 1500, 3
LOST, LINE = "Where the lost time goes", "Step time over the run"


def waterfall(tables: Tables, findings: Sequence[Found] = ()) -> Chart:
    """Return the bridge from the ideal step over the priced causes and the rest to the measured step."""
    times = _judged(tables)
    if not len(times):
        return empty("waterfall", LOST, "the recording has no steps")
    measured, ideal = float(times["duration_ns"].mean()) / 1e9, float(times["ideal_ns"].mean()) / 1e9
    if not measured > 0:
        return empty("waterfall", LOST, "the steps have no measured length")
    causes, once = _causes(tables, findings), _once(findings)
    priced = sum(cost for _, cost in causes)
    known = np.isfinite(ideal)
    if known and causes:
        ideal = min(ideal, max(0.0, measured - causes[0][1]))  # metrics may know what steps without an inside do not
    start = ideal if known else max(0.0, measured - priced)
    rest = measured - start - priced
    bars = [("ideal step" if known else "without these causes", start), *causes]
    if abs(rest) > 1e-3 * measured:
        bars.append(("not attributed" if rest > 0 else "counted twice", rest))
    table = tuple((name, wording.seconds(cost), wording.share(cost / measured)) for name, cost in bars)
    table += (("measured step", wording.seconds(measured), "100 %"),)
    table += tuple((f"{name}, once", wording.seconds(cost), wording.UNKNOWN) for name, cost in once[:MOST_CAUSES])
    verdict = _lost(causes, start, measured, known)
    if once and not causes:
        name, cost = once[0]
        verdict = f"{name} stopped the job for {wording.seconds(cost)}, once; steps took {wording.seconds(measured)}."
    return Chart("waterfall", LOST, verdict, _bridge(bars, measured), ("part", "per step", "of the step"), table)


def _bridge(bars: Sequence[tuple[str, float]], measured: float) -> go.Figure:
    unit, factor = scale(measured)
    names = [label(name, 44).replace(": ", ":<br>") for name, _ in bars] + ["measured step"]
    figure = go.Figure(
        go.Waterfall(
            x=names, y=[cost * factor for _, cost in bars] + [measured * factor],
            measure=["absolute", *["relative"] * (len(bars) - 1), "total"],
            connector={"line": {"color": GREY, "width": 1}},
            text=[wording.seconds(cost) for _, cost in bars] + [wording.seconds(measured)], textposition="outside",
            increasing={"marker": {"color": RED}}, decreasing={"marker": {"color": GREEN}},
            totals={"marker": {"color": BLUE}}, cliponaxis=False,
        )
    )  # fmt: skip
    layout(figure, "part of the step", f"mean time per step ({unit})", showlegend=False)
    return figure.update_xaxes(type="category", tickangle=-25 if len(bars) > 4 else None)


def _causes(tables: Tables, findings: Sequence[Found]) -> list[tuple[str, float]]:
    """Return (name, seconds per step) of the culprits; of the price list where nobody was found guilty."""
    guilty = [one for one in findings if one["role"] == "culprit"]
    found = [
        (_cause(one), float(one["cost"]["seconds_per_step"])) for one in guilty if one["cost"]["seconds_per_step"] > 0
    ]
    blame = tables.get("blame", pd.DataFrame())
    if not guilty and len(blame):
        rows = blame[
            (blame["lost_s"] > 0) & (blame["kind"].astype(str) == "rank") & (blame["cause"].astype(str) != "rest")
        ]
        rows = rows.nlargest(3, "lost_s")
        found = [(f"{row['subject']}: {row['cause']}", float(row["lost_s"])) for row in rows.to_dict("records")]
    found.sort(key=lambda item: -item[1])
    if len(found) > MOST_CAUSES:
        others = found[MOST_CAUSES - 1 :]
        found = [*found[: MOST_CAUSES - 1], (f"{len(others)} smaller", sum(cost for _, cost in others))]
    return found


def _once(findings: Sequence[Found]) -> list[tuple[str, float]]:
    """Return (name, seconds) of the culprits that stopped the job instead of slowing its steps, the longest first."""
    found = [
        (_cause(one), float(one["cost"].get("seconds_once") or 0.0))
        for one in findings
        if one["role"] == "culprit" and not one["cost"]["seconds_per_step"] > 0
    ]
    return sorted((item for item in found if item[1] > 0), key=lambda item: -item[1])


def _cause(one: Found) -> str:
    return f"{wording.who(one['subject'])}: {wording.clean(one['condition'])}"


def _lost(causes: Sequence[tuple[str, float]], start: float, measured: float, known: bool) -> str:
    if not causes:
        said = f"{wording.seconds(measured - start)} lie between the ideal and the measured step" if known else ""
        return f"No cause was priced{'; ' + said if said else ''}."
    name, cost = causes[0]
    share = wording.share(cost / measured)
    return f"The largest single cause is {name}: repairing it alone saves {wording.seconds(cost)} per step ({share})."


def step_line(tables: Tables, findings: Sequence[Found] = ()) -> Chart:
    """Return measured and ideal step time over the steps, with the windows of the costliest culprits shaded."""
    times = tables.get("step_times", pd.DataFrame())
    if not len(times):
        return empty("steps", LINE, "the recording has no steps")
    times, note = main_job(times)
    times = times[np.isfinite(times["duration_ns"]) & (times["duration_ns"] > 0)].sort_values("step")
    if not len(times):
        return empty("steps", LINE, "the steps have no measured length")
    step, duration = times["step"].to_numpy(), times["duration_ns"].to_numpy(dtype=float) / 1e9
    ideal = times["ideal_ns"].to_numpy(dtype=float) / 1e9
    unit, factor = scale(float(np.nanmax(duration)))
    edges = bin_edges(len(step), MOST_STEPS)
    said = f"Each point is the slowest of {-(-len(step) // len(edges))} steps." if len(edges) < len(step) else ""
    figure = go.Figure()
    slow = np.fmax.reduceat(duration, edges) * factor
    mode = "lines+markers" if len(edges) <= 100 else "lines"
    drawn, slow = _broken(step[edges], slow)
    figure.add_scatter(x=drawn, y=slow, name="measured", mode=mode, line={"color": BLUE, "width": 2})
    if np.isfinite(ideal).any():
        best = np.fmax.reduceat(ideal, edges) * factor
        drawn, best = _broken(step[edges], best)
        figure.add_scatter(x=drawn, y=best, name="ideal", mode="lines", line={"color": GREEN, "dash": "dash"})
    layout(figure, "step", f"step time ({unit})").update_yaxes(rangemode="tozero")
    shaded = _shade(figure, findings)
    verdict, rows = _pace(step, duration)
    return Chart("steps", LINE, verdict, figure, ("steps", "time"), (*rows, *shaded), f"{said} {note}".strip())


def _broken(step: Floats, value: Floats) -> tuple[Floats, Floats]:
    """Break the line where steps are missing, so that nothing is drawn where nothing was recorded."""
    if len(step) < 3:
        return step, value
    gaps = np.flatnonzero(np.diff(step) > 3 * np.median(np.diff(step))) + 1
    return np.insert(step.astype(float), gaps, step[gaps - 1]), np.insert(value, gaps, np.nan)


def _shade(figure: go.Figure, findings: Sequence[Found]) -> list[tuple[str, str]]:
    culprits = [one for one in findings if one["role"] == "culprit" and one["window"]["first_step"] is not None]
    seen = [step for line in figure.data for step in line.x]
    part = [
        one for one in culprits if one["window"]["first_step"] > min(seen) or one["window"]["last_step"] < max(seen)
    ]
    colours = (ORANGE, RED, GREY)
    for place, one in enumerate(part[:MOST_WINDOWS]):
        first, last = one["window"]["first_step"], one["window"]["last_step"]
        said: dict[str, Any] = {"text": label(one["id"]), "font": {"size": 11}}
        figure.add_vrect(
            x0=first - 0.5, x1=last + 0.5, fillcolor=colours[place], opacity=0.15, line_width=0, layer="below",
            annotation={**said, "yshift": -14 * place}, annotation_position="top left",
        )  # fmt: skip
    return [
        (f"window of {one['id']}: {wording.who(one['subject'])}", wording.window(one["window"]))
        for one in culprits[:MOST_WINDOWS]
    ]


def _pace(step: Floats, duration: Floats) -> tuple[str, list[tuple[str, str]]]:
    typical, worst = float(np.nanmedian(duration)), int(np.nanargmax(duration))
    third = max(1, len(duration) // 3)
    before, after = float(np.nanmedian(duration[:third])), float(np.nanmedian(duration[-third:]))
    rows = [
        ("all (median)", wording.seconds(typical)),
        ("all (99 % point)", wording.seconds(float(np.nanquantile(duration, 0.99)))),
        (f"slowest: step {step[worst]}", wording.seconds(float(duration[worst]))),
        ("first third (median)", wording.seconds(before)),
        ("last third (median)", wording.seconds(after)),
    ]
    drift = after / before - 1 if before > 0 else 0.0
    if len(duration) >= 6 and abs(drift) >= 0.05:
        change = "slower" if drift > 0 else "faster"
        return f"The last third of the run is {wording.share(abs(drift))} {change} than the first.", rows
    peak = wording.ratio(float(duration[worst]) / typical) if typical > 0 else wording.UNKNOWN
    return (
        f"The pace is steady at {wording.seconds(typical)} per step; the slowest, step {step[worst]}, took {peak}.",
        rows,
    )


def _judged(tables: Tables) -> pd.DataFrame:
    times = tables.get("step_times", pd.DataFrame())
    if not len(times):
        return times
    kept = times[~times["planned"]]
    return kept if len(kept) else times
