"""What a browser tells of a zoom."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

Ends = tuple[float, float, float, float]
Axes = dict[str, tuple[float, float] | tuple[str, str]]
AXES = ("xaxis", "yaxis")
MOST_PLOTS, LONGEST_DATE = 64, 40


def zoom(relayout: object) -> Axes | None:
    """Return the ranges of a zoom by axis, {} where it was taken back, None where nothing was zoomed.

    >>> zoom({"xaxis.range[0]": 1, "xaxis.range[1]": 5.5})
    {'xaxis': (1.0, 5.5)}
    >>> zoom({"xaxis.autorange": True, "yaxis.autorange": True}), zoom({"autosize": True})
    ({}, None)
    """
    if not isinstance(relayout, dict):
        return None
    told = {
        axis: relayout.get(f"{axis}.range") or [relayout.get(f"{axis}.range[0]"), relayout.get(f"{axis}.range[1]")]
        for axis in AXES
    }
    found = {axis: ends for axis in AXES if (ends := _ends(told, axis)) is not None}
    if found or any(str(name).endswith("autorange") for name in relayout):
        return found
    return None


def zooms(told: object) -> dict[str, Axes]:
    """Return what the reader zoomed, by block and axis, out of what a browser told; what does not fit is left out.

    >>> zooms({"map": {"xaxis": [1, 5]}, "line": {"xaxis": "no"}})
    {'map': {'xaxis': (1.0, 5.0)}}
    """
    found: dict[str, Axes] = {}
    if not isinstance(told, dict):
        return found
    for name, axes in list(told.items())[:MOST_PLOTS]:
        kept = {axis: ends for axis in AXES if (ends := _ends(axes, axis)) is not None}
        if kept:
            found[str(name)] = kept
    return found


def linked(text: str) -> dict[str, Axes]:
    """Return what an address says is in view, by block; what does not fit is left out.

    >>> linked("ranks:0.5,9,80,20;x:1"), linked("ranks:nan,1,2,3")
    ({'ranks': {'xaxis': (0.5, 9.0), 'yaxis': (80.0, 20.0)}}, {})
    """
    told: dict[str, dict[str, list[float]]] = {}
    for part in text.split(";")[:MOST_PLOTS]:
        name, _, listed = part.partition(":")
        try:
            ends = [float(one) for one in listed.split(",")]
        except ValueError:
            continue
        if len(ends) == 4 and all(isfinite(one) for one in ends):
            told[name] = {"xaxis": ends[:2], "yaxis": ends[2:]}
    return zooms(told)


def _ends(axes: object, axis: str) -> tuple[float, float] | tuple[str, str] | None:
    given = axes.get(axis) if isinstance(axes, dict) else None
    if not isinstance(given, list) or len(given) != 2:
        return None
    low, high = given
    if isinstance(low, str) and isinstance(high, str):
        return (low, high) if max(len(low), len(high)) <= LONGEST_DATE else None
    if isinstance(low, bool | str) or not isinstance(low, int | float) or not isinstance(high, int | float):
        return None
    return (float(low), float(high)) if isfinite(low) and isfinite(high) else None


def numbers(axes: Axes) -> Ends | None:
    """Return a zoom as (x0, x1, y0, y1), None where an axis is one of dates.

    >>> numbers({"yaxis": (9.0, 2.0)})
    (-inf, inf, 2.0, 9.0)
    """
    found: list[float] = []
    for axis in AXES:
        low, high = axes.get(axis, (float("-inf"), float("inf")))
        if isinstance(low, str) or isinstance(high, str):
            return None
        found += sorted((low, high))
    return (found[0], found[1], found[2], found[3])


def held(figure: Mapping[str, Any], axes: Axes) -> dict[str, Any]:
    """Return a figure that shows the ranges the reader zoomed to."""
    layout = dict(figure["layout"])
    for axis, ends in axes.items():
        layout[axis] = {**layout.get(axis, {}), "range": list(ends), "autorange": False}
    return {**figure, "layout": layout}
