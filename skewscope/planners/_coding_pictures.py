"""Pictures of the gradient coding plan: run time by scheme, the delays themselves, and what load buys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..coding import recommend
from ..coding.estimate import Row
from ..coding.families import FAMILIES
from ..coding.search import Tried
from ..plans import Picture

Array = np.ndarray[Any, Any]
CELLS = (160, 256)
POINTS = 40


def heat(seconds: Array) -> Picture:
    """Return the delay profile [rounds, workers] in seconds; large ones show the longest delay of each cell."""
    last = seconds.max(axis=1)
    worst = int(np.bincount(seconds.argmax(axis=1), minlength=seconds.shape[1]).argmax())
    share = float((seconds.argmax(axis=1) == worst).mean())
    text = (f"The last worker needs {float(np.mean(last / np.median(seconds, axis=1))):.2f} times the median; worker "
            f"{worst} is the last one in {100 * share:.0f} % of the rounds.")  # fmt: skip
    return Picture("heatmap", "Delay of each worker in each round", text, "worker", "round",
                   {"delay": shrunk(seconds, CELLS)}, "delay (s)")  # fmt: skip


def shrunk(matrix: Array, most: tuple[int, int]) -> Array:
    """Return a matrix of at most `most` rows and columns, each cell the maximum of those it stands for.

    >>> shrunk(np.array([[1.0, 2.0], [3.0, 0.0], [5.0, 4.0]]), (2, 2)).tolist()
    [[1.0, 2.0], [5.0, 4.0]]
    """
    for axis in (0, 1):
        cells = min(most[axis], matrix.shape[axis])
        edges = (np.arange(cells) * matrix.shape[axis]) // cells
        matrix = np.maximum.reduceat(matrix, edges, axis=axis)
    return matrix


def by_scheme(rows: Sequence[Row], uncoded: Row) -> Picture:
    """Return the run time of the best candidate of each scheme."""
    best: dict[str, Row] = {}
    for row in sorted(rows, key=lambda one: one.runtime_s):
        best.setdefault(row.family, row)
    exact = next(row for row in best.values() if not row.lost_ratio)
    saved = 100 * (1 - exact.runtime_s / uncoded.runtime_s)
    text = (f"The fastest exact one, {recommend.name(exact)}, would take {exact.runtime_s:.4g} s, uncoded "
            f"{uncoded.runtime_s:.4g} s ({saved:.0f} % less), where its conditions hold.")  # fmt: skip
    series = {"run time": ([recommend.name(row) for row in best.values()], [row.runtime_s for row in best.values()])}
    return Picture("bars", "Predicted run time of the best of each scheme", text, "scheme", "run time (s)", series)


def frontier(tried: Tried, workers: int) -> Picture:
    """Return the least run time of each scheme over its load, in multiples of the uncoded load."""
    series: dict[str, Any] = {}
    for family in FAMILIES:
        kept = (tried.family == family) & np.isfinite(tried.runtime_s)
        if kept.any():
            series[family] = _envelope(tried.load[kept] * workers, tried.runtime_s[kept])
    uncoded = float(tried.runtime_s[tried.family == "uncoded"][0])
    light = {family: load[int(np.argmin(time))] for family, (load, time) in series.items() if min(time) < uncoded}
    least = min(light, key=lambda one: light[one], default="")
    text = (f"The lightest scheme whose best beats uncoded is {least}, with {light[least]:.3g} times the uncoded load."
            if least else "No scheme beats uncoded at any load.")  # fmt: skip
    return Picture("lines", "Run time over load", text, "load (times the uncoded load)", "run time (s)", series)


def _envelope(load: Array, time: Array) -> tuple[list[float], list[float]]:
    """Return the least time of each of at most `POINTS` bins of load, on a logarithmic scale."""
    edges = np.geomspace(load.min(), load.max() * (1 + 1e-9), POINTS + 1) if load.max() > load.min() else load[:1]
    place = np.searchsorted(edges, load, side="right")
    picked = [np.flatnonzero(place == one)[time[place == one].argmin()] for one in np.unique(place)]
    return load[picked].tolist(), time[picked].tolist()
