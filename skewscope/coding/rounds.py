"""What all simulators share: delays sorted round by round, deadlines, and who is late.

A late worker is one that needs more than (1 + mu) times the fastest worker of its round. Every load response keeps the
order of the workers of a round, so the late ones are always the last few of one order, and a count says who they are.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UsageError
from .response import Response

Array = np.ndarray[Any, Any]
WAIT_OUT = ("all", "min")
ACCEPT = ("model", "feasible")
AT_ONCE = 1 << 18  # deadlines looked at in one go, so that they stay in the cache


@dataclass(frozen=True)
class Rules:
    """When a round may close although workers are late (planners' reference 2.5).

    `wait_out`: what to do when the late set is not acceptable: wait for "all", or for the fewest ("min").
    `accept`: the late set must fit the scheme's "model" of stragglers, or the open jobs must stay "feasible".
    """

    wait_out: str = "min"
    accept: str = "feasible"

    def __post_init__(self) -> None:
        if self.wait_out not in WAIT_OUT or self.accept not in ACCEPT:
            raise UsageError(f"rules are wait-out all or min and accept model or feasible, not {self.wait_out!r} and "
                             f"{self.accept!r}")  # fmt: skip


PUBLISHED = Rules("all", "model")
BEST = Rules("min", "feasible")


@dataclass(frozen=True)
class Runs:
    """What simulated runs took, one column per candidate.

    `seconds` [rounds, candidates]; `late` [rounds, candidates] workers given up per round; `beyond` [rounds,
    candidates] workers that missed the deadline, so that `late < beyond` tells a wait-out; `lost_jobs` [candidates]
    jobs that could not be decoded, which rules that keep their promise never have.
    """

    seconds: Array
    late: Array
    beyond: Array
    lost_jobs: Array

    @property
    def runtime_s(self) -> Array:
        """Seconds of the whole run [candidates]."""
        return np.asarray(self.seconds.sum(axis=0))

    @property
    def waited_rounds(self) -> Array:
        """Rounds that were held open beyond their deadline [candidates]."""
        return np.asarray((self.late < self.beyond).sum(axis=0))


@dataclass(frozen=True)
class Rounds:
    """Delays in the order of completion: `sorted_s` [rounds, workers] and the worker at each place, `order`.

    They were measured at `load`. Runs longer than the recording begin it again.
    """

    sorted_s: Array
    order: Array
    place: Array
    load: float
    response: Response

    @classmethod
    def of(cls, seconds: Array, load: float, response: Response) -> Rounds:
        """Return the rounds of a profile [rounds, workers] in seconds, measured at `load`."""
        seconds = np.asarray(seconds, dtype=float)
        order = np.argsort(seconds, axis=1, kind="stable")
        place = np.empty_like(order)
        np.put_along_axis(place, order, np.broadcast_to(np.arange(seconds.shape[1]), order.shape), axis=1)
        return cls(np.take_along_axis(seconds, order, axis=1), order, place, load, response)

    @property
    def workers(self) -> int:
        """Workers per round."""
        return int(self.sorted_s.shape[1])

    @property
    def seconds(self) -> Array:
        """The delays in the order of the workers [rounds, workers]."""
        return np.take_along_axis(self.sorted_s, self.place, axis=1)

    def late(self, counts: Array) -> Array:
        """Return who is late [rounds, workers] when the last `counts` [rounds] of each round are."""
        rows = np.arange(len(counts)) % len(self.place)
        return np.asarray(self.place[rows] >= self.workers - np.asarray(counts)[:, None])


class Clock:
    """Deadlines and durations of `count` rounds for candidates with loads [candidates] and mu [candidates].

    `beyond` [rounds, candidates] is how many workers miss the deadline.
    """

    def __init__(self, rounds: Rounds, loads: Array, mus: Array, count: int) -> None:
        self.row = np.arange(count) % len(rounds.sorted_s)
        self.sorted_s, self.workers = rounds.sorted_s, rounds.workers
        self.shift, self.factor = rounds.response.line(rounds.load, loads)
        first = rounds.sorted_s[:, 0]
        deadline = (1 + mus) * (self.shift + self.factor * first[:, None])
        latest = self.shift + self.factor * rounds.sorted_s[:, -1:]
        self._deadline_s, self._latest_s = deadline, latest
        rows = max(1, AT_ONCE // max(1, len(loads)))
        late = [self._late(slice(start, start + rows)) for start in range(0, len(first), rows)]
        self.beyond = np.concatenate(late)[self.row]

    def _late(self, rows: slice) -> Array:
        """Return how many workers of `rows` need longer than the deadline [rows, candidates], by bisection."""
        times, deadline = self.sorted_s[rows], self._deadline_s[rows]
        found = np.zeros(deadline.shape, dtype=np.int64)
        for bit in reversed(range(self.workers.bit_length())):
            more = found + (1 << bit)
            last = np.take_along_axis(times, np.minimum(more, self.workers) - 1, axis=1)
            in_time = (more <= self.workers) & (self.shift + self.factor * last <= deadline)
            found = np.where(in_time, more, found)
        return np.asarray(self.workers - found)

    def only(self, cut: slice) -> Clock:
        """Return the clock of some of the candidates."""
        part = copy(self)
        part.shift, part.factor, part.beyond = self.shift[cut], self.factor[cut], self.beyond[:, cut]
        part._deadline_s, part._latest_s = self._deadline_s[:, cut], self._latest_s[:, cut]
        return part

    def chosen(self, number: int, allowed: Array, wait_out: str) -> Array:
        """Return the late workers [candidates] of round `number` when at most the last `allowed` may be."""
        beyond = self.beyond[number]
        if wait_out == "all":
            return np.asarray(np.where(allowed >= beyond, beyond, 0))
        return np.asarray(np.minimum(beyond, np.maximum(allowed, 0)))

    def seconds(self, number: int, late: Array) -> Array:
        """Return the duration [candidates] of round `number` when `late` workers are given up."""
        row = self.row[number]
        waited = self.shift + self.factor * self.sorted_s[row][self.workers - 1 - np.minimum(late, self.workers - 1)]
        closed = np.minimum(self._deadline_s[row], self._latest_s[row])
        return np.asarray(np.where(late == self.beyond[number], closed, waited))

    def all_seconds(self, late: Array) -> Array:
        """Return the durations [rounds, candidates] of all rounds."""
        return np.stack([self.seconds(number, one) for number, one in enumerate(late)])
