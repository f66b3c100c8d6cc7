"""The parameter search: thousands of candidates of all schemes on one measured profile, the deadline mu included.

Coarse values of s and lambda for every burst and window first, then all values between the neighbours of the best. A
profile that is chosen by its own minimum looks better than it will be: the time is therefore kept per fold of rounds,
and a choice made without a fold is judged on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..processes import process_pool
from .approximate import lost_ratio
from .families import FAMILIES, SEQUENTIAL, Batch, loads, runs
from .rounds import BEST, Rounds, Rules

Array = np.ndarray[Any, Any]
MUS = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0)
FOLDS = 4
REFINED, BETWEEN = 3, 24
SEARCHED_ROUNDS = 240
CHEAP = 512  # candidates that take less time than a second process


@dataclass(frozen=True)
class Grid:
    """What is tried: deadlines `mus`, the families, rules, and how far each parameter goes.

    `slots_most` bounds W - 1 + B of M-SGC, its jobs in flight; `bursts_most` and `spans_most` bound B and x of SR-SGC;
    `levels_most` is how many values of s and lambda are tried before refinement; `copies_most` bounds d of approximate
    coding, `lost_most_ratio` the share of the batch it may be expected to lose.
    """

    mus: Sequence[float] = MUS
    families: Sequence[str] = FAMILIES
    rules: Rules = BEST
    slots_most: int = 8
    bursts_most: int = 4
    spans_most: int = 4
    levels_most: int = 96
    copies_most: int = 3
    lost_most_ratio: float = 0.01


@dataclass(frozen=True)
class Tried:
    """All candidates tried, one element each: parameters as in `families`, and seconds per fold [candidates, folds].

    Candidates that lost a job are there with infinite seconds.
    """

    family: Array
    burst: Array
    window: Array
    value: Array
    mu: Array
    load: Array
    fold_s: Array

    @property
    def runtime_s(self) -> Array:
        """Seconds of the whole run [candidates]."""
        return np.asarray(self.fold_s.sum(axis=1))

    def best(self, wanted: Array, count: int = 1) -> Array:
        """Return the indexes of the fastest `count` candidates among `wanted` [candidates], fastest first."""
        place = np.flatnonzero(wanted)
        order = np.argsort(self.runtime_s[place], kind="stable")
        return place[order[:count]]

    def honest_s(self, wanted: Array) -> float:
        """Return the run time of the procedure "take the fastest of `wanted`": each fold is judged by the others."""
        place = np.flatnonzero(wanted)
        part = self.fold_s[place]
        others = part.sum(axis=1, keepdims=True) - part
        others = np.where(np.isnan(others), np.inf, others)
        return float(part[others.argmin(axis=0), np.arange(part.shape[1])].sum())


def excerpt(seconds: Array, most: int = SEARCHED_ROUNDS) -> Array:
    """Return a profile [rounds, workers] of at most `most` rounds: all, or evenly spaced stretches, one per fold.

    >>> excerpt(np.arange(100.0)[:, None], 8)[:, 0].tolist()
    [0.0, 1.0, 32.0, 33.0, 65.0, 66.0, 98.0, 99.0]
    """
    if len(seconds) <= most:
        return seconds
    length = most // FOLDS
    starts = np.linspace(0, len(seconds) - length, FOLDS).astype(np.int64)
    return np.concatenate([seconds[start : start + length] for start in starts])


def levels(most: int, count: int) -> Array:
    """Return whole numbers from 1 to `most`, all where they are few, else about `count` with growing steps.

    >>> levels(5, 48).tolist(), levels(100, 6).tolist()
    ([1, 2, 3, 4, 5], [1, 3, 6, 16, 40, 100])
    """
    return np.unique(np.rint(np.geomspace(1, most, min(count, most) if most > count else 400)).astype(np.int64))


def batches(workers: int, rounds: int, grid: Grid) -> Iterator[Batch]:
    """Yield the coarse grid for `workers` and a profile of `rounds`, in the order of the families."""
    yield _batch("uncoded", 0, 0, np.zeros(1), (1.0,))
    for family in grid.families:
        if family in SEQUENTIAL:
            late = levels(workers, grid.levels_most)
            for burst, window in _shapes(family, rounds, grid):
                fits = late * burst < _bound(family, workers, burst, window)
                yield _batch(family, burst, window, late[fits], grid.mus)
        elif family != "uncoded" and workers > 1:
            yield from _single_round(family, workers, grid)


def _single_round(family: str, workers: int, grid: Grid) -> Iterator[Batch]:
    """Yield the batches of a scheme that knows one parameter, s."""
    few = levels(max(1, workers // 2), grid.levels_most)
    if family == "gc":  # without a deadline mu says nothing
        mus = (1.0,) if grid.rules.accept == "feasible" else grid.mus
        yield _batch(family, 0, 0, np.arange(1, workers), mus)
    elif family == "fractional":
        yield _batch(family, 0, 0, np.unique(workers // np.arange(1, workers // 2 + 1)) - 1, (1.0,))
    elif family == "heterogeneous":
        yield _batch(family, 0, 0, few[few < workers], (1.0,))
    elif family == "approximate":
        for copies in range(1, min(grid.copies_most, workers) + 1):
            fits = [one for one in few if lost_ratio(workers, copies, int(one)) <= grid.lost_most_ratio]
            yield _batch(family, copies, 0, np.array(fits), (1.0,))


def _bound(family: str, workers: int, burst: int, window: int) -> int:
    """Return a bound of B lambda: with more, SR-SGC would leave nobody to decode from."""
    return (workers - 1) * (window - 1 + burst) + 1 if family == "sr-sgc" else (workers + 1) * burst


def _shapes(family: str, rounds: int, grid: Grid) -> list[tuple[int, int]]:
    """Return the pairs B, W. Where feasibility decides, windows say nothing in SR-SGC: only s counts."""
    if family == "sr-sgc":
        spans = range(1, 2 if grid.rules.accept == "feasible" else grid.spans_most + 1)
        pairs = [(burst, span * burst + 1) for burst in range(1, grid.bursts_most + 1) for span in spans]
    else:
        slots = range(2, grid.slots_most + 1)
        pairs = [(burst, total + 1 - burst) for total in slots for burst in range(1, total) if 2 * burst <= total]
    return [(burst, window) for burst, window in pairs if window <= rounds]


def _batch(family: str, burst: int, window: int, values: Array, mus: Sequence[float]) -> Batch:
    values = np.asarray(values, dtype=np.int64)
    return Batch(family, burst, window, np.tile(values, len(mus)), np.repeat(np.round(mus, 4), len(values)))


def evaluate(rounds: Rounds, jobs: int, rules: Rules, batch: Batch) -> Tried:
    """Return what the candidates of one batch take."""
    made = runs(rounds, batch, jobs, rules)
    edges = np.linspace(0, jobs, FOLDS + 1).astype(np.int64)[:-1]
    folds = np.add.reduceat(made.seconds, edges, axis=0).T  # rounds after the last job count in the last fold
    folds = np.where(made.lost_jobs[:, None] > 0, np.inf, folds)
    same = np.full(len(batch), 1)
    return Tried(np.full(len(batch), batch.family), same * batch.burst, same * batch.window, batch.values, batch.mus,
                 loads(rounds.workers, batch), folds)  # fmt: skip


def search(rounds: Rounds, jobs: int, grid: Grid | None = None, processes: int = 1) -> Tried:
    """Return all candidates of the grid and of its refinement, simulated for `jobs` jobs.

    `processes` above 1 share the batches; the result is the same.
    """
    grid = grid or Grid()
    asked = [batch for batch in batches(rounds.workers, len(rounds.sorted_s), grid) if len(batch)]
    coarse = _evaluated(rounds, jobs, grid.rules, asked, processes)
    finer = [batch for family in grid.families for batch in _finer(coarse, family, rounds.workers, grid)]
    if not finer:
        return coarse
    return _joined([coarse, _evaluated(rounds, jobs, grid.rules, finer, processes)])


def _evaluated(rounds: Rounds, jobs: int, rules: Rules, asked: Sequence[Batch], processes: int) -> Tried:
    work = partial(evaluate, rounds, jobs, rules)
    if processes < 2 or sum(len(batch) for batch in asked) < CHEAP:
        return _joined([work(batch) for batch in asked])
    dear = sorted(range(len(asked)), key=lambda one: -len(asked[one]) * (1 + asked[one].burst))
    with process_pool(processes) as pool:
        made = dict(zip(dear, pool.map(work, [asked[one] for one in dear]), strict=True))
    return _joined([made[one] for one in range(len(asked))])


def _joined(parts: Sequence[Tried]) -> Tried:
    return Tried(*(np.concatenate([getattr(part, name) for part in parts]) for name in Tried.__dataclass_fields__))


def _finer(coarse: Tried, family: str, workers: int, grid: Grid) -> Iterator[Batch]:
    """Yield all values between the neighbours of the best ones of a family, for the best shapes of its bursts."""
    if family not in SEQUENTIAL:
        return
    known = levels(workers, grid.levels_most)
    seen: set[tuple[int, int]] = set()
    for index in coarse.best(coarse.family == family, 50):
        shape = int(coarse.burst[index]), int(coarse.window[index])
        if shape in seen or len(seen) == REFINED or not np.isfinite(coarse.runtime_s[index]):
            continue
        seen.add(shape)
        value, mu = int(coarse.value[index]), float(coarse.mu[index])
        low, high = _neighbours(known, value)
        between = np.unique(np.linspace(low, high, BETWEEN + 2).astype(np.int64)[1:-1])
        between = between[~np.isin(between, known)]
        mus = (mu,) if len(grid.mus) < 2 else (max(0.02, mu - 0.05), mu, mu + 0.05)
        if len(between):
            yield _batch(family, *shape, between, mus)


def _neighbours(known: Array, value: int) -> tuple[int, int]:
    place = int(np.searchsorted(known, value))
    return int(known[max(0, place - 1)]), int(known[min(len(known) - 1, place + 1)])
