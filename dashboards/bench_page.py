"""The HTML page of a benchmark: a pure function of its document `skewscope.bench/1`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from skewscope import __version__
from skewscope.bench import mistakes
from skewscope.reports import wording

from . import _report_html, report_page
from ._chart import BLUE, GREEN, GREY, ORANGE, Chart, Found, empty, label, layout

COLOURS = (BLUE, ORANGE, GREEN, "#D55E00", "#56B4E9", "#CC79A7", GREY)
DASHES = ("solid", "dash", "dot", "dashdot")
ROW_PIXELS = 22
GOOD_RATIO = 0.9
MOST = 20  # wrong claims, and missed faults, that are listed


def charts(document: Mapping[str, Any]) -> list[Chart]:
    """Return all charts of a benchmark's document."""
    return [scores(document), detection(document), severities(document), confusion(document)]


def scores(document: Mapping[str, Any]) -> Chart:
    """Return recall and precision of each condition, with their intervals of 95 %."""
    title, rows = "Recall and precision", [row for row in document["conditions"] if _known(row)]
    if not rows:
        return empty("scores", title, "no fault was simulated and nothing was claimed")
    figure = go.Figure()
    for name, colour, symbol in (("recall", BLUE, "circle-open"), ("precision", ORANGE, "diamond")):
        some = [row for row in rows if row[name] is not None]
        ends = [row[f"{name}_95"] for row in some]
        error = {
            "type": "data", "symmetric": False, "thickness": 1.2, "color": colour,
            "array": [max(0.0, high - row[name]) for row, (_, high) in zip(some, ends, strict=True)],
            "arrayminus": [max(0.0, row[name] - low) for row, (low, _) in zip(some, ends, strict=True)],
        }  # fmt: skip
        figure.add_scatter(
            x=[row[name] for row in some], y=[label(row["condition"]) for row in some], name=name, mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 15 if symbol == "circle-open" else 8}, error_x=error,
            hovertemplate="%{y}<br>" + name + " %{x:.2f}<extra></extra>",
        )  # fmt: skip
    _tall(layout(figure, "share (1)", "condition"), len(rows)).update_xaxes(range=[-0.03, 1.03])
    table = tuple(
        (row["condition"], str(row["faults"]), wording.share(row["recall"]), wording.share(row["precision"]),
         str(row["wrong"]), str(row["symptoms"]), wording.share(row["root_cause"]), _median(row["price_error"]))
        for row in [*rows, document["overall"]]
    )  # fmt: skip
    columns = ("condition", "faults", "recall", "precision", "wrong", "symptoms", "root cause", "price error")
    note = "Intervals hold 95 %. Symptoms of a true fault count neither as right nor as wrong."
    return Chart("scores", title, _verdict(document["overall"], rows), figure, columns, table, note)


def _known(row: Found) -> bool:
    return row["recall"] is not None or row["precision"] is not None


def _verdict(overall: Found, rows: Sequence[Found]) -> str:
    weak = [row["condition"] for row in rows if row["recall"] is not None and row["recall"] < GOOD_RATIO]
    precise = wording.share(overall["precision"])
    said = f"{overall['found']} of {overall['faults']} faults were found and {precise} of claims are right"
    return (
        f"{said}; {len(weak)} of {len(rows)} conditions lie below {wording.share(GOOD_RATIO)} recall."
        if weak
        else f"{said}."
    )


def _median(spread: Found) -> str:
    return wording.share(spread["median"])


def detection(document: Mapping[str, Any]) -> Chart:
    """Return the time from onset to claim of each condition: median and 90 % point."""
    title = "Time to detect"
    rows = [row for row in document["conditions"] if row["detect_s"]["count"]]
    if not rows:
        return empty("detection", title, "no fault was found")
    rows.sort(key=lambda row: row["detect_s"]["median"])
    figure = go.Figure()
    for name, colour, symbol in (("median", BLUE, "circle"), ("p90", GREY, "line-ns-open")):
        figure.add_scatter(
            x=[row["detect_s"][name] for row in rows], y=[label(row["condition"]) for row in rows], name=name,
            mode="markers", marker={"color": colour, "symbol": symbol, "size": 10},
            hovertemplate="%{y}<br>" + name + " %{x:.0f} s<extra></extra>",
        )  # fmt: skip
    _tall(layout(figure, "time from onset (s)", "condition"), len(rows)).update_xaxes(rangemode="tozero")
    table = tuple(
        (row["condition"], wording.seconds(row["detect_s"]["median"]), wording.seconds(row["detect_s"]["p90"]),
         wording.number(row["detect_steps"]["median"]))
        for row in rows
    )  # fmt: skip
    slow, usual = rows[-1], wording.seconds(document["overall"]["detect_s"]["median"])
    verdict = (
        f"Half of the faults of {slow['condition']} take {wording.seconds(slow['detect_s']['median'])} or more; over "
        f"all conditions the median is {usual}."
    )
    note = "The rooms saw growing prefixes of the windows, never what came later."
    return Chart("detection", title, verdict, figure, ("condition", "median", "p90", "steps"), table, note)


def severities(document: Mapping[str, Any]) -> Chart:
    """Return recall over severity, one line a condition and scenario."""
    title, sweeps = "How small a fault may be", document["sweeps"]
    if not sweeps:
        return empty("severities", title, "no severities were tried; `skewscope bench detect --sweep` does")
    figure = go.Figure()
    for place, sweep in enumerate(sweeps):
        colour, dash = COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]
        figure.add_scatter(
            x=[point["severity"] for point in sweep["points"]], y=[point["recall"] for point in sweep["points"]],
            name=label(sweep["scenario"]), mode="lines+markers", line={"color": colour, "dash": dash},
        )  # fmt: skip
    layout(figure, "severity of the fault (1)", "recall (1)").update_yaxes(range=[-0.03, 1.03])
    figure.update_xaxes(type="log")
    figure.update_layout(height=520)
    table = tuple((sweep["condition"], sweep["scenario"], wording.number(sweep["smallest_found"])) for sweep in sweeps)
    steady = sum(sweep["smallest_found"] is not None for sweep in sweeps)
    verdict = (
        f"{steady} of {len(sweeps)} faults are found in {wording.share(GOOD_RATIO)} of runs from some severity on."
    )
    return Chart("severities", title, verdict, figure, ("condition", "scenario", "found from"), table)


def confusion(document: Mapping[str, Any]) -> Chart:
    """Return what was blamed first for each true condition."""
    title, matrix = "What is blamed for what", document["confusion"]
    counts = matrix["counts"]
    if not any(map(sum, counts)):
        return empty("confusion", title, "there was nothing to blame and nobody was blamed")
    rows, columns = [label(row) for row in matrix["rows"]], [label(column) for column in matrix["columns"]]
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    figure = go.Figure(
        go.Heatmap(
            z=shares, x=columns, y=rows, zmin=0, zmax=1, customdata=counts,
            colorscale=[[0, "rgba(0,114,178,0.04)"], [1, BLUE]],
            colorbar={"title": {"text": "share (1)"}, "thickness": 14},
            hovertemplate="true %{y}<br>blamed %{x}<br>%{customdata} times, %{z:.2f}<extra></extra>",
        )
    )  # fmt: skip
    _tall(layout(figure, "blamed first", "true condition"), len(rows)).update_xaxes(tickangle=-60)
    wrong = [
        (count, row, column)
        for row, line in zip(matrix["rows"], counts, strict=True)
        for column, count in zip(matrix["columns"], line, strict=True)
        if count and row != column
    ]
    wrong.sort(key=lambda one: (-one[0], one[1], one[2]))
    table = tuple((row, column, str(count)) for count, row, column in wrong[:12]) or (("none", "-", "0"),)
    verdict = (
        f"The most frequent confusion: {wrong[0][1]} is taken for {wrong[0][2]} ({wrong[0][0]} times)."
        if wrong
        else "Every fault was blamed on its own condition first."
    )
    return Chart("confusion", title, verdict, figure, ("true", "blamed first", "times"), table)


def _tall(figure: go.Figure, rows: int) -> go.Figure:
    figure.update_yaxes(autorange="reversed", type="category")
    return figure.update_layout(height=max(380, 120 + ROW_PIXELS * rows))


def page(document: Mapping[str, Any]) -> str:
    """Return the whole HTML page of a `skewscope.bench/1` document; it loads nothing from anywhere."""
    from plotly.offline import get_plotlyjs

    drawn = charts(document)
    data = {chart.name: json.loads(chart.figure.to_json()) for chart in drawn if chart.figure is not None}
    scripts = (
        f'<script type="application/json" id="charts">{report_page._inline(data)}</script>\n'
        f"<script>{get_plotlyjs()}</script>\n<script>\n{report_page._asset('report.js')}</script>\n"
        if data
        else ""
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{report_page.POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>skewscope benchmark</title>\n'
        f"<style>\n{report_page._asset('report.css')}</style>\n</head>\n<body>\n{_body(document, drawn)}{scripts}"
        "</body>\n</html>\n"
    )


def _body(document: Mapping[str, Any], drawn: Sequence[Chart]) -> str:
    seeds, text = document["seeds"], _report_html.text
    sound = document["healthy"]
    said = f"{document['cases']} cases on {seeds['count']} {seeds['set']} seeds from {seeds['first']}"
    alarms = (
        f"{sound['false_alarms']} false alarms in {sound['node_days']:.2f} node-days of healthy fleets: "
        f"{wording.number(sound['per_1000_node_days'])} per 1,000 node-days, at most "
        f"{wording.number(sound['at_most'])} (95 %)"
        if sound["cases"]
        else "No healthy fleet was watched."
    )
    failed = [f"{one['scenario']}, seed {one['seed']}: {one['error']}" for one in document["failures"]]
    remarks = [
        *mistakes.wrong(document)[:MOST],
        *mistakes.missed(document)[:MOST],
        *(f"No room finds {name}" for name in document["without_room"]),
        *failed,
    ]
    items = "".join(f"<li>{text(line)}</li>" for line in [alarms, *remarks])
    made = "".join(_report_html._chart(chart) for chart in drawn)
    return (
        f'<header><p class="brand">skewscope benchmark</p><h1>{text(drawn[0].verdict)}</h1>'
        f"<p>{text(said)}</p></header>\n"
        f"<main>\n<ul>{items}</ul>\n{made}</main>\n"
        f"<footer>skewscope {__version__}, {text(document['schema'])}</footer>\n"
    )
