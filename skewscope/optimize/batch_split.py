"""The split of a batch that recorded rounds ask for, what it would have made of them, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import UsageError
from ..stats.bootstrap import block_draws, block_rounds, interval
from . import resplit
from .speeds import Rounds, Speeds, fit, predicted_s

Array = np.ndarray[Any, Any]

UNKNOWN_FIXED_RATIO = 0.25  # of the own work, as a worst case where the fixed part was not measured
TINY_S = 1e-12


@dataclass(frozen=True)
class Wanted:
    """What is asked for, in samples: the global `batch`, `multiple` of which every part is, limits [workers] or None.

    `fixed_s` overrides the fixed part of every worker; a split that gains less than `least_gain` is not proposed.
    """

    batch: int
    multiple: int = 1
    least: Array | None = None
    most: Array | None = None
    fixed_s: float | None = None
    least_gain: float = resplit.LEAST_GAIN_RATIO


@dataclass(frozen=True)
class Choice:
    """`now` and `best` [workers] in samples; `before_s` and `after_s` [rounds] the recorded rounds with either.

    `barred` [workers] says whose samples of today are fewer than allowed (-1), more (1), or neither (0). The mean round
    lies in `low_s` .. `high_s` with nine in ten; no split's can be below `bound_s`. `speeds` are per unit of `multiple`
    samples.
    """

    now: Array
    best: Array
    before_s: Array
    after_s: Array
    low_s: float
    high_s: float
    bound_s: float
    speeds: Speeds
    barred: Array

    @property
    def changed(self) -> bool:
        """Return whether another split than today's is proposed."""
        return bool((self.best != self.now).any())

    @property
    def saved_share(self) -> float:
        """Return by which share the mean round gets shorter."""
        return 1.0 - float(self.after_s.mean()) / float(self.before_s.mean())

    def own_s(self, rounds: Rounds, samples: Array) -> Array:
        """Return the median own work of each worker with a split `samples`, [workers]."""
        own = np.median(rounds.own_s, axis=0)
        return np.asarray(self.speeds.fixed_s + np.maximum(own - self.speeds.fixed_s, 0) * samples / self.now)


def choose(rounds: Rounds, wanted: Wanted, also: Sequence[Rounds] = ()) -> Choice:
    """Return the best split of two tried, by median and by mean speeds, or today's where neither gains enough.

    Today's is no choice where it breaks the limits. `also` are rounds with other loads, which only tell how much of the
    work does not grow with the load. Raises UsageError where batch, multiple and limits cannot go together.

    >>> from .speeds import of_times
    >>> choose(of_times(np.array([[1.0, 1.0, 1.0, 2.0]] * 8)), Wanted(56)).best.tolist()
    [16, 16, 16, 8]
    """
    workers, units = len(rounds.workers), _units(wanted, len(rounds.workers))
    now = whole_parts(rounds.shares().mean(axis=0) * units)
    made = fit(rounds, units, None if wanted.fixed_s is None else np.full(workers, wanted.fixed_s), also)
    mean_s = (np.maximum(rounds.own_s - made.fixed_s, 0.0) / (rounds.shares() * units)).mean(axis=0)
    least = None if wanted.least is None else -(-wanted.least // wanted.multiple)
    most = None if wanted.most is None else wanted.most // wanted.multiple
    splits = [resplit.resplit(made.fixed_s, np.maximum(per_s, TINY_S), units, least, most)
              for per_s in (made.per_sample_s, mean_s)]  # fmt: skip
    before = predicted_s(rounds, made, units, now)
    after = [predicted_s(rounds, made, units, split.samples) for split in splits]
    place = int(np.argmin([float(one.mean()) for one in after]))
    best, then = splits[place].samples, after[place]
    barred = _barred(now * wanted.multiple, wanted)
    if not barred.any() and not resplit.worth_it(float(before.mean()), float(then.mean()), wanted.least_gain):
        best, then = now, before
    low, high = _range_s(rounds, made, units, best)
    # The mean over rounds of the slowest worker is no less than the slowest worker's mean.
    bound = splits[1].bound_s + float(rounds.exposed_s.mean())
    return Choice(now * wanted.multiple, best * wanted.multiple, before, then, low, high, bound, made, barred)


def _barred(now: Array, wanted: Wanted) -> Array:
    below = now < (0 if wanted.least is None else wanted.least)
    above = now > (np.inf if wanted.most is None else wanted.most)
    return np.asarray(above.astype(np.int64) - below)


def _units(wanted: Wanted, workers: int) -> int:
    if wanted.batch % wanted.multiple:
        raise UsageError(f"a batch of {wanted.batch} is no multiple of {wanted.multiple}")
    units = wanted.batch // wanted.multiple
    if units < workers:
        raise UsageError(f"a batch of {wanted.batch} in parts of {wanted.multiple} is not one part for each of the "
                         f"{workers} workers")  # fmt: skip
    return units


def whole_parts(parts: Array) -> Array:
    """Return whole numbers near `parts` [n] with the same sum, none below 1: the largest remainders are rounded up.

    >>> whole_parts(np.array([1.5, 1.2, 1.3])).tolist()
    [2, 1, 1]
    """
    made = np.floor(parts + 1e-9).astype(np.int64)
    left = int(round(float(parts.sum()))) - int(made.sum())
    made[np.argsort(made - parts, kind="stable")[:left]] += 1
    while (made < 1).any():
        made[int(np.argmax(made))] -= 1
        made[int(np.argmin(made))] += 1
    return np.asarray(made)


def _range_s(rounds: Rounds, speeds: Speeds, units: int, best: Array) -> tuple[float, float]:
    """Return the interval of the mean round: rounds resampled in blocks, the fixed part uncertain if not measured."""
    fixed = [speeds.fixed_s]
    if not speeds.measured:
        fixed.append(speeds.fixed_s + UNKNOWN_FIXED_RATIO * np.median(rounds.own_s, axis=0))
    count = len(rounds.own_s)
    draws = block_draws(count, block_rounds(count, rounds.bursts.mean_rounds))
    ends = []
    for one in fixed:
        after = predicted_s(rounds, replace(speeds, fixed_s=one), units, best)
        ends.append(interval(after[draws].mean(axis=1)))
    return min(low for low, _ in ends), max(high for _, high in ends)
