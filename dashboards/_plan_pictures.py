"""A plan's pictures as plotly figures, each with a table of its main numbers: pure functions of the data."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import plotly.graph_objects as go

from skewscope.plans import Picture

from . import _heat
from ._chart import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, label, layout
from ._colours import COLD, RISING, Scale

COLOURS = (BLUE, ORANGE, GREEN, RED, SKY, PINK, GREY)
DASHES = ("solid", "dash", "dot", "dashdot")
MOST_POINTS, MOST_BARS, MOST_SPANS, MOST_ROWS = 2_000, 400, 4_000, 14
FEW_BARS = 16  # up to which each has its tick
FEW_SPANS = 250  # up to which each is labelled
MOST_HIGH, MOST_WIDE = 400, 600  # cells of one panel

Floats = np.ndarray[Any, np.dtype[np.float64]]
Rows = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Drawn:
    """One picture, drawn: `panels` are (title or "", figure); `rows` are the texts of the table beside."""

    panels: tuple[tuple[str, go.Figure], ...] = ()
    columns: tuple[str, ...] = ()
    rows: Rows = ()
    note: str = ""


def drawn(picture: Picture) -> Drawn:
    """Return a picture as figures and a table; nothing to draw gives neither.

    >>> made = drawn(Picture("bars", "Balance", "", "who", "balance (1)", {"now": (["a", "b"], [0.5, 1.0])}))
    >>> made.columns, made.rows
    (('who', 'now'), (('a', '0.5'), ('b', '1')))
    """
    kinds: dict[str, Callable[[Picture], Drawn]] = {"lines": _lines, "bars": _bars, "heatmap": _heatmap,
                                                    "gantt": _gantt}  # fmt: skip
    return kinds[picture.kind](picture) if any(len(one) for one in picture.series.values()) else Drawn()


def number(value: object) -> str:
    """Return a number with four digits, six where it would look whole, any other value as text, "-" for none.

    >>> number(1 / 3), number(1.0003), number(288), number(None), number(True), number("a")
    ('0.3333', '1.0003', '288', '-', 'yes', 'a')
    """
    if value is None or isinstance(value, bool):
        return {None: "-", True: "yes", False: "no"}[value]
    if isinstance(value, float):
        short = f"{value:.4g}"
        return (f"{value:.6g}" if short.isdigit() else short) if math.isfinite(value) else "-"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _lines(picture: Picture) -> Drawn:
    figure, longest = go.Figure(), 0
    for place, (name, (x, y)) in enumerate(picture.series.items()):
        longest = max(longest, len(x))
        thin = max(1, -(-len(x) // MOST_POINTS))
        figure.add_scatter(
            x=_axis_values(x)[::thin], y=_floats(y)[::thin], name=label(name),
            mode="lines+markers" if len(x) <= 60 else "lines", marker={"size": 5},
            line={"color": COLOURS[place % len(COLOURS)], "dash": DASHES[place // len(COLOURS) % len(DASHES)]},
        )  # fmt: skip
    figure = _titled(figure, picture)
    thin = max(1, -(-longest // MOST_POINTS))
    note = f"Every {thin}. point is drawn." if thin > 1 else ""
    return Drawn((("", figure),), *_table(picture), note)


def _bars(picture: Picture) -> Drawn:
    figure, longest = go.Figure(), 0
    for place, (name, (x, y)) in enumerate(picture.series.items()):
        longest = max(longest, len(x))
        figure.add_bar(
            x=_axis_values(x)[:MOST_BARS], y=_floats(y)[:MOST_BARS], name=label(name),
            marker={"color": COLOURS[place % len(COLOURS)]},
        )  # fmt: skip
    figure = _titled(figure, picture).update_layout(barmode="group", showlegend=len(picture.series) > 1)
    places = [one for x, _ in picture.series.values() for one in _plain(x)]
    if len(set(places)) <= FEW_BARS or any(isinstance(one, str) for one in places):
        figure.update_xaxes(type="category")
    note = f"The first {MOST_BARS} of {longest:,} are drawn." if longest > MOST_BARS else ""
    return Drawn((("", figure),), *_table(picture), note)


def _heatmap(picture: Picture) -> Drawn:
    panels = {name: np.atleast_2d(_floats(matrix)) for name, matrix in picture.series.items()}
    known = np.concatenate([matrix[np.isfinite(matrix)].ravel() for matrix in panels.values()])
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    made, rows, note = [], [], ""
    for name, matrix in panels.items():
        cells, tall, wide = _heat.pooled(matrix, MOST_HIGH, MOST_WIDE)
        if tall > 1 or wide > 1:
            note = f"One cell shows the greatest of {tall} x {wide}."
        made.append((name if len(panels) > 1 else "", _panel(picture, cells, (tall, wide), (low, high))))
        rows.append((name, *_extremes(matrix)))
    columns = ("", "least", "mean", "greatest", "where (row, column)")
    return Drawn(tuple(made), columns, tuple(rows), note)


def _panel(picture: Picture, cells: Floats, size: tuple[int, int], span: tuple[float, float]) -> go.Figure:
    said = label(picture.z) or "value"
    figure = go.Figure(
        go.Heatmap(
            z=cells.astype(np.float32), x0=(size[1] - 1) / 2, dx=size[1], y0=(size[0] - 1) / 2, dy=size[0],
            zmin=span[0], zmax=span[1], colorscale=parted(picture.middle, *span), meta="map",
            colorbar={"thickness": 12, "title": {"text": said, "side": "right"}, "tickfont": {"size": 11}},
            hovertemplate=f"{label(picture.y)} %{{y}}<br>{label(picture.x)} %{{x}}<br>{said} %{{z:.4g}}<extra></extra>",
        )
    )  # fmt: skip
    _titled(figure, picture).update_layout(margin={"t": 16})
    tall, wide = cells.shape[0] * size[0], cells.shape[1] * size[1]
    figure.update_xaxes(showgrid=False, zeroline=False, tick0=0, dtick=apart(wide))
    return figure.update_yaxes(showgrid=False, zeroline=False, autorange="reversed", tick0=0, dtick=apart(tall))


def parted(middle: float | None, low: float, high: float) -> Scale:
    """Return the scale of colours from `low` to `high`: blue below the middle, clear there, orange and red above.

    >>> [round(at, 2) for at, _ in parted(1.0, 0.0, 4.0)]
    [0.0, 0.25, 0.44, 0.7, 1.0]
    """
    if middle is None or not low < middle < high:
        return RISING
    at = (middle - low) / (high - low)
    cold = (0.0, COLD if middle - low >= (high - middle) / 2 else "rgba(0,114,178,0.6)")
    return [cold, *((at + (1 - at) * place, colour) for place, colour in RISING)]


def apart(count: int) -> int:
    """Return how far ticks at whole numbers stand apart: 1, 2 or 5 times a power of ten.

    >>> apart(4), apart(32), apart(58), apart(2048)
    (1, 5, 10, 500)
    """
    least = count / 8
    power: int = 10 ** max(0, math.floor(math.log10(max(least, 1))))
    return next(power * times for times in (1, 2, 5, 10) if power * times >= least)


def _extremes(matrix: Floats) -> tuple[str, ...]:
    if not np.isfinite(matrix).any():
        return ("-",) * 4
    row, column = np.unravel_index(int(np.nanargmax(matrix)), matrix.shape)
    least, mean, most = (float(one) for one in (np.nanmin(matrix), np.nanmean(matrix), np.nanmax(matrix)))
    return number(least), number(mean), number(most), f"{row}, {column}"


def _gantt(picture: Picture) -> Drawn:
    spans = [(str(lane), float(start), float(end), str(said)) for lane, parts in picture.series.items()
             for start, end, said in parts]  # fmt: skip
    shown, figure = spans[:MOST_SPANS], go.Figure()
    kinds = list(dict.fromkeys(_kind(said) for *_, said in shown))
    for place, kind in enumerate(kinds):
        own = [one for one in shown if _kind(one[3]) == kind]
        figure.add_bar(
            orientation="h", name=label(kind), y=[label(lane) for lane, *_ in own],
            base=[start for _, start, _, _ in own], x=[end - start for _, start, end, _ in own],
            text=[label(said) for *_, said in own] if len(spans) <= FEW_SPANS else None, textposition="inside",
            insidetextanchor="middle", textangle=0,
            marker={"color": COLOURS[place % len(COLOURS)], "line": {"width": 0.5, "color": "rgba(127,127,127,0.6)"}},
            customdata=[[label(said), end] for _, _, end, said in own],
            hovertemplate="%{y}<br>%{customdata[0]}: %{base:.4g} to %{customdata[1]:.4g}<extra></extra>",
        )  # fmt: skip
    _titled(figure, picture).update_layout(barmode="overlay", height=max(300, 110 + 26 * len(picture.series)))
    lanes = [label(lane) for lane in picture.series]
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=lanes, autorange="reversed")
    rows = tuple(_lane(lane, parts) for lane, parts in list(picture.series.items())[:MOST_ROWS])
    note = f"The first {MOST_SPANS} of {len(spans):,} spans are drawn." if len(spans) > MOST_SPANS else ""
    return Drawn((("", figure),), ("", "spans", "busy", "from", "to"), rows, note)


def _lane(lane: str, parts: Iterable[tuple[float, float, str]]) -> tuple[str, ...]:
    spans = [(float(start), float(end)) for start, end, _ in parts]
    if not spans:
        return str(lane), "0", "-", "-", "-"
    busy = sum(end - start for start, end in spans)
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    return str(lane), str(len(spans)), number(busy), number(first), number(last)


def _kind(said: str) -> str:
    """Return what spans of one colour share: the letters that their label begins with.

    >>> _kind("F12"), _kind("send 3 to 4"), _kind("7")
    ('F', 'send', '7')
    """
    found = re.match(r"[^\W\d_]+", said)
    return found[0] if found else said


def _titled(figure: go.Figure, picture: Picture) -> go.Figure:
    return layout(figure, label(picture.x, 80), label(picture.y, 80))


def _axis_values(x: Iterable[object]) -> list[object]:
    return [label(one) if isinstance(one, str) else one for one in _plain(x)]


def _plain(values: Any) -> list[Any]:  # noqa: ANN401 - any sequence or array
    return list(values.tolist() if hasattr(values, "tolist") else values)


def _floats(values: Any) -> Floats:  # noqa: ANN401 - any sequence or array
    """Return numbers as float64, NaN where a value is unknown or no number."""
    found = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(found), found, np.nan)


def _table(picture: Picture) -> tuple[tuple[str, ...], Rows]:
    """Return the columns and rows of a table of (x, y) series: each point where they are few, else each series."""
    series = {name: (_plain(x), _floats(y)) for name, (x, y) in picture.series.items()}
    places = list(dict.fromkeys(chain.from_iterable(x for x, _ in series.values())))
    if len(places) <= MOST_ROWS and len(series) <= 6:
        return (picture.x, *series), tuple((number(at), *_at(series, at)) for at in places)
    rows = [(name, *_summary(x, y)) for name, (x, y) in list(series.items())[:MOST_ROWS]]
    return ("", "first", "last", "least", "greatest", f"greatest at: {picture.x}"), tuple(rows)


def _at(series: Mapping[str, tuple[list[Any], Floats]], place: object) -> list[str]:
    return [number(float(y[x.index(place)])) if place in x else "-" for x, y in series.values()]


def _summary(x: Sequence[object], y: Floats) -> tuple[str, ...]:
    if not np.isfinite(y).any():
        return ("-",) * 5
    least, most = float(np.nanmin(y)), float(np.nanmax(y))
    return number(float(y[0])), number(float(y[-1])), number(least), number(most), number(x[int(np.nanargmax(y))])
