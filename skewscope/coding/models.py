"""Models of stragglers: which patterns of late workers a scheme promises to survive; checks, and random patterns.

A pattern is `[rounds, workers]`, True where a worker is late. A window is a number of consecutive rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]


class Model(Protocol):
    """Decides whether workers may be late now, given who was late before."""

    def admits(self, past: Array, now: Array) -> bool:
        """Return whether `now` [workers] may be late after `past` [rounds, workers], which conforms."""


@dataclass(frozen=True)
class Bursty:
    """(B, W, lambda): per window of W rounds at most lambda distinct workers, each within B consecutive rounds.

    >>> model = Bursty(1, 3, 2)
    >>> conforms(model, np.array([[1, 0], [0, 1], [0, 0], [1, 1]], dtype=bool))
    False
    >>> conforms(model, np.array([[1, 0], [0, 1], [0, 0], [1, 0]], dtype=bool))
    True
    """

    burst_rounds: int
    window_rounds: int
    late_workers: int

    def admits(self, past: Array, now: Array) -> bool:
        """Return whether `now` [workers] may be late after `past`."""
        window = _last(past, self.window_rounds - 1)
        kept = max(0, len(window) - (self.burst_rounds - 1))
        again = (window[:kept].any(axis=0) & now).any()
        return not again and int((window.any(axis=0) | now).sum()) <= self.late_workers


@dataclass(frozen=True)
class Arbitrary:
    """(N, W', lambda'): per window of W' rounds at most lambda' distinct workers, each late at most N times.

    >>> conforms(Arbitrary(1, 2, 1), np.array([[1, 0], [1, 0]], dtype=bool))
    False
    """

    times: int
    window_rounds: int
    late_workers: int

    def admits(self, past: Array, now: Array) -> bool:
        """Return whether `now` [workers] may be late after `past`."""
        count = _last(past, self.window_rounds - 1).sum(axis=0) + now
        return int(count.max(initial=0)) <= self.times and int((count > 0).sum()) <= self.late_workers


@dataclass(frozen=True)
class PerRound:
    """At most `late_workers` in every round.

    >>> conforms(PerRound(1), np.array([[1, 0], [0, 1]], dtype=bool))
    True
    """

    late_workers: int

    def admits(self, past: Array, now: Array) -> bool:
        """Return whether `now` [workers] may be late, whatever came before."""
        return int(now.sum()) <= self.late_workers


def _last(past: Array, rounds: int) -> Array:
    return past[max(0, len(past) - rounds) :]


def first_breach(model: Model, late: Array) -> int:
    """Return the first round at which a pattern [rounds, workers] leaves the model, -1 where it never does."""
    late = np.asarray(late, dtype=bool)
    return next((t for t in range(len(late)) if not model.admits(late[:t], late[t])), -1)


def conforms(model: Model, late: Array) -> bool:
    """Return whether a pattern [rounds, workers] stays within the model."""
    return first_breach(model, late) < 0


def conforms_selective(burst_rounds: int, window_rounds: int, late_workers: int, spare: int, late: Array) -> bool:
    """Return whether every window of W rounds is bursty or has at most `spare` late workers in each round.

    This is what SR-SGC promises to survive; windows that begin before the first round count too.
    """
    late = np.asarray(late, dtype=bool)
    model = Bursty(burst_rounds, window_rounds, late_workers)
    for end in range(1, len(late) + 1):
        window = _last(late[:end], window_rounds)
        if window.sum(axis=1).max() > spare and not conforms(model, window):
            return False
    return True


def random_pattern(model: Model, rounds: int, workers: int, draw: np.random.Generator, eager: float = 0.7) -> Array:
    """Return a random pattern [rounds, workers] that conforms; the greater `eager`, 0 to 1, the more are late.

    In every round the workers are asked in random order whether one more may be late.

    >>> conforms(Bursty(2, 3, 2), random_pattern(Bursty(2, 3, 2), 40, 6, np.random.default_rng(0)))
    True
    """
    late = np.zeros((rounds, workers), dtype=bool)
    for number in range(rounds):
        willing = draw.random(workers) < eager * draw.random()
        for worker in draw.permutation(np.flatnonzero(willing)):
            late[number, worker] = True
            late[number, worker] = model.admits(late[:number], late[number])
    return late
