"""The pictures of a view as plotly figures: pure functions of a picture's plan and the table it is of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from skewscope.contracts import Picture, Shown
from skewscope.reports import view_document

from . import _heat
from ._chart import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, Chart, label, layout, scale
from ._colours import RISING

COLOURS = (BLUE, ORANGE, GREEN, SKY, PINK, RED, GREY)
PATTERNS = ("", "/", ".", "x", "|", "+", "-")
MOST_BARS, MOST_POINTS, MOST_LINES, MOST_SPANS, MOST_ROWS = 200, 4_000, 12, 4_000, 12
MOST_HIGH, MOST_WIDE = 400, 600  # cells of a heat map
LONGEST = 80  # letters of a cell of the table
MOST_LYING = 32  # bars that lie
LONG_NAME = 12  # letters from which on bars lie and their names stand beside them
BEGIN, LENGTH = "begin of a span", "length of a span"  # columns that no table has
SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))

Values = np.ndarray[Any, np.dtype[np.float64]]


def charts(view: str, question: str, shown: Shown) -> list[Chart]:
    """Return the charts of one view's answer: the first one says it in words and has the main table beside.

    >>> made = charts("x", "What?", Shown({"ranks": pd.DataFrame({"rank": [0, 1], "idle_s": [0.5, 1.0]})}, ("Much.",)))
    >>> made[0].verdict, made[0].columns, made[0].rows
    ('Much.', ('rank', 'idle'), (('0', '500 ms'), ('1', '1 s')))
    """
    pictures = [(one, drawn(one, shown.tables[one.of])) for one in shown.pictures]
    found = [(one, *made) for one, made in pictures if made[0] is not None]
    main = next(iter(shown.tables.values()))
    rows = view_document.texts(main, MOST_ROWS, LONGEST)
    more = [f"The first {MOST_ROWS} of {len(main):,} rows."] if len(main) > MOST_ROWS else []
    figure, note = (found[0][1], found[0][2]) if found else (None, "")
    said = " ".join(shown.said)
    first = Chart(f"view-{view}", f"{view}: {question}", said, figure, tuple(map(view_document.heading, main.columns)),
                  rows, " ".join(filter(None, [note, *more, *shown.notes])))  # fmt: skip
    others = [
        Chart(f"view-{view}-{place}", picture.title, "", made, note=remark)
        for place, (picture, made, remark) in enumerate(found[1:], 1)
    ]
    return [first, *others]


def answered(answers: Iterable[Any], *, missing: bool = True) -> list[Chart]:
    """Return the charts of all answers; without `missing` those of views that lack data are left out."""
    found: list[Chart] = []
    for one in answers:
        if one.shown is not None:
            found += charts(one.view, one.question, one.shown)
        elif missing:
            found.append(Chart(f"view-{one.view}", f"{one.view}: {one.question}", f"No answer: {one.missing}"))
    return found


def drawn(picture: Picture, rows: pd.DataFrame) -> tuple[go.Figure | None, str]:
    """Return a picture as a figure and what it leaves out, "" for nothing; without rows there is no figure."""
    if not len(rows):
        return None, ""
    kinds: dict[str, Callable[[Picture, pd.DataFrame], tuple[go.Figure | None, str]]] = {
        "bars": _bars, "stacked": _stacked, "lines": _lines, "steps": _lines, "heatmap": _heatmap, "spans": _spans,
        "points": _points,
    }  # fmt: skip
    return kinds[picture.kind](picture, rows)


def _scaled(column: str, values: Values) -> tuple[Values, str]:
    """Return values in a unit that suits them, and the axis title with it."""
    known = np.abs(values[np.isfinite(values)])
    largest = float(known.max()) if len(known) else 0.0
    unit, name = view_document.unit(column), view_document.heading(column)
    if unit in ("_s", "_ns", "_us", "_ms"):
        factor = {"_s": 1.0, "_ms": 1e-3, "_us": 1e-6, "_ns": 1e-9}[unit]
        word, times = scale(largest * factor)
        return values * factor * times, f"{name} ({word})"
    if unit.startswith("_bytes"):
        size, word = next(((size, word) for size, word in SIZES if largest >= size), (1.0, "B"))
        plain = name.removesuffix("/s")
        return values / size, f"{plain} ({word}{'/s' if unit.endswith('_per_s') else ''})"
    return values, name if unit != "_ratio" else f"{name} (ratio)"


def _numbers(rows: pd.DataFrame, column: str) -> Values:
    return np.asarray(pd.to_numeric(rows[column], errors="coerce"), dtype=np.float64)


def _axis(rows: pd.DataFrame, column: str) -> tuple[list[Any], str]:
    """Return the places along an axis and its title: scaled numbers with a unit, names and ordinals as they are."""
    if pd.api.types.is_numeric_dtype(rows[column]) and view_document.unit(column):
        values, title = _scaled(column, _numbers(rows, column))
        return values.tolist(), title
    whole = pd.api.types.is_numeric_dtype(rows[column])
    places = [one if whole else label(one) for one in rows[column].tolist()]
    return places, view_document.heading(column)


def _parts(rows: pd.DataFrame, column: str, most: int = MOST_LINES) -> tuple[list[tuple[str, pd.DataFrame]], str]:
    """Return (name, rows) of each value of a column, in order of appearance, and what was left out."""
    if not column:
        return [("", rows)], ""
    values = list(dict.fromkeys(rows[column].tolist()))
    found = [
        (f"{column} {one}" if not isinstance(one, str) else one, rows[rows[column] == one]) for one in values[:most]
    ]
    return found, f"The first {most} of {len(values)} are drawn." if len(values) > most else ""


def _few(rows: pd.DataFrame, most: int) -> tuple[pd.DataFrame, str]:
    return (rows.head(most), f"The first {most} of {len(rows):,} are drawn.") if len(rows) > most else (rows, "")


def _bars(picture: Picture, rows: pd.DataFrame) -> tuple[go.Figure, str]:
    lying = _are_long(rows[picture.x])
    rows, note = _few(rows, MOST_LYING if lying else MOST_BARS)
    figure, title = go.Figure(), ""
    _, title = _scaled(picture.y, _numbers(rows, picture.y))
    factor = _factor(picture.y, rows)
    parts, left_out = _parts(rows, picture.colour)
    for place, (name, part) in enumerate(parts):
        x, _ = _axis(part, picture.x)
        y = (_numbers(part, picture.y) * factor).tolist()
        figure.add_bar(x=y if lying else x, y=x if lying else y, name=label(name) or label(title),
                       orientation="h" if lying else "v", marker={"color": COLOURS[place % len(COLOURS)]})  # fmt: skip
    what = view_document.heading(picture.x)
    layout(figure, *((title, what) if lying else (what, title)), barmode="relative" if lying else "group",
           showlegend=len(parts) > 1)  # fmt: skip
    if lying:
        return _lying(figure, rows[picture.x].nunique()), note or left_out
    return _categories(figure, rows, picture.x), note or left_out


def _are_long(names: pd.Series) -> bool:
    """Return whether names are too long to stand below bars."""
    return not pd.api.types.is_numeric_dtype(names) and int(names.astype(str).str.len().max()) > LONG_NAME


def _lying(figure: go.Figure, bars: int) -> go.Figure:
    """Return a figure of bars that lie, the first on top, high enough for all their names."""
    figure.update_layout(height=max(380, 110 + 22 * bars))
    return figure.update_yaxes(type="category", autorange="reversed")


def _stacked(picture: Picture, rows: pd.DataFrame) -> tuple[go.Figure, str]:
    rows, note = _few(rows, MOST_BARS)
    total = rows[list(picture.parts)].sum(axis=1).to_frame(picture.parts[0])
    factor, figure = _factor(picture.parts[0], total), go.Figure()
    _, title = _scaled(picture.parts[0], _numbers(total, picture.parts[0]))
    x, x_title = _axis(rows, picture.x)
    for place, part in enumerate(picture.parts):
        figure.add_bar(
            x=x, y=(_numbers(rows, part) * factor).tolist(), name=label(view_document.heading(part)),
            marker={"color": COLOURS[place % len(COLOURS)],
                    "pattern": {"shape": PATTERNS[place % len(PATTERNS)], "fillmode": "overlay", "solidity": 0.2}},
        )  # fmt: skip
    unit = title.rpartition("(")[2].rstrip(")") if "(" in title else "%" if title.endswith("%") else "count"
    layout(figure, x_title, unit, barmode="stack", bargap=0.15)
    return _categories(figure, rows, picture.x), note


def _factor(column: str, rows: pd.DataFrame) -> float:
    values = _numbers(rows, column)
    scaled, _ = _scaled(column, values)
    known = np.isfinite(values) & (values != 0)
    return float(scaled[known][0] / values[known][0]) if known.any() else 1.0


def _categories(figure: go.Figure, rows: pd.DataFrame, column: str) -> go.Figure:
    named = not view_document.unit(column) and (len(rows) <= 64 or not pd.api.types.is_numeric_dtype(rows[column]))
    return figure.update_xaxes(type="category") if named else figure


def _lines(picture: Picture, rows: pd.DataFrame) -> tuple[go.Figure, str]:
    columns = picture.parts or (picture.y,)
    parts, note = _parts(rows, picture.colour)
    figure = go.Figure()
    factor, (_, title) = _factor(columns[0], rows), _scaled(columns[0], _numbers(rows, columns[0]))
    along, x_title = _factor(picture.x, rows), _axis(rows, picture.x)[1]
    shape = "hv" if picture.kind == "steps" else "linear"
    drawn_lines = [(name, part, column) for name, part in parts for column in columns]
    for place, (name, part, column) in enumerate(drawn_lines):
        thin = max(1, -(-len(part) // MOST_POINTS))
        part = part.iloc[::thin]
        said = " ".join(filter(None, [name, view_document.heading(column) if len(columns) > 1 else ""]))
        x = _numbers(part, picture.x) * along if view_document.unit(picture.x) else part[picture.x].to_numpy()
        figure.add_scatter(
            x=x.tolist(), y=(_numbers(part, column) * factor).tolist(), name=label(said) or label(title),
            mode="lines+markers" if len(part) <= 60 else "lines", marker={"size": 5},
            line={"color": COLOURS[place % len(COLOURS)], "shape": shape},
        )  # fmt: skip
    return layout(figure, x_title, title, showlegend=len(drawn_lines) > 1), note


def _points(picture: Picture, rows: pd.DataFrame) -> tuple[go.Figure, str]:
    rows, note = _few(rows, MOST_POINTS)
    figure = go.Figure()
    along, up = _factor(picture.x, rows), _factor(picture.y, rows)
    parts, left_out = _parts(rows, picture.colour)
    for place, (name, part) in enumerate(parts):
        named = not pd.api.types.is_numeric_dtype(part[picture.x])
        x = _axis(part, picture.x)[0] if named else (_numbers(part, picture.x) * along).tolist()
        figure.add_scatter(x=x, y=(_numbers(part, picture.y) * up).tolist(), mode="markers", name=label(name),
                           marker={"size": 6, "color": COLOURS[place % len(COLOURS)]})  # fmt: skip
    titles = _axis(rows, picture.x)[1], _axis(rows, picture.y)[1]
    return layout(figure, *titles, showlegend=len(parts) > 1), note or left_out


def _heatmap(picture: Picture, rows: pd.DataFrame) -> tuple[go.Figure, str]:
    table = rows.pivot_table(index=picture.y, columns=picture.x, values=picture.colour, aggfunc="sum", observed=True,
                             min_count=1)  # fmt: skip
    values, title = _scaled(picture.colour, table.to_numpy(dtype=np.float64))
    cells, tall, wide = _heat.pooled(values, MOST_HIGH, MOST_WIDE)
    note = f"One cell shows the greatest of {tall} x {wide}." if tall > 1 or wide > 1 else ""
    x, y = ([label(one) for one in list(axis)[::step]] for axis, step in ((table.columns, wide), (table.index, tall)))
    figure = go.Figure(
        go.Heatmap(z=cells.astype(np.float32), x=x, y=y, colorscale=RISING,
                   colorbar={"thickness": 12, "title": {"text": label(title), "side": "right"}})
    )  # fmt: skip
    layout(figure, view_document.heading(picture.x), view_document.heading(picture.y))
    return figure.update_xaxes(type="category").update_yaxes(type="category", autorange="reversed"), note


def end_column(picture: Picture, columns: Sequence[str]) -> str:
    """Return the column with the ends of spans: the first of `parts`, else the start's name with "end" in it, else "".

    >>> end_column(Picture("spans", "spans", "", "start_s", "rank"), ["start_s", "end_s"])
    'end_s'
    """
    if picture.parts:
        return picture.parts[0]
    named = picture.x.replace("start", "end").replace("begin", "end")
    return named if named in columns and named != picture.x else ""


def _spans(picture: Picture, rows: pd.DataFrame) -> tuple[go.Figure | None, str]:
    """Return spans in lanes; where `y` is a time it is their length, and the lanes are those of `colour`."""
    rows, note = _few(rows, MOST_SPANS)
    start = _numbers(rows, picture.x)
    timed = view_document.unit(picture.y) in ("_s", "_ms", "_us", "_ns")
    until = picture.x if timed else end_column(picture, list(map(str, rows.columns)))
    if not until:
        return None, ""
    end = start + _numbers(rows, picture.y) if timed else _numbers(rows, until)
    lane = picture.colour if timed else picture.y
    spans = rows.assign(**{until: end})
    factor, (_, title) = _factor(until, spans), _scaled(until, _numbers(spans, until))
    figure = go.Figure()
    parts, left_out = _parts(rows.assign(**{BEGIN: start * factor, LENGTH: (end - start) * factor}), picture.colour)
    for place, (name, part) in enumerate(parts):
        figure.add_bar(
            orientation="h", name=label(name), y=[label(one) for one in part[lane].tolist()],
            base=part[BEGIN].tolist(), x=part[LENGTH].tolist(),
            marker={"color": COLOURS[place % len(COLOURS)], "line": {"width": 0.3}},
        )  # fmt: skip
    lanes = [label(one) for one in dict.fromkeys(rows[lane].tolist())]
    unit = title.rpartition("(")[2].rstrip(")")
    layout(figure, f"time ({unit})", view_document.heading(lane), barmode="overlay")
    figure.update_layout(height=min(1200, max(300, 110 + 24 * len(lanes))))
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=lanes, autorange="reversed")
    return figure, note or left_out
