"""Who was late lately, for many candidates at once: what the bursty model of stragglers asks.

Arrays are [workers, candidates], so that a round's order of workers picks whole rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
NEVER = -30000
FORBIDDEN = 20000


class History:
    """Rounds in which workers were late, for bursts of `burst_rounds` in windows of `window_rounds` [candidates]."""

    def __init__(self, workers: int, burst_rounds: int, window_rounds: Array) -> None:
        shape = (workers, len(window_rounds))
        self.window, self.burst = window_rounds.astype(np.int16), burst_rounds
        self.recent = np.full(shape, NEVER, dtype=np.int16)  # last late round
        self.older = np.full(shape, NEVER, dtype=np.int16)  # last late round that is at least a burst ago
        self.waiting: list[Array] = []

    def allowed(self, number: int, latest: Array, most: Array) -> Array:
        """Return how many of `latest`, workers from the last one on, may be late in round `number` [candidates].

        `most` [candidates]: distinct late workers in a window (lambda rule). Nobody who was late in the window, but
        longer ago than a burst, may be late again (burst rule).
        """
        begin = np.int16(number) - self.window + np.int16(1)
        known = self.recent >= begin
        left = most - known.sum(axis=0)
        weight = (~known[latest]).astype(np.int16)
        weight[self.older[latest] >= begin] = FORBIDDEN
        return fitting(weight, left)

    def add(self, number: int, late: Array) -> None:
        """Note who was late [workers, candidates] in round `number`."""
        np.putmask(self.recent, late, np.int16(number))
        self.waiting.append(late)
        if len(self.waiting) >= self.burst:
            first = number - self.burst + 1
            np.putmask(self.older, self.waiting.pop(0), np.int16(first))


def fitting(weight: Array, budget: Array) -> Array:
    """Return how many first rows of `weight` [rows, candidates] add up to at most `budget` [candidates].

    >>> fitting(np.array([[1, 1], [0, 20000], [1, 0]], dtype=np.int16), np.array([1, 5])).tolist()
    [2, 1]
    """
    sums = np.cumsum(weight, axis=0, dtype=np.int32)
    return np.asarray((sums <= budget).sum(axis=0))
