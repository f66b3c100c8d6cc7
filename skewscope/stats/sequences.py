"""Repeated sequences in rows of codes: equal runs, and the n-grams that come more than once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import segments

Array = np.ndarray[Any, Any]


class Grams(NamedTuple):
    """N-grams of one length that come twice or more and cannot be made longer without coming less often.

    `gram` [n] numbers equal ones, `first` [n] is the row where each begins; sorted by gram, then row.
    """

    length: int
    gram: Array
    first: Array


def equal_runs(code: Array, over: segments.Runs, longest: int = 64) -> tuple[list[Array], Array]:
    """Return the distinct sequences of `code` [rows] over runs, and which of them each run is.

    Beyond `longest` rows only the size tells runs apart.

    >>> code = np.array([1, 2, 1, 2, 3]); same = equal_runs(code, segments.runs(np.array([0, 0, 1, 1, 2])))
    >>> [part.tolist() for part in same[0]], same[1].tolist()
    ([[1, 2], [3]], [0, 0, 1])
    """
    place = segments.ordinal(over)
    number = np.zeros(len(over.first), dtype=np.int64)
    for index in range(min(int(over.size.max(initial=0)), longest)):
        at = np.full(len(over.first), -1)
        here = place == index
        at[over.of[here]] = code[here]
        number = segments.numbered(number, at)
    number = segments.numbered(number, over.size)
    first = np.unique(number, return_index=True)[1]
    return [code[over.first[run] : over.first[run] + over.size[run]] for run in first], number


def repeated(code: Array, lane: Array, longest: int = 16) -> list[Grams]:
    """Return the n-grams of 2 to `longest` rows within lanes (sorted) that repeat and are maximal.

    Each length is numbered from the one before it, so that the cost is rows times `longest`.

    >>> [(found.length, found.first.tolist()) for found in repeated(np.array([5, 6, 7, 5, 6, 8]), np.zeros(6, int))]
    [(2, [0, 3])]
    """
    found: list[Grams] = []
    previous, before = code, np.zeros(0, dtype=np.int64)
    for length in range(2, min(longest + 1, len(code)) + 1):
        rows = len(code) - length + 1
        inside = lane[:rows] == lane[length - 1 :]
        number = np.full(rows, -1)
        number[inside] = segments.numbered(previous[:rows][inside], code[length - 1 :][inside])
        times = np.where(inside, np.bincount(number[inside], minlength=1)[np.maximum(number, 0)], 0)
        if length > 2:
            _keep_maximal(found, previous, before, times, length - 1)
        previous, before = number, times
        if times.max(initial=0) < 2:
            break
    return found


def _keep_maximal(found: list[Grams], number: Array, times: Array, longer: Array, length: int) -> None:
    """Append the grams of `length` that repeat and come oftener than any longer one around them."""
    after = np.zeros(len(times), dtype=np.int64)
    after[: len(longer)] = longer
    ahead = np.zeros(len(times), dtype=np.int64)
    ahead[1 : len(longer) + 1] = longer[: len(times) - 1]
    extended = (after == times) | (ahead == times)
    rows = np.flatnonzero((times >= 2) & ~extended)
    if len(rows):
        rows = rows[np.lexsort((rows, number[rows]))]
        found.append(Grams(length, number[rows], rows))


def apart(first: Array, length: int) -> Array:
    """Return which of the rows `first` (rising) begin a gram that does not overlap the one kept before it.

    >>> apart(np.array([0, 1, 2, 3]), 2).tolist()
    [True, False, True, False]
    """
    kept = np.ones(len(first), dtype=bool)
    if len(first) < 2 or (np.diff(first) >= length).all():
        return kept
    free = -1
    for index, row in enumerate(first.tolist()):
        kept[index] = row >= free
        if kept[index]:
            free = row + length
    return kept
