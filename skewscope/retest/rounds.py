"""Runs a piece of work round by round within a budget of time, and turns the times into speeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .document import Measure

LEAST_S = 1e-9


@dataclass(frozen=True)
class Rounds:
    """How often and how long: at least `least` rounds, at most `most`, no new one after `budget_s`; `warm` are lost."""

    least: int = 7
    most: int = 40
    budget_s: float = 2.0
    warm: int = 2
    clock_s: Callable[[], float] = time.perf_counter


def seconds(work: Callable[[], object], rounds: Rounds) -> list[float]:
    """Return the seconds of each round of `work`, by the clock; the first rounds, which fill caches, are not told."""
    return [took[0] for took in told(lambda: _timed(work, rounds.clock_s), rounds)]


def told(work: Callable[[], Sequence[float]], rounds: Rounds) -> list[Sequence[float]]:
    """Return what `work` tells of each round, for work that times itself (seconds of each device).

    >>> len(told(lambda: [1.0], Rounds(least=3, most=5)))
    5
    """
    for _ in range(rounds.warm):
        work()
    began_s = rounds.clock_s()
    found: list[Sequence[float]] = []
    while len(found) < rounds.least or (len(found) < rounds.most and rounds.clock_s() - began_s < rounds.budget_s):
        found.append(work())
    return found


def _timed(work: Callable[[], object], clock_s: Callable[[], float]) -> list[float]:
    began_s = clock_s()
    work()
    return [clock_s() - began_s]


def speed(name: str, unit: str, device: str, work: str, amount: float, took_s: Sequence[float]) -> Measure:
    """Return the measure of work of `amount` units (flops, bytes) that took so many seconds in each round.

    >>> speed("copy", "bytes", "cpu", "64 MiB", 10.0, [2.0, 4.0]).values
    (5.0, 2.5)
    """
    return Measure(name, unit, device, work, tuple(amount / max(one, LEAST_S) for one in took_s))
