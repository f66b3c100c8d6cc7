"""Where the level of a series changes: rank based, so single outliers neither hide a change nor make one."""

from __future__ import annotations

from collections.abc import Iterator
from math import erfc, sqrt
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

CERTAINTY = 1e-3


class Change(NamedTuple):
    """A change of level: `place` is the first value of the new level; medians before and after; `chance` of noise."""

    place: int
    before: float
    after: float
    chance: float


def changes(values: Array, *, fewest: int = 8, ratio: float = 0.1, chance: float = CERTAINTY) -> list[Change]:
    """Return the changes of level in `values` [n], in order, each between two levels of at least `fewest` values.

    Windows of growing length are searched for a split (seeded binary segmentation, Kovacs and others, Biometrika 110,
    2023) and the shortest window that shows one is believed first, of equal ones that which shows it most clearly, so
    that a level that comes and goes is found at both ends, and each where it is. A split counts where the medians
    differ by at least `ratio` of the smaller one, and where noise alone would give it with a probability below
    `chance`.

    >>> [(found.place, found.before, found.after) for found in changes(np.repeat([1.0, 1.5], [10, 12]))]
    [(10, 1.0, 1.5)]
    >>> [found.place for found in changes(np.repeat([1.0, 1.5, 1.0], [10, 12, 12]))]
    [10, 22]
    >>> changes(np.array([1.0] * 9 + [50.0] + [1.0] * 9))
    []
    """
    values = np.asarray(values, dtype=float)
    cuts: list[int] = []
    for windows in _windows(len(values), 2 * fewest):
        told = []
        for start, end in windows:
            if any(start < cut < end for cut in cuts):
                continue
            place, score, doubt = _split(values[start:end], fewest)
            if doubt <= chance and _far(values[start : start + place], values[start + place : end], ratio):
                told.append((-score, start, start + place, end))
        for _, start, cut, end in sorted(told):
            if not any(start < other < end for other in cuts):
                cuts.append(cut)
    return _settled(values, sorted(cuts), fewest, ratio, chance)


def split(values: Array, fewest: int) -> tuple[int, float]:
    """Return the likeliest place of a change, at least `fewest` from both ends, and the chance that it is noise.

    The rank sums of the two sides are compared (Mann and Whitney, normal approximation) at every place; the chance is
    multiplied by the number of places.

    >>> split(np.array([1.0, 1.1, 1.0, 1.1, 2.0, 2.1, 2.0, 2.1]), 2)[0]
    4
    """
    place, _, doubt = _split(values, fewest)
    return place, doubt


def _split(values: Array, fewest: int) -> tuple[int, float, float]:
    """Return what `split` does, and between both how many standard deviations the rank sums are apart."""
    rows = len(values)
    if rows < 2 * fewest or rows < 2:
        return 0, 0.0, 1.0
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    varied = 1.0 - float((counts.astype(float) ** 3 - counts).sum()) / (rows**3 - rows)  # 0 where all are equal
    if varied <= 0:
        return 0, 0.0, 1.0
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # ties share their rank
    left = np.arange(fewest, rows - fewest + 1)
    excess = np.cumsum(rank)[left - 1] - left * (rows + 1) / 2
    score = np.abs(excess) / np.sqrt(left * (rows - left) * (rows + 1) / 12 * varied)
    best = int(np.argmax(score))
    return int(left[best]), float(score[best]), min(1.0, len(left) * erfc(float(score[best]) / sqrt(2)))


def _windows(rows: int, shortest: int) -> Iterator[list[tuple[int, int]]]:
    """Yield overlapping windows of one length, short ones first; each is half as long again as the one before."""
    length = shortest
    while length < rows:
        starts = range(0, rows - length + 1, max(length // 8, 1))
        yield [(start, start + length) for start in starts] + [(rows - length, rows)]
        length += length // 2
    yield [(0, rows)]


def _settled(values: Array, cuts: list[int], fewest: int, ratio: float, chance: float) -> list[Change]:
    """Return the changes at `cuts`, each moved to its best place between its neighbours, without those that fade."""
    borders = [0, *cuts, len(values)]
    for index in range(1, len(borders) - 1):
        left, right = borders[index - 1], borders[index + 1]
        borders[index] = left + split(values[left:right], fewest)[0] or borders[index]
    found: list[Change] = []
    start = 0
    for cut, end in zip(borders[1:], borders[2:], strict=False):
        before, after = values[start:cut], values[cut:end]
        doubt = split(values[start:end], fewest)[1]
        if doubt <= chance and _far(before, after, ratio):
            found.append(Change(cut, float(np.median(before)), float(np.median(after)), doubt))
            start = cut
    return found


def _far(before: Array, after: Array, ratio: float) -> bool:
    one, other = float(np.median(before)), float(np.median(after))
    return one != other and abs(other - one) >= ratio * min(one, other)
