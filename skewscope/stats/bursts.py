"""How slowness lasts: which worker is slow in which round, and for how many rounds at a stretch."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

SLOW_RATIO = 1.2  # of the round's median


class Bursts(NamedTuple):
    """`share` of all cells that are slow, `mean_rounds` and `longest_rounds` of a stretch, number of `stretches`.

    A stretch that touches the end of the recording is longer than was seen; `open_stretches` says how many do.
    """

    share: float
    mean_rounds: float
    longest_rounds: int
    stretches: int
    open_stretches: int


def slow(times: Array, ratio: float = SLOW_RATIO) -> Array:
    """Return which cells of `times` [rounds, workers] stand above `ratio` times the median of their round.

    >>> slow(np.array([[1.0, 1.0, 2.0]])).tolist()
    [[False, False, True]]
    """
    return np.asarray(times > ratio * np.nanmedian(times, axis=1, keepdims=True))


def bursts(late: Array) -> Bursts:
    """Return how long slowness lasts, from `late` [rounds, workers] booleans; the mean is NaN where nobody is slow.

    Gilbert and Elliott's two states: the mean stretch is 1/q, q the chance to recover in a round.

    >>> bursts(np.array([[1, 0], [1, 0], [0, 1], [0, 0]], dtype=bool))
    Bursts(share=0.375, mean_rounds=1.5, longest_rounds=2, stretches=2, open_stretches=0)
    """
    late = np.asarray(late, dtype=bool)
    found = lengths(late)
    if not len(found):
        return Bursts(0.0, float("nan"), 0, 0, 0)
    return Bursts(float(late.mean()), float(found.mean()), int(found.max()), len(found), int(late[-1].sum()))


def lengths(late: Array) -> Array:
    """Return the length in rounds of each stretch of `late` [rounds, workers], worker by worker.

    >>> lengths(np.array([[1, 0], [1, 0], [0, 1], [0, 0]])).tolist()
    [2, 1]
    """
    edges = np.zeros((len(late) + 2, late.shape[1]), dtype=np.int8)
    edges[1:-1] = late
    change = np.diff(edges, axis=0).T
    return np.asarray(np.nonzero(change == -1)[1] - np.nonzero(change == 1)[1])
