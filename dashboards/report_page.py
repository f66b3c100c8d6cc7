"""The report as one self-contained HTML file: verdict, findings, what to do, and charts with words and tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

import plotly.graph_objects as go

from ._chart import Chart, Found, Tables
from ._charts_arrivals import arrivals
from ._charts_heatmap import heatmap
from ._charts_moe import moe
from ._charts_split import split
from ._charts_time import step_line, waterfall
from ._report_html import body, plain_body

# No request can leave the page, whatever a recording's names hold.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "form-action 'none'; base-uri 'none'"
)


def charts(tables: Tables, findings: Sequence[Found] = ()) -> list[Chart]:
    """Return all charts of canonical and derived tables; `findings` are those of a report document."""
    return [
        waterfall(tables, findings), *moe(tables), heatmap(tables), arrivals(tables), split(tables),
        step_line(tables, findings),
    ]  # fmt: skip


def figures(tables: Tables) -> dict[str, go.Figure]:
    """Return the figures that the tables can fill, by name."""
    return {chart.name: chart.figure for chart in charts(tables) if chart.figure is not None}


def page(document: dict[str, Any], tables: Tables, views: Sequence[Any] = ()) -> str:
    """Return the whole HTML page of a `skewscope.report/1` document and the tables behind it.

    `views` are answers (`skewscope.viewing.Answer`) that follow the charts; those without one are left out.
    The page loads nothing from anywhere: plotly.js stands in it once. Without JavaScript all words and tables stay.
    """
    from ._view_pictures import answered

    drawn, more = charts(tables, document["findings"]), answered(views, missing=False)
    return _whole("skewscope report", body(document, drawn, more), [*drawn, *more])


def standing(title: str, said: str, drawn: Sequence[Chart]) -> str:
    """Return a page of any charts in the same manner: `said` stands below the title, both are foreign text."""
    return _whole(title, plain_body(title, said, drawn), drawn)


def _whole(title: str, inner: str, drawn: Sequence[Chart]) -> str:
    from plotly.offline import get_plotlyjs

    data = {chart.name: json.loads(chart.figure.to_json()) for chart in drawn if chart.figure is not None}
    style, script = _asset("report.css"), _asset("report.js")
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
    )
    scripts = (
        f'<script type="application/json" id="charts">{_inline(data)}</script>\n'
        f"<script>{get_plotlyjs()}</script>\n<script>\n{script}</script>\n"
        if data
        else ""
    )
    return f"{head}{inner}{scripts}</body>\n</html>\n"


def _asset(name: str) -> str:
    return (files(__package__) / "assets" / name).read_text("utf-8")


def _inline(data: dict[str, Any]) -> str:
    """Return JSON that cannot end or open a tag."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
