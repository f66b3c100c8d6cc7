"""Lines over time: one a device or rank, the worst ones in colour and the others in grey."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from ._chart import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, label, layout

Array = np.ndarray[Any, Any]
COLOURS = (BLUE, RED, GREEN, ORANGE, PINK, SKY)
DASHES = ("solid", "dash", "dot", "dashdot")
MOST_LINES, MOST_GREY, MOST_POINTS = 8, 24, 600


def times(t_ns: Array) -> Array:
    """Return times that plotly draws as UTC.

    >>> str(times(np.array([0]))[0])
    '1970-01-01T00:00:00.000'
    """
    return t_ns.astype("datetime64[ns]").astype("datetime64[ms]")


def lines(t_ns: Array, values: Array, names: Sequence[str], y_title: str, first: Sequence[int] = ()) -> go.Figure:
    """Return the lines of `values` [times, series]; `first` are the series to be in colour, else the first ones."""
    figure = go.Figure()
    thin = max(1, -(-len(t_ns) // MOST_POINTS))
    x = times(t_ns[::thin])
    chosen = [*first, *(at for at in range(len(names)) if at not in set(first))]
    bright, grey = chosen[:MOST_LINES], chosen[MOST_LINES : MOST_LINES + MOST_GREY]
    for at in grey:
        figure.add_scatter(
            x=x, y=values[::thin, at].astype(np.float32), mode="lines", name=label(names[at]), showlegend=False,
            line={"color": GREY, "width": 1}, opacity=0.4,
        )  # fmt: skip
    for place, at in reversed(list(enumerate(bright))):
        figure.add_scatter(
            x=x, y=values[::thin, at].astype(np.float32), mode="lines", name=label(names[at]),
            line={"color": COLOURS[place % len(COLOURS)], "dash": DASHES[place // len(COLOURS)], "width": 2},
        )  # fmt: skip
    return layout(figure, "time (UTC)", y_title).update_layout(legend={"traceorder": "reversed"})


def left_out(count: int) -> str:
    """Return what is not drawn.

    >>> left_out(100)
    'The 8 worst of 100 are in colour, 24 others in grey, 68 are not drawn.'
    """
    if count <= MOST_LINES:
        return ""
    hidden = max(0, count - MOST_LINES - MOST_GREY)
    rest = f", {hidden} are not drawn" if hidden else ""
    return (
        f"The {MOST_LINES} worst of {count} are in colour, {min(count - MOST_LINES, MOST_GREY)} others in grey{rest}."
    )
