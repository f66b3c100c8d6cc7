"""Selective-repetition sequential gradient coding (SR-SGC): losses are repeated B rounds later, and only those.

Jobs are interleaved: while a job waits for its repetition, the next ones are under way, so B + 1 independent jobs must
be in flight. The base code is gradient coding with s = ceil(lambda / (x + 1)) for windows of W = x B + 1 rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UsageError
from .late_history import FORBIDDEN, History, fitting
from .rounds import Clock, Rounds, Rules, Runs

Array = np.ndarray[Any, Any]
CHUNK = 128  # candidates at a time, so that their state stays in the cache


@dataclass(frozen=True)
class SrSgc:
    """SR-SGC of `workers` for bursts of `burst_rounds` (B), windows of `window_rounds` (W), `late_workers` (lambda).

    >>> SrSgc(256, 2, 3, 23).load
    0.05078125
    """

    workers: int
    burst_rounds: int
    window_rounds: int
    late_workers: int

    def __post_init__(self) -> None:
        if self.workers < 1 or self.burst_rounds < 1:
            raise UsageError(f"SR-SGC wants workers and B of at least 1, not {self.workers} and {self.burst_rounds}")
        if self.window_rounds <= self.burst_rounds or (self.window_rounds - 1) % self.burst_rounds:
            raise UsageError(f"SR-SGC wants W = x B + 1 with a whole x of at least 1; B={self.burst_rounds} and "
                             f"W={self.window_rounds} do not fit")  # fmt: skip
        if not 0 <= self.late_workers <= self.workers:
            raise UsageError(f"SR-SGC wants lambda of 0 to {self.workers} workers, not {self.late_workers}")
        if self.losses >= self.workers:
            raise UsageError(f"SR-SGC with s={self.losses} of {self.workers} workers leaves nobody to decode from")

    @property
    def losses(self) -> int:
        """Late workers of one round that need no repetition (s)."""
        return int(losses(self.burst_rounds, self.window_rounds, self.late_workers))

    @property
    def load(self) -> float:
        """Share of the batch that one worker computes per round: (s + 1) / n."""
        return (self.losses + 1) / self.workers

    @property
    def delay_rounds(self) -> int:
        """Rounds after its own in which a job is finished at the latest: B."""
        return self.burst_rounds

    @property
    def promise(self) -> str:
        """Under which losses every job is finished in time."""
        return (f"every {self.window_rounds} consecutive rounds have at most {self.late_workers} late workers, each "
                f"within {self.burst_rounds} consecutive rounds, or at most {self.losses} per round")  # fmt: skip


def losses(burst_rounds: Array | int, window_rounds: Array | int, late_workers: Array | int) -> Array:
    """Return s = ceil(B lambda / (W - 1 + B)) in whole numbers, shapes broadcast."""
    share = np.asarray(burst_rounds) * np.asarray(late_workers)
    return np.asarray(-(-share // (np.asarray(window_rounds) - 1 + np.asarray(burst_rounds))))


def simulate(
    rounds: Rounds, burst_rounds: int, window_rounds: Array, late_workers: Array, mus: Array, jobs: int, rules: Rules
) -> Runs:  # fmt: skip
    """Return the runs of `jobs` jobs, jobs + B rounds at most, for candidates that share B.

    `window_rounds`, `late_workers`, `mus` are [candidates]. In a round t those who owe a result of job t - B repeat it
    and the others work on job t; rounds after the last job that nobody owes anything are skipped and take no time.
    """
    window, most, mus = np.asarray(window_rounds), np.asarray(late_workers), np.asarray(mus, dtype=float)
    spare = losses(burst_rounds, window, most)
    clock = Clock(rounds, (spare + 1) / rounds.workers, mus, jobs + burst_rounds)
    made = [
        _run(rounds, clock.only(cut), burst_rounds, (window[cut], most[cut], spare[cut]), jobs, rules)
        for cut in (slice(first, first + CHUNK) for first in range(0, len(mus), CHUNK))
    ]
    return Runs(*(np.concatenate(columns, axis=-1) for columns in zip(*made, strict=True)))


def _run(
    rounds: Rounds, clock: Clock, burst: int, asked: tuple[Array, Array, Array], jobs: int, rules: Rules
) -> tuple[Array, Array, Array, Array]:
    """Return seconds, late, beyond and lost jobs of one chunk of candidates."""
    window, most, spare = asked
    workers, columns = rounds.workers, len(spare)
    history = History(workers, burst, window) if rules.accept == "model" else None
    missing = [np.zeros((workers, columns), dtype=bool)] * burst
    seconds, late = np.zeros((jobs + burst, columns)), np.zeros((jobs + burst, columns), dtype=np.int64)
    lost_jobs = np.zeros(columns, dtype=np.int64)
    for number in range(jobs + burst):
        row = clock.row[number]
        old = missing[number % burst]
        owed = np.maximum(0, old.sum(axis=0) - spare)
        busy = old & (np.cumsum(old, axis=0, dtype=np.int16) <= owed)
        works = np.ones(columns, dtype=bool) if number < jobs else owed > 0
        latest = rounds.order[row, ::-1][: int(clock.beyond[number].max())]
        if history is None:
            allowed = fitting(np.where(busy[latest], FORBIDDEN, 0), np.zeros(columns))
        else:
            allowed = history.allowed(number, latest, most)
            allowed = np.where(owed == 0, np.maximum(allowed, spare), allowed)
        count = np.where(works, clock.chosen(number, allowed, rules.wait_out), 0)
        seconds[number], late[number] = np.where(works, clock.seconds(number, count), 0.0), count
        given_up = rounds.place[row][:, None] >= workers - count
        lost_jobs += (busy & given_up).any(axis=0)
        if history is not None:
            history.add(number, given_up & ~((owed == 0) & (count <= spare)))
        missing[number % burst] = given_up | busy if number < jobs else np.zeros_like(old)
    return seconds, late, np.where(seconds > 0, clock.beyond, 0), lost_jobs


def undecoded(late: Array, burst_rounds: int, spare: int, jobs: int) -> list[int]:
    """Return the jobs that a pattern `late` [rounds, workers] of late workers leaves undecoded, rounds >= jobs + B.

    >>> undecoded(np.array([[1, 1, 0], [0, 0, 0], [0, 0, 0]], dtype=bool), 1, 1, 2)
    []
    >>> undecoded(np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=bool), 1, 1, 2)
    [0]
    """
    workers = late.shape[1]
    missing = np.zeros((jobs + burst_rounds, workers), dtype=bool)
    wrong = []
    for number in range(jobs + burst_rounds):
        busy = np.zeros(workers, dtype=bool)
        if number >= burst_rounds:
            old = np.flatnonzero(missing[number - burst_rounds])
            busy[old[: max(0, len(old) - spare)]] = True
            if (busy & late[number]).any():
                wrong.append(number - burst_rounds)
        if number < jobs:
            missing[number] = late[number] | busy
    return wrong
