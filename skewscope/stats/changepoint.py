"""Where the level of a series changes: rank based, so single outliers neither hide a change nor make one."""

from __future__ import annotations

from math import exp
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

    Binary segmentation on Pettitt's rank statistic (Applied Statistics 28, 1979): n log n for each split. A change
    counts where the medians of the two levels differ by at least `ratio` of the smaller one, and where noise alone
    would give such a split with a probability below `chance`.

    >>> [(found.place, found.before, found.after) for found in changes(np.repeat([1.0, 1.5], [10, 12]))]
    [(10, 1.0, 1.5)]
    >>> changes(np.array([1.0] * 9 + [50.0] + [1.0] * 9))
    []
    """
    values = np.asarray(values, dtype=float)
    cuts = [0, *sorted(_cuts(values, 0, fewest, ratio, chance)), len(values)]
    found = []
    for left, cut, right in zip(cuts, cuts[1:], cuts[2:], strict=False):
        before, after = float(np.median(values[left:cut])), float(np.median(values[cut:right]))
        if _far(before, after, ratio):
            found.append(Change(cut, before, after, split(values[left:right], fewest)[1]))
    return found


def split(values: Array, fewest: int) -> tuple[int, float]:
    """Return the likeliest place of a change, at least `fewest` from both ends, and the chance that it is noise.

    >>> split(np.array([1.0, 1.1, 1.0, 1.1, 2.0, 2.1, 2.0, 2.1]), 2)[0]
    4
    """
    rows = len(values)
    if rows < 2 * fewest or rows < 2:
        return 0, 1.0
    # Ranks with ties shared; their partial sums against the middle are Pettitt's statistic up to a factor.
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    statistic = np.abs(2 * np.cumsum(rank) - np.arange(1, rows + 1) * (rows + 1))
    allowed = statistic[fewest - 1 : rows - fewest]
    place = int(np.argmax(allowed)) + fewest
    return place, min(1.0, 2 * exp(-6 * float(allowed.max()) ** 2 / (rows**3 + rows**2)))


def _cuts(values: Array, start: int, fewest: int, ratio: float, chance: float) -> list[int]:
    place, doubt = split(values, fewest)
    if doubt > chance or not _far(float(np.median(values[:place])), float(np.median(values[place:])), ratio):
        return []
    left = _cuts(values[:place], start, fewest, ratio, chance)
    return [*left, start + place, *_cuts(values[place:], start + place, fewest, ratio, chance)]


def _far(before: float, after: float, ratio: float) -> bool:
    return abs(after - before) >= ratio * min(before, after) and before != after
