"""Charts of two runs beside each other: steps, their parts, what ran, collectives, findings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from skewscope.reports import compare_page as words
from skewscope.reports import wording

from ._chart import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, Chart, Floats, Found, empty, label, layout, scale

MOST_NAMES = 20
ROW_PIXELS = 24
TABLE_ROWS = 200
MOST_POINTS = 2000
COLOURS = {"compute": BLUE, "host": GREEN, "input": PINK, "gc": RED, "checkpoint": "#F0E442", "transfer": SKY,
           "wait": ORANGE, "idle": GREY}  # fmt: skip


def charts(document: Found, before_s: Floats, after_s: Floats) -> list[Chart]:
    """Return all charts of a `skewscope.compare/1` document; the arrays are the judged steps of both runs in s."""
    return [
        steps(document, before_s, after_s), parts(document), work(document), operators(document), calls(document),
        findings(document),
    ]  # fmt: skip


def steps(document: Found, before_s: Floats, after_s: Floats) -> Chart:
    """Return how the steps of both runs are distributed."""
    title = "Step times"
    if not len(before_s) or not len(after_s):
        return empty("steps", title, "one of the runs tells no steps")
    unit, factor = scale(float(max(before_s.max(), after_s.max())))
    figure = go.Figure()
    for word, values, colour, dash in (("before", before_s, BLUE, "solid"), ("after", after_s, ORANGE, "dash")):
        ordered = np.sort(values) * factor
        kept = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), MOST_POINTS)).astype(int))
        figure.add_scatter(
            x=ordered[kept].tolist(), y=((kept + 1) / len(ordered)).tolist(), name=label(document[word]["name"]),
            mode="lines+markers" if len(ordered) <= 60 else "lines",
            line={"color": colour, "dash": dash, "shape": "hv"},
            hovertemplate="%{y:.0%} of the steps take at most %{x:.4g} " + unit + "<extra></extra>",
        )  # fmt: skip
    layout(figure, f"step time ({unit})", "share of steps").update_yaxes(range=[0, 1.02])
    step = document["step_time"]
    rows = tuple(
        (document[word]["name"], str(document[word]["ranks"]), str(document[word]["steps"]),
         wording.seconds(step[f"{word}_s"]["median"]), wording.seconds(step[f"{word}_s"]["p99"]))
        for word in ("before", "after")
    )  # fmt: skip
    ends = [wording.seconds(step[f"{word}_s"]["p99"]) for word in ("before", "after")]
    said = f"One step of a hundred takes longer than {ends[0]} before and {ends[1]} after."
    return Chart("steps", title, said, figure, ("run", "ranks", "steps", "median", "p99"), rows)


def parts(document: Found) -> Chart:
    """Return where the mean step goes in both runs, stacked."""
    title = "Where the step goes"
    shown = [one for one in document["parts"] if one["before_s"] or one["after_s"]]
    if not shown:
        return empty("parts", title, "the steps of one of the runs could not be split")
    stacked = [one for one in shown if one["of_step"]]
    unit, factor = scale(max(sum(one[f"{word}_s"] or 0.0 for one in stacked) for word in ("before", "after")))
    figure = go.Figure()
    names = [label(document["before"]["name"]), label(document["after"]["name"])]
    for one in stacked:
        values = [factor * (one["before_s"] or 0.0), factor * (one["after_s"] or 0.0)]
        figure.add_bar(
            x=values, y=names, name=one["part"], orientation="h", marker={"color": COLOURS[one["part"]]},
            hovertemplate=f"{one['part']} %{{x:.4g}} {unit}<extra></extra>",
        )  # fmt: skip
    layout(figure, f"mean time per step and rank ({unit})", "run", barmode="stack").update_yaxes(autorange="reversed")
    rows = tuple(
        (one["part"] if one["of_step"] else f"({one['part']})", wording.seconds(one["before_s"]),
         wording.seconds(one["after_s"]), wording.seconds(one["change_s"]),
         words.change(one["before_s"], one["after_s"]))
        for one in shown
    )  # fmt: skip
    said = _largest(stacked)
    return Chart("parts", title, said, figure, ("part", "before", "after", "change", ""), rows,
                 "Parts in brackets overlap with the others.")  # fmt: skip


def _largest(stacked: Sequence[Found]) -> str:
    known = [one for one in stacked if one["change_s"] is not None]
    most = max(known, key=lambda one: abs(one["change_s"]), default=None)
    if most is None or not most["change_s"]:
        return "No part changed."
    word = "more" if most["change_s"] > 0 else "less"
    return f"The largest change: {wording.seconds(abs(most['change_s']))} {word} of {most['part']} per step and rank."


def work(document: Found) -> Chart:
    """Return what ran, by the change of its time."""
    title = "What ran, by change of time"
    told = document["work"]
    if not told:
        return empty("work", title, "neither recording tells operations")
    changed = [one for one in told if one["state"] != "same"][:MOST_NAMES]
    figure = _bars(changed) if changed else None
    counts = document["work_counts"]
    said = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    rows = tuple(
        (one["state"], one["kind"], words.short(one["name"], 160), words.count(one["calls_before"]),
         words.count(one["calls_after"]), wording.seconds(one["before_s"]), wording.seconds(one["after_s"]),
         wording.seconds(one["change_s"]))
        for one in told[:TABLE_ROWS]
    )  # fmt: skip
    columns = ("state", "kind", "name", "calls", "calls after", "time", "time after", "change")
    return Chart("work", title, f"Of all names: {said}.", figure, columns, rows, "Calls and times per step and rank.")


def _bars(changed: Sequence[Found]) -> go.Figure:
    unit, factor = scale(max(abs(one["change_s"]) for one in changed))
    figure = go.Figure()
    figure.add_bar(
        x=[one["change_s"] * factor for one in changed], y=[f"{place}. {label(one['name'], 40)}" for place, one in
                                                            enumerate(changed, start=1)],
        orientation="h", marker={"color": [RED if one["change_s"] > 0 else GREEN for one in changed]},
        hovertemplate="%{y}<br>%{x:+.4g} " + unit + "<extra></extra>", showlegend=False,
    )  # fmt: skip
    layout(figure, f"change per step and rank ({unit})", "name").update_yaxes(autorange="reversed")
    figure.update_layout(height=140 + ROW_PIXELS * len(changed))
    return figure


def operators(document: Found) -> Chart:
    """Return operators with the device work that they launched."""
    title = "Operators and the device work they launch"
    told = document["operators"]
    if not told:
        return empty("operators", title, "operators are compared with --detail")
    rows = tuple(
        (one["state"], one["name"], words.count(one["calls_before"]), words.count(one["calls_after"]),
         wording.seconds(one["device_before_s"]), wording.seconds(one["device_after_s"]),
         wording.seconds(one["host_before_s"]), wording.seconds(one["host_after_s"]),
         words.short(one["kernels_before"], 160), words.short(one["kernels_after"], 160))
        for one in told[:TABLE_ROWS]
    )  # fmt: skip
    columns = ("state", "operator", "calls", "calls after", "device", "device after", "host", "host after", "kernels",
               "kernels after")  # fmt: skip
    return Chart("operators", title, f"{len(told)} operators, the largest change first.", None, columns, rows)


def calls(document: Found) -> Chart:
    """Return collectives."""
    title = "Collectives"
    told = document["collectives"]
    if not told:
        return empty("calls", title, "neither recording tells collectives")
    rows = tuple(
        (one["op"], words.count(one["calls_before"]), words.count(one["calls_after"]), words.size(one["bytes_before"]),
         words.size(one["bytes_after"]), wording.seconds(one["transfer_s_before"]),
         wording.seconds(one["transfer_s_after"]), words.size(one["bus_bytes_per_s_before"]),
         words.size(one["bus_bytes_per_s_after"]))
        for one in told
    )  # fmt: skip
    columns = ("operation", "calls", "calls after", "bytes", "bytes after", "transfer", "transfer after", "bus/s",
               "bus/s after")  # fmt: skip
    note = "Per step and rank. Transfer is the shortest time of a call over its ranks, the median over calls."
    return Chart(
        "calls",
        title,
        f"{len(told)} kinds of operations, {counted(told)} calls per step and rank after.",
        None,
        columns,
        rows,
        note,
    )


def counted(told: Sequence[Found]) -> str:
    """Return how many calls there are after, all kinds together."""
    return words.count(sum(one["calls_after"] or 0.0 for one in told))


def findings(document: Found) -> Chart:
    """Return findings that came, went and stayed."""
    title = "Findings"
    told = document["findings"]
    if not told:
        return empty("findings", title, "nothing was found in either run")
    counts = {state: sum(one["state"] == state for one in told) for state in ("came", "went", "stayed")}
    said = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    rows = tuple(
        (one["state"], one["severity"], one["condition"], one["subject"], one["role"],
         wording.seconds(one["before_s"] or None), wording.seconds(one["after_s"] or None), one["summary"])
        for one in told[:TABLE_ROWS]
    )  # fmt: skip
    columns = ("", "severity", "condition", "who", "role", "cost", "cost after", "summary")
    return Chart("findings", title, f"{said}.", None, columns, rows)
