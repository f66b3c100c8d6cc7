"""What every chart of the report page is made of: a figure, its verdict in words and its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

# Okabe and Ito's palette: told apart with any colour vision, on light and on dark ground.
BLUE, ORANGE, GREEN, RED, SKY, PINK, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#8a8f98"

Tables = Mapping[str, pd.DataFrame]
Found = Mapping[str, Any]
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Chart:
    """One chart: `figure` is None where there is nothing to draw; `rows` are the texts of the table beside it."""

    name: str
    title: str
    verdict: str
    figure: go.Figure | None = None
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    note: str = ""


def empty(name: str, title: str, why: str) -> Chart:
    """Return the empty state of a chart, which says what is missing."""
    return Chart(name, title, f"Nothing to draw: {why}.")


def scale(largest_s: float) -> tuple[str, float]:
    """Return the unit that suits a duration in seconds, and the factor from seconds to it.

    >>> scale(0.02)
    ('ms', 1000.0)
    """
    if largest_s >= 1:
        return "s", 1.0
    return ("ms", 1e3) if largest_s >= 1e-3 else ("us", 1e6)


def layout(figure: go.Figure, x: str, y: str, **more: Any) -> go.Figure:  # noqa: ANN401 - plotly's own keywords
    """Give a figure its axis titles and the house look; colours of text and ground follow the reader's theme."""
    had = figure.layout.to_plotly_json()
    titles = {"x": {"text": x}, "y": {"text": y, "standoff": 8}}  # else long labels reach the title
    axes = [name for name in ("xaxis", "yaxis", *had) if name[1:].startswith("axis")]
    figure.layout = {  # whole, as an update of any part costs plotly more than that
        **had, "template": "none", "margin": {"l": 70, "r": 20, "t": 40, "b": 56}, "height": 380,
        "hoverlabel": {"namelength": -1}, "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        **more, **{name: {**had.get(name, {}), "title": titles[name[0]], "automargin": True} for name in axes},
    }  # fmt: skip
    return figure


def label(text: object, longest: int = 48) -> str:
    """Return text for a figure: shortened, and escaped because plotly reads tags in labels.

    >>> label("<b>x</b>")
    '&lt;b&gt;x&lt;/b&gt;'
    """
    said = str(text)
    return escape(said if len(said) <= longest else said[: longest - 3] + "...")


def main_job(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the rows of the job with the most rows, and a note where others were left out."""
    counts = rows["job"].astype(str).value_counts()
    if len(counts) <= 1:
        return rows, ""
    name = str(counts.index[0])
    return rows[rows["job"].astype(str) == name], f"Job {name} is drawn, {len(counts) - 1} smaller are not."


def bin_edges(count: int, most: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the first place of each bin when `count` places are put into at most `most` equal bins.

    >>> bin_edges(5, 3).tolist()
    [0, 2, 4]
    """
    size = max(1, -(-count // most))
    return np.arange(0, count, size, dtype=np.int64)


def cut_rows(rows: Sequence[tuple[str, ...]], most: int = 10) -> tuple[tuple[str, ...], ...]:
    """Return the first rows of a table."""
    return tuple(rows[:most])
