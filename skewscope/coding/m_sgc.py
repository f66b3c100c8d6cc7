"""Multiplexed sequential gradient coding (M-SGC): most of the batch is repeated only when lost, the rest is coded.

A worker does M = W - 1 + B small tasks per round, the k-th of which belongs to the job opened k rounds ago: first its
W - 1 private chunks, then B slots that repeat a lost private chunk, or return a coded result where none was lost. So
T + 1 = W - 1 + B independent jobs must be in flight.
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
class MSgc:
    """M-SGC of `workers` for bursts of `burst_rounds` (B), windows of `window_rounds` (W), `late_workers` (lambda).

    >>> round(MSgc(256, 1, 2, 27).load, 12), MSgc(16, 2, 3, 4).load == 5 / 48
    (0.007543103448, True)
    """

    workers: int
    burst_rounds: int
    window_rounds: int
    late_workers: int

    def __post_init__(self) -> None:
        if self.workers < 1 or not 1 <= self.burst_rounds < self.window_rounds:
            raise UsageError(f"M-SGC wants 1 <= B < W and workers; got B={self.burst_rounds}, W={self.window_rounds}, "
                             f"{self.workers} workers")  # fmt: skip
        if not 0 <= self.late_workers <= self.workers:
            raise UsageError(f"M-SGC wants lambda of 0 to {self.workers} workers, not {self.late_workers}")

    @property
    def load(self) -> float:
        """Share of the batch that one worker computes per round."""
        return float(loads(self.workers, self.burst_rounds, self.window_rounds, self.late_workers))

    @property
    def delay_rounds(self) -> int:
        """Rounds after its own in which a job is finished: T = W - 2 + B."""
        return self.window_rounds - 2 + self.burst_rounds

    @property
    def promise(self) -> str:
        """Under which losses every job is finished in time."""
        window = self.window_rounds + self.burst_rounds - 1
        return (f"every {self.window_rounds} consecutive rounds have at most {self.late_workers} late workers, each "
                f"within {self.burst_rounds} consecutive rounds; or every {window} have at most {self.late_workers}, "
                f"each late at most {self.burst_rounds} times")  # fmt: skip


def loads(workers: int, burst_rounds: int, window_rounds: int, late_workers: Array | int) -> Array:
    """Return the loads [...] for `late_workers` (lambda) [...]: (lambda + 1) M / (n (B + (W - 1)(lambda + 1)))."""
    most, slots = np.asarray(late_workers), window_rounds - 1 + burst_rounds
    private = window_rounds - 1
    coded = (most + 1) * slots / (workers * (burst_rounds + private * (most + 1)))
    return np.where(most < workers, coded, slots / (workers * private))


def least_load(workers: int, burst_rounds: int, window_rounds: int, late_workers: int) -> float:
    """Return the least load of any scheme that survives all such bursty patterns; M-SGC meets it at n - 1 and n.

    >>> round(least_load(256, 1, 2, 27), 6), least_load(8, 1, 3, 7) == MSgc(8, 1, 3, 7).load
    (0.004124, True)
    """
    slots, private = window_rounds - 1 + burst_rounds, window_rounds - 1
    spared = max(0, workers - late_workers) if late_workers < workers else 0
    return slots / (workers * private + burst_rounds * spared)


def simulate(
    rounds: Rounds, burst_rounds: int, window_rounds: int, late_workers: Array, mus: Array, jobs: int, rules: Rules
) -> Runs:  # fmt: skip
    """Return the runs of `jobs` jobs, jobs + T rounds, for candidates that share B and W.

    `late_workers`, `mus` are [candidates].
    """
    most, mus = np.asarray(late_workers), np.asarray(mus, dtype=float)
    load = loads(rounds.workers, burst_rounds, window_rounds, most)
    clock = Clock(rounds, load, mus, jobs + window_rounds - 2 + burst_rounds)
    made = [
        _run(rounds, clock.only(cut), (burst_rounds, window_rounds, most[cut]), jobs, rules)
        for cut in (slice(first, first + CHUNK) for first in range(0, len(mus), CHUNK))
    ]
    return Runs(*(np.concatenate(columns, axis=-1) for columns in zip(*made, strict=True)))


class _Open:
    """The open jobs of one chunk of candidates: private chunks still owed, [workers, candidates] per slot of the tail.

    `tail[g]` belongs to the job whose coded group g is due; `fresh` counts the losses of the oldest job that is still
    in its private slots, in all its rounds so far. Jobs below 0 or from `jobs` on do not exist.
    """

    def __init__(self, workers: int, burst: int, window: int, most: Array, jobs: int) -> None:
        self.burst, self.window, self.jobs = burst, window, jobs
        self.most, self.coded = most, most < workers
        shape = (workers, len(most))
        self.fresh = np.zeros(shape, dtype=np.uint8)
        self.tail = [np.zeros(shape, dtype=np.uint8) for _ in range(burst)]
        self.lates: list[Array] = []
        self.lost_jobs = np.zeros(len(most), dtype=np.int64)

    def _exists(self, number: int, slot: int) -> bool:
        return 0 <= number - slot < self.jobs

    def allowed(self, number: int, latest: Array) -> Array:
        """Return how many of `latest`, workers from the last one on, may be late with every open job completable.

        A worker may owe at most the tail slots that are left. A coded group needs n - lambda results, so at most
        lambda workers may be late or busy repeating in its slot; of the jobs in private slots the oldest binds.
        """
        fits = np.full(len(self.most), len(self.fresh))
        if number - self.window + 2 < self.jobs:
            fits = self._fitting(self.fresh, latest, self.burst)
        for group, owing in enumerate(self.tail):
            if self._exists(number, self.window - 1 + group):
                fits = np.minimum(fits, self._fitting(owing, latest, self.burst - group))
        return fits

    def _fitting(self, owing: Array, latest: Array, slots: int) -> Array:
        rows = owing[latest]
        weight = (rows == 0).astype(np.int16)
        weight[rows >= slots] = FORBIDDEN
        return fitting(weight, np.where(self.coded, self.most - (owing > 0).sum(axis=0), FORBIDDEN - 1))

    def add(self, number: int, late: Array) -> None:
        """Move every job one slot on after a round in which `late` [workers, candidates] returned nothing."""
        following = self.fresh + late if self._exists(number, self.window - 2) else np.zeros_like(self.fresh)
        for group, owing in enumerate(self.tail):
            if self._exists(number, self.window - 1 + group):
                served = (late | (owing > 0)).sum(axis=0)
                self.lost_jobs += (served > self.most) & self.coded
            self.tail[group] = following
            following = owing - ((owing > 0) & ~late)
        self.lost_jobs += (following > 0).any(axis=0)
        self.lates.append(late)
        self.fresh = self.fresh + late
        if len(self.lates) > self.window - 2:
            self.fresh = self.fresh - self.lates.pop(0)


def _run(
    rounds: Rounds, clock: Clock, asked: tuple[int, int, Array], jobs: int, rules: Rules
) -> tuple[Array, Array, Array, Array]:
    """Return seconds, late, beyond and lost jobs of one chunk of candidates."""
    burst, window, most = asked
    workers, columns = rounds.workers, len(most)
    history = History(workers, burst, np.full(columns, window)) if rules.accept == "model" else None
    opened = _Open(workers, burst, window, most, jobs)
    late = np.zeros(clock.beyond.shape, dtype=np.int64)
    for number in range(len(late)):
        row = clock.row[number]
        latest = rounds.order[row, ::-1][: int(clock.beyond[number].max())]
        allowed = history.allowed(number, latest, most) if history else opened.allowed(number, latest)
        late[number] = clock.chosen(number, allowed, rules.wait_out)
        given_up = rounds.place[row][:, None] >= workers - late[number]
        opened.add(number, given_up)
        if history:
            history.add(number, given_up)
    return clock.all_seconds(late), late, clock.beyond, opened.lost_jobs


def undecoded(late: Array, burst_rounds: int, window_rounds: int, late_workers: int, jobs: int) -> list[int]:
    """Return the jobs that a pattern `late` [rounds, workers] of late workers leaves undecoded, rounds >= jobs + T.

    >>> undecoded(np.array([[1, 0], [0, 0], [0, 0]], dtype=bool), 1, 2, 1, 2)
    []
    >>> undecoded(np.array([[1, 0], [1, 0], [0, 0]], dtype=bool), 1, 2, 1, 2)
    [0]
    """
    workers, wrong = late.shape[1], []
    for job in range(jobs):
        owing = late[job : job + window_rounds - 1].sum(axis=0)
        complete = True
        for group in range(burst_rounds):
            here = late[job + window_rounds - 1 + group]
            complete &= late_workers == workers or int((~here & (owing == 0)).sum()) >= workers - late_workers
            owing = owing - ((owing > 0) & ~here)
        if not complete or owing.any():
            wrong.append(job)
    return wrong
