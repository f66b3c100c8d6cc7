"""Figures in the colours of a dark or a light page, with what lets the reader keep a zoom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

LIGHTER = {"#0072B2": "#2a85c7", "#009E73": "#35c79b", "#D55E00": "#f0803c"}  # on dark ground
LIGHT = {"ink": "#16191d", "line": "#d9dce1", "ground": "#ffffff", "middle": "#f3f3f3", "low": "#0b5fa5",
         "high": "#c2500a"}  # fmt: skip
DARK = {"ink": "#e8eaed", "line": "#343a43", "ground": "#14171b", "middle": "#20252c", "low": "#4ba3e3",
        "high": "#f08a3c"}  # fmt: skip


def themed(figure: go.Figure, *, dark: bool, revision: str = "") -> dict[str, Any]:
    """Return a figure as JSON values in the page's colours; arrays stay packed.

    While `revision` stays the same, a new figure in the same place keeps the reader's zoom. A trace with `meta`
    "diverging" gets a scale from blue over the ground to orange.
    """
    tint = DARK if dark else LIGHT
    made: dict[str, Any] = figure.to_dict()
    if dark:
        made = _swapped(made)
    layout = made["layout"]
    layout["font"] = {"color": tint["ink"], "size": 12, "family": "system-ui, sans-serif", **layout.get("font", {})}
    layout |= {"paper_bgcolor": tint["ground"], "plot_bgcolor": tint["ground"], "uirevision": revision}
    layout["modebar"] = {"bgcolor": "rgba(0,0,0,0)", "color": tint["ink"], "activecolor": tint["low"]}
    said = {"bgcolor": tint["ground"], "bordercolor": tint["line"], "font": {"color": tint["ink"]}}
    layout["hoverlabel"] = {**layout.get("hoverlabel", {}), **said}
    lines = {name: tint["line"] for name in ("gridcolor", "zerolinecolor", "linecolor", "tickcolor")}
    axes = {"xaxis", "yaxis"} | {name for name in layout if name.startswith(("xaxis", "yaxis"))}
    for name in axes:
        layout[name] = {**layout.get(name, {}), **lines}
    for trace in made["data"]:
        if trace.get("meta") == "diverging":
            trace["colorscale"] = [[0, tint["low"]], [0.5, tint["middle"]], [1, tint["high"]]]
    return made


def _swapped(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a figure's values with colours that are seen on dark ground; packed arrays pass untouched."""
    if isinstance(value, str):
        return LIGHTER.get(value, value)
    if isinstance(value, Mapping):
        return {name: one if name == "bdata" else _swapped(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_swapped(one) for one in value]
    return value
