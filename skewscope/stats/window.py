"""Where an effect lives: the stretch of a series that stands above a level."""

from __future__ import annotations

from typing import Any

import numpy as np

from .robust import binomial_tail

Array = np.ndarray[Any, Any]

LASTING_STEPS = 10
FEWEST_STEPS = 5


def best_run(values: Array, level: float) -> tuple[int, int]:
    """Return (first, last) of the stretch with the largest sum above `level`; (-1, -1) if none is above.

    >>> best_run(np.array([0.0, 0.1, 5.0, 4.0, 6.0, 0.0]), 2.0)
    (2, 4)
    """
    above = np.where(np.isfinite(values), values, level) - level
    if not len(above) or above.max() <= 0:
        return -1, -1
    total = np.concatenate([[0.0], np.cumsum(above)])
    lowest = np.minimum.accumulate(total)[:-1]
    last = int(np.argmax(total[1:] - lowest))
    first = int(np.argmin(total[: last + 1]))
    return first, last


def affected(values: Array, noise: float) -> tuple[int, int]:
    """Return (first, last) of the steps in which an effect is present; the whole series where it is there throughout.

    The line is half of the effect's own upper-quartile size, never below `noise`.

    >>> affected(np.array([1.0, 0.9, 1.1, 1.0]), 0.1)
    (0, 3)
    >>> affected(np.array([0.0, 0.0, 0.0, 1.0, 0.9, 1.1, 1.0]), 0.1)
    (3, 6)
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return -1, -1
    level = max(float(np.quantile(finite, 0.75)) / 2, noise)
    first, last = best_run(values, level)
    if first >= 0 and last - first + 1 >= 0.8 * len(values):
        return 0, len(values) - 1
    return first, last


def present(values: Array, noise: float) -> tuple[int, int]:
    """Return (first, last) of the steps over which an effect is priced: where it lasts, else the whole series.

    A stretch shorter than ten steps (or a fifth of a short series, at least five) is a blip: it is priced over
    everything, not over its own moment. Fail-slow detectors ask for ten iterations as well (Greyhound, ATC'25).

    >>> present(np.array([0.0, 9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]), 0.1)
    (0, 7)
    """
    first, last = affected(values, noise)
    if first >= 0 and last - first + 1 < min(LASTING_STEPS, max(FEWEST_STEPS, len(values) // 5)):
        return 0, len(values) - 1
    return first, last


def chance_of_hits(hits: Array, whole: int, share: float, candidates: int) -> float:
    """Return how likely chance alone gives as many hits, anywhere in `whole` steps and for any of the candidates.

    >>> chance_of_hits(np.array([True] * 9), 9, 1 / 8, 8) < 1e-6
    True
    """
    places = max(whole - len(hits) + 1, 1)
    return min(1.0, binomial_tail(int(hits.sum()), len(hits), share) * candidates * places)
