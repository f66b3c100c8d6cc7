"""Large matrices as heatmaps: the worst value of each bin, one byte a cell, positions as coordinates.

A screen shows a few hundred rows. What is sent is pooled to that with the maximum, since a mean hides the one slow
rank, and coded in one byte: 10,000 x 1,000 cells become 500 x 1,000 bytes. Axes count places in the full order, so
that the range in view says what to pool anew, whatever was drawn before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from skewscope.reports import wording

from ._chart import ORANGE, label, layout
from ._colours import scale as colours
from ._colours import with_unseen

Floats = np.ndarray[Any, Any]

MOST_ROWS, MOST_COLUMNS = 500, 1000
EXACT = 40_000  # cells up to which plain numbers are sent
SCALES = {
    "s": (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)), "Hz": (("GHz", 1e9), ("MHz", 1e6)), "C": (("C", 1.0),),
}  # fmt: skip
FULL = 127  # levels on each side of 0
TICKS = 12


@dataclass(frozen=True, eq=False)
class Matrix:
    """Values to draw, float32 [rows, columns] with NaN for unknown; larger is worse.

    `unit` is "s" (seconds), "share" (0..1, shown in percent), "C" (degrees) or "Hz". `diverging` values lie around
    0; where a `single` cell matters the greatest one ends the colours.
    """

    values: Floats
    rows: Sequence[str]
    columns: Sequence[str]
    x_title: str
    y_title: str
    unit: str = "s"
    diverging: bool = False
    single: bool = False


@dataclass(frozen=True)
class Range:
    """Rows `top` to `bottom` and columns `left` to `right`, places in the full order, the ends left out."""

    top: int
    bottom: int
    left: int
    right: int


def whole(matrix: Matrix) -> Range:
    """Return the range of all cells."""
    return Range(0, matrix.values.shape[0], 0, matrix.values.shape[1])


def seen(matrix: Matrix, x0: float, x1: float, y0: float, y1: float) -> Range:
    """Return the range of cells that axes from x0 to x1 and y0 to y1 show; never empty, any order, any number.

    >>> few = Matrix(np.zeros((10, 20), "f4"), [""] * 10, [""] * 20, "x", "y")
    >>> seen(few, 2.6, 5.4, 7.0, 3.0)
    Range(top=3, bottom=8, left=3, right=6)
    """
    rows, columns = matrix.values.shape
    top, bottom = _ends(y0, y1, rows)
    left, right = _ends(x0, x1, columns)
    return Range(top, bottom, left, right)


def _ends(first: float, second: float, count: int) -> tuple[int, int]:
    if not (math.isfinite(first) and math.isfinite(second)):
        return 0, count
    low, high = sorted((first, second))
    begin = min(max(math.floor(low + 0.5), 0), max(count - 1, 0))
    return begin, max(begin + 1, min(math.floor(high + 0.5) + 1, count))


def pooled(values: Floats, most_rows: int = MOST_ROWS, most_columns: int = MOST_COLUMNS) -> tuple[Floats, int, int]:
    """Return the greatest known value of each bin, and how many rows and columns a bin has.

    >>> pooled(np.array([[1.0, 2.0], [5.0, np.nan], [0.0, 1.0]]), 2, 1)
    (array([[5.],
           [1.]]), 2, 2)
    """
    high, wide = (
        max(1, -(-count // most)) for count, most in zip(values.shape, (most_rows, most_columns), strict=True)
    )
    if high > 1:
        values = np.fmax.reduceat(values, np.arange(0, values.shape[0], high), axis=0)
    if wide > 1:
        values = np.fmax.reduceat(values, np.arange(0, values.shape[1], wide), axis=1)
    return values, high, wide


def limit(drawn: Floats, *, single: bool = False) -> float:
    """Return where the colours end: a row high in a tenth of its columns sets it, a single wild cell does not."""
    size = np.abs(np.nan_to_num(drawn, nan=0.0, posinf=0.0, neginf=0.0))
    if not size.size:
        return 1.0
    if single:
        return float(size.max()) or 1.0
    rows = np.quantile(size, 0.9, axis=1, method="lower")
    found = float(max(np.quantile(size, 0.995), rows.max()))
    return found or float(size.max()) or 1.0


def coded(values: Floats, end: float, *, diverging: bool) -> tuple[Floats, float, int, bool]:
    """Return one byte a cell, what one level is worth (a power of ten), the code of `end`, whether any is unknown.

    The code of an unknown cell is one beyond: below the lowest where values lie around 0, else above the highest.
    Values beyond `end` are cut.

    >>> coded(np.array([[0.05, -0.02, np.nan]]), 0.1, diverging=True)
    (array([[  50,  -20, -101]], dtype=int8), 0.001, 100, True)
    """
    levels = FULL if diverging else 2 * FULL
    level = 10.0 ** math.ceil(math.log10(end / levels) - 1e-9)
    top = min(levels, max(1, math.ceil(end / level - 1e-9)))
    unknown = ~np.isfinite(values)
    near = np.clip(np.rint(np.where(unknown, 0.0, values) / level), -top if diverging else 0, top)
    codes = near.astype(np.int8 if diverging else np.uint8)
    codes[unknown] = -top - 1 if diverging else top + 1
    return codes, level, top, bool(unknown.any())


def figure(matrix: Matrix, view: Range | None = None, marks: Sequence[tuple[int, str]] = ()) -> go.Figure:
    """Return the map of a range; `marks` are (row, text) of rows that are pointed at, though they be a pixel high."""
    at = view or whole(matrix)
    cut = matrix.values[at.top : at.bottom, at.left : at.right]
    drawn, high, wide = pooled(cut)
    trace, note = _trace(drawn, matrix)
    rows = _names(matrix.rows, at.top, at.bottom, high)
    columns = _names(matrix.columns, at.left, at.right, wide)
    trace.update(x0=at.left + (wide - 1) / 2, dx=wide, y0=at.top + (high - 1) / 2, dy=high)
    trace.hovertemplate = f"%{{y}}<br>{matrix.x_title} %{{x}}<br>{note}<extra></extra>"
    made = layout(go.Figure(trace), matrix.x_title, matrix.y_title)
    made.update_xaxes(
        showgrid=False, zeroline=False, range=[at.left - 0.5, at.right - 0.5], **_axis(columns, at.left, wide)
    )
    made.update_yaxes(
        showgrid=False, zeroline=False, range=[at.bottom - 0.5, at.top - 0.5], **_axis(rows, at.top, high)
    )
    made.update_layout(height=380 if len(matrix.rows) <= 64 else 560)
    every = whole(matrix)
    told: dict[str, Any] = {"whole": [every.left - 0.5, every.right - 0.5, every.bottom - 0.5, every.top - 0.5]}
    if "%{z}" in note:  # levels: what is told of level 0, and what it means
        told |= {"zero": note.replace("%{z}", "0"), "below": "< " + note.replace("%{z}", "1")}
    made.update_layout(meta=told)
    for row, text in marks:
        if at.top <= row < at.bottom:
            _point_at(made, row, text)
    return made


def _trace(drawn: Floats, matrix: Matrix) -> tuple[go.Heatmap, str]:
    """Return the trace, and what one reads at a cell."""
    end = limit(drawn, single=matrix.single)
    bar = {"thickness": 14, "tickfont": {"size": 11}}
    if drawn.size <= EXACT:
        unit, factor = _unit(end, matrix.unit)
        low = -end if matrix.diverging else 0.0
        trace = go.Heatmap(
            z=(drawn * factor).astype(np.float32), zmin=low * factor, zmax=end * factor, meta="map",
            colorscale=colours(matrix.diverging), colorbar={**bar, "title": {"text": unit}},
        )  # fmt: skip
        return trace, f"%{{z:.3g}} {unit}"
    codes, level, top, gaps = coded(drawn, end, diverging=matrix.diverging)
    painted = colours(matrix.diverging)
    low, high = (-top if matrix.diverging else 0), top
    if gaps:
        painted = with_unseen(painted, high - low + 2, low=matrix.diverging)
        low, high = (low - 1, high) if matrix.diverging else (low, high + 1)
    apart = max(1, top // 3)
    ticks = list(range(-3 * apart if matrix.diverging else 0, top + 1, apart))
    trace = go.Heatmap(
        z=codes, zmin=low, zmax=high, colorscale=painted, meta="map",
        colorbar={**bar, "tickvals": ticks, "ticktext": [said(at * level, matrix.unit) for at in ticks]},
    )  # fmt: skip
    return trace, _read(level, matrix.unit)


def said(value: float, unit: str) -> str:
    """Return a value of a matrix in words.

    >>> said(0.25, "share"), said(0.25, "s"), said(8.04, "C"), said(3e8, "Hz")
    ('25 %', '250 ms', '8.04 C', '300 MHz')
    """
    if unit == "share":
        return wording.share(value)
    if unit == "s" or not math.isfinite(value):
        return wording.seconds(value)
    name, worth = _unit(abs(value), unit)
    return f"{value * worth:.3g} {name}"


def _unit(end: float, unit: str) -> tuple[str, float]:
    if unit == "share":
        return "%", 100.0
    found = next((one for one in SCALES[unit] if end >= one[1]), SCALES[unit][-1])
    return found[0], 1 / found[1]


def _read(level: float, unit: str) -> str:
    """Return how a code is read where one level is worth `level`: zeros are put behind it, or a point before.

    >>> _read(0.01, "s"), _read(0.0001, "s"), _read(0.001, "share")
    ('%{z}0 ms', '%{z}00 us', '%{z} per mille')
    """
    if unit == "share":
        power = round(math.log10(level)) + 3
        return f"%{{z}}{'0' * power} per mille" if power >= 0 else f"%{{z}} x {100 * level:g} %"
    for name, worth in SCALES[unit]:
        power = round(math.log10(level / worth))
        if power >= 0:
            return f"%{{z}}{'0' * power} {name}"
    return f"%{{z}} x {level / worth:g} {name}"


def _names(names: Sequence[str], begin: int, end: int, size: int) -> list[str]:
    if size == 1:
        return [label(names[at]) for at in range(begin, end)]
    return [
        label(f"{names[at]} to {names[min(at + size, end) - 1]}, the worst of them", 90)
        for at in range(begin, end, size)
    ]


def _axis(names: Sequence[str], begin: int, size: int) -> dict[str, Any]:
    """Return an axis that counts places and shows names, at its ticks and under the pointer."""
    centre = begin + (size - 1) / 2
    form = ".1f" if size % 2 == 0 else "d"
    keys = [
        f"{centre + size * at:.1f}" if size % 2 == 0 else str(round(centre + size * at)) for at in range(len(names))
    ]
    shown = range(0, len(names), max(1, -(-len(names) // TICKS)))
    return {
        "tickmode": "array", "tickvals": [centre + size * at for at in shown],
        "ticktext": [names[at].partition(" to ")[0] for at in shown],
        "hoverformat": form, "labelalias": dict(zip(keys, names, strict=True)),
    }  # fmt: skip


def _point_at(made: go.Figure, row: int, text: str) -> None:
    made.add_annotation(
        xref="paper", x=0, y=row, text=label(text), showarrow=True, arrowhead=2, ax=46, ay=-20, bgcolor=ORANGE,
        font={"color": "#000000", "size": 12}, borderpad=2,
    )  # fmt: skip
