"""The HTML page of scaling: a pure function of its document `skewscope.scaling/1`."""

from __future__ import annotations

import plotly.graph_objects as go

from skewscope.reports import wording

from . import report_page
from ._chart import BLUE, GREY, Chart, Found, empty, label, layout, scale
from ._charts_compare import COLOURS


def page(document: Found) -> str:
    """Return the whole page; it loads nothing from anywhere, and every foreign text is escaped."""
    drawn = [efficiency(document), parts(document), laws(document)]
    if document["notes"]:
        rows = tuple((note,) for note in document["notes"])
        drawn.append(Chart("notes", "What to know", "How far these numbers reach.", None, ("note",), rows))
    return report_page.standing("skewscope scaling", document["verdict"], drawn)


def efficiency(document: Found) -> Chart:
    """Return throughput per rank over ranks, beside perfect scaling."""
    runs = document["runs"]
    ranks = [one["ranks"] for one in runs]
    figure = go.Figure()
    figure.add_scatter(x=ranks, y=[1.0] * len(ranks), name="perfect", mode="lines", line={"color": GREY, "dash": "dot"})
    low = [one["efficiency"] * (1 - one["step_s"] / one["step_high_s"]) for one in runs]
    high = [one["efficiency"] * (one["step_s"] / one["step_low_s"] - 1) for one in runs]
    figure.add_scatter(
        x=ranks, y=[one["efficiency"] for one in runs], name=f"{document['mode']} scaling", mode="lines+markers",
        line={"color": BLUE}, text=[label(one["name"]) for one in runs],
        error_y={"type": "data", "symmetric": False, "array": high, "arrayminus": low, "color": BLUE},
        hovertemplate="%{text}<br>%{x} ranks keep %{y:.1%}<extra></extra>",
    )  # fmt: skip
    layout(figure, "ranks", "throughput per rank against the smallest run (1)").update_xaxes(
        type="log", tickvals=ranks, ticktext=[str(one) for one in ranks]
    )
    figure.update_yaxes(rangemode="tozero")
    rows = tuple(
        (one["name"], str(one["ranks"]), wording.seconds(one["step_s"]), wording.number(one["throughput_per_s"]),
         wording.share(one["efficiency"]))
        for one in runs
    )  # fmt: skip
    columns = ("run", "ranks", "median step", f"{document['unit']} per s", "efficiency")
    said = (
        f"{ranks[-1]} ranks keep {wording.share(runs[-1]['efficiency'])} of the throughput of a rank among {ranks[0]}."
    )
    return Chart("efficiency", "Efficiency", said, figure, columns, rows, document["mode_from"])


def parts(document: Found) -> Chart:
    """Return where the step goes with more and more ranks."""
    title, runs = "Where the step goes with more ranks", document["runs"]
    if not all(one["parts_s"] for one in runs):
        return empty("parts", title, "not all runs have steps that could be split")
    unit, factor = scale(max(one["step_s"] for one in runs))
    figure = go.Figure()
    for name, colour in COLOURS.items():
        values = [factor * (one["parts_s"].get(name) or 0.0) for one in runs]
        if any(values):
            figure.add_bar(x=[str(one["ranks"]) for one in runs], y=values, name=name, marker={"color": colour},
                           hovertemplate=f"{name} %{{y:.4g}} {unit}<extra></extra>")  # fmt: skip
    layout(figure, "ranks", f"mean time per step and rank ({unit})", barmode="stack").update_xaxes(type="category")
    grown = [one for one in document["growth"] if one["first_s"] or one["last_s"]]
    rows = tuple(
        (one["part"], wording.seconds(one["first_s"]), wording.seconds(one["last_s"]), wording.seconds(one["beyond_s"]))
        for one in grown
    )
    said = f"Most beyond perfect scaling: {grown[0]['part']}, {wording.seconds(grown[0]['beyond_s'])}." if grown else ""
    return Chart("parts", title, said, figure, ("part", "smallest run", "largest run", "beyond perfect"), rows)


def laws(document: Found) -> Chart:
    """Return the laws that were fitted."""
    title = "Laws"
    if not document["fits"]:
        return empty("laws", title, "there are too few sizes to fit a law")
    rows = tuple(
        (fit["law"], name.replace("_", " "), wording.number(one["value"]),
         "" if one["low"] is None else f"{wording.number(one['low'])} to {wording.number(one['high'])}",
         wording.share(fit["error"]), fit["limit"])
        for fit in document["fits"] for name, one in fit["parameters"].items()
    )  # fmt: skip
    closest = min(document["fits"], key=lambda fit: fit["error"])
    said = f"Closest is {closest['law']}, off by {wording.share(closest['error'])} at most"
    said = "; ".join(part for part in (said, closest["limit"]) if part) + "."
    return Chart("laws", title, said, None, ("law", "parameter", "value", "95 %", "off by", "says"), rows)
