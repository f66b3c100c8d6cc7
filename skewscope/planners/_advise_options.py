"""One remedy each, replayed on recorded rounds: what every round would have lasted with it, and what must hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..optimize import backup, resplit, semi_dynamic
from ..optimize.batch_split import TINY_S
from ..optimize.speeds import Rounds, Speeds, predicted_s
from ..stats.bursts import SLOW_RATIO

Array = np.ndarray[Any, Any]

MOST_ROUNDS, MOST_CELLS = 480, 1_000_000  # the latest rounds; enough for bursts, and seconds on 10,000 workers
PERCENT = 100
CHRONIC_SHARE, LASTING_ROUNDS = 0.5, 10  # of the rounds; rounds up to the last one
DRAIN_RATIO = 5.0  # from here on a worker's own part of the batch is not worth keeping it
MOST_DRAINED_SHARE = 0.25
ALWAYS_DROPPED_RATIO = 0.5
RESTART = "one restart from the last checkpoint"


@dataclass(frozen=True)
class Option:
    """A remedy: `step_s` [rounds] seconds per whole batch with it, in the order of the recorded rounds.

    `needs` is the assumption that would break it; `refused` says why it is not to be had here, "" where it is;
    `range_s` are the ends of the seconds saved where they do not come from rounds drawn again.
    """

    remedy: str
    planner: str
    action: str
    step_s: Array
    needs: str
    cost: str
    risk: str
    params: Mapping[str, Any] = field(default_factory=dict)
    refused: str = ""
    range_s: tuple[float, float] | None = None


@dataclass(frozen=True)
class Allowed:
    """What training allows: a share of each step's data that may be lost, and jobs in flight (None: as many)."""

    drop_ratio: float = 0.1
    jobs: int | None = None


def bounded(rounds: Rounds) -> Rounds:
    """Return the latest rounds, so few that every remedy is replayed within seconds."""
    workers = len(rounds.workers)
    count = min(len(rounds.own_s), MOST_ROUNDS, max(20, MOST_CELLS // workers))
    last = slice(len(rounds.own_s) - count, None)
    return replace(rounds, own_s=rounds.own_s[last], step_s=rounds.step_s[last], load=rounds.load[last],
                   comm_s=rounds.comm_s[last])  # fmt: skip


def today_s(rounds: Rounds) -> Array:
    """Return what every recorded round lasted, [rounds]: the slowest worker, and what nothing hid."""
    return np.asarray(rounds.own_s.max(axis=1) + rounds.exposed_s)


def chronic(rounds: Rounds) -> Array:
    """Return the places of workers that are slow for good: in most rounds, or since at least ten rounds until the end.

    >>> from skewscope.optimize.speeds import of_times
    >>> chronic(of_times(np.array([[1.0, 1.0, 2.0]] * 12))).tolist()
    [2]
    """
    slow = rounds.own_s > SLOW_RATIO * np.median(rounds.own_s, axis=1, keepdims=True)
    lasting = slow[-LASTING_ROUNDS:].all(axis=0) & (len(slow) >= LASTING_ROUNDS)
    return np.flatnonzero((slow.mean(axis=0) > CHRONIC_SHARE) | lasting)


def measured(rounds: Rounds, allowed: Allowed) -> Iterator[Option]:
    """Yield the remedies that move or drop work between data-parallel workers, the simplest first."""
    yield resplit_option(rounds)
    if allowed.drop_ratio > 0:
        yield backup_option(rounds, allowed)
    if (drained := drain_option(rounds)) is not None:
        yield drained


def resplit_option(rounds: Rounds) -> Option:
    """Return the re-split of the batch: once for all, or between steps, whichever the rounds favour.

    The split of each half of the rounds comes from the other half, and the one between steps only knows the steps
    before, so neither has seen the rounds that judge it.
    """
    once, often = _once_s(rounds), _followed(rounds)
    if float(once.mean()) <= float(often.durations_s.mean()):
        made, shares, mode = once, _split(rounds, rounds) / (PERCENT * len(rounds.workers)), "once"
    else:
        made, shares, mode = often.durations_s, often.shares[-1], "between-steps"
    moved = _most_moved(rounds, shares)
    return Option(
        "re-split", "batch", "reweight", made,
        "gradients are averaged with the samples as weights, and slowness lasts longer than a few steps",
        "none beyond new batch sizes per rank", "the slow rank still has to hold its part in memory",
        {"split": mode, "share_of_even_by_rank": moved},
    )  # fmt: skip


def _followed(rounds: Rounds) -> semi_dynamic.Followed:
    even = np.maximum(rounds.own_s - rounds.fixed_s, 0.0) / (rounds.shares() * len(rounds.workers))
    made = semi_dynamic.follow(even, float(rounds.exposed_s.mean() + rounds.fixed_s.max()))
    return made if made.changed_count else made._replace(durations_s=today_s(rounds))


def _split(rounds: Rounds, known: Rounds) -> Array:
    """Return the split in percents of an even share, [workers], that the rounds `known` ask for."""
    units = PERCENT * len(rounds.workers)
    per = np.maximum(known.own_s - known.fixed_s, 0.0) / (known.shares() * units)
    return np.asarray(resplit.resplit(rounds.fixed_s, np.maximum(np.median(per, axis=0), TINY_S), units).samples)


def _once_s(rounds: Rounds) -> Array:
    """Return the rounds with one split for all, each half's made of the other half, [rounds]."""
    half = len(rounds.own_s) // 2
    if not half:
        return today_s(rounds)
    parts = [_rows(rounds, slice(0, half)), _rows(rounds, slice(half, None))]
    return np.concatenate([_with_split(one, _split(one, other)) for one, other in (parts, parts[::-1])])


def _with_split(rounds: Rounds, samples: Array) -> Array:
    units = PERCENT * len(rounds.workers)
    none = np.zeros(len(rounds.workers))
    return predicted_s(rounds, Speeds(rounds.fixed_s, none, none, none, measured=False), units, samples)


def _rows(rounds: Rounds, rows: slice) -> Rounds:
    return replace(rounds, own_s=rounds.own_s[rows], step_s=rounds.step_s[rows], load=rounds.load[rows],
                   comm_s=rounds.comm_s[rows])  # fmt: skip


def _most_moved(rounds: Rounds, shares: Array) -> dict[str, float]:
    """Return the few ranks whose part changes most: rank to its part, 1 an even one."""
    part = shares * len(shares)
    order = np.argsort(-np.abs(part - 1), kind="stable")[:8]
    return {str(rounds.workers[one]): round(float(part[one]), 3) for one in order if abs(part[one] - 1) > 0.01}


def backup_option(rounds: Rounds, allowed: Allowed) -> Option:
    """Return the best number of results not to wait for, time per kept data; refused where somebody is dropped always.

    >>> from skewscope.optimize.speeds import of_times
    >>> made = backup_option(of_times(np.where(np.eye(20, dtype=bool), 3.0, 1.0)), Allowed())
    >>> made.params["drop_per_step"], round(float(made.step_s[0]), 4), made.refused
    (1, 1.0526, '')
    """
    workers = len(rounds.workers)
    most = int(allowed.drop_ratio * workers + 1e-9)
    per_kept = backup.static(rounds.own_s, rounds.exposed_s).per_kept_s
    fit = _to_drop(rounds, most)
    best = min(fit, key=lambda one: float(per_kept[one]), default=1)
    refused = ""
    if most < 1:
        refused = (
            f"dropping 1 of {workers} loses {1 / workers:.1%} of a step's data, {allowed.drop_ratio:.1%} may be lost"
        )
    elif not fit:
        refused = "the same rank would be dropped in most steps, and its data never learnt"
    return Option(
        "backup worker", "backup-workers", "drop-slowest",
        backup.per_kept_s(rounds.own_s, rounds.exposed_s, min(best, workers - 1)),
        f"training bears to lose {best / workers:.2%} of each step's data, and late results can be left behind (an "
        "all-reduce waits for everybody)",
        "a trainer that closes a step without everybody", "a rank that is dropped often takes its data with it",
        {"drop_per_step": best, "wait_for": workers - best}, refused,
    )  # fmt: skip


def _to_drop(rounds: Rounds, most: int) -> list[int]:
    """Return the numbers up to `most`, a few of many, at which nobody is dropped in most rounds."""
    tried = np.unique(np.geomspace(1, most, 24).astype(int)).tolist() if most else []
    return [one for one in tried if backup.dropped_share(rounds.own_s, one).max() <= ALWAYS_DROPPED_RATIO]


def drain_option(rounds: Rounds) -> Option | None:
    """Return the draining of workers that are slow for good; the others take their part. None where there are none.

    A spare host would do without the larger part: `step_with_spare_s`.
    """
    workers, slow = len(rounds.workers), chronic(rounds)
    if not len(slow):
        return None
    kept = np.setdiff1d(np.arange(workers), slow)
    grown = (rounds.own_s[:, kept] - rounds.fixed_s[kept]) * workers / max(len(kept), 1) + rounds.fixed_s[kept]
    with_spare = rounds.own_s[:, kept].max(axis=1) + rounds.exposed_s
    many = len(slow) > MOST_DRAINED_SHARE * workers
    return Option(
        "drain", "none", "exclude-next", np.asarray(grown.max(axis=1) + rounds.exposed_s),
        "the slowness stays with the host and does not follow the job, and the others have memory for its part",
        f"{RESTART}; a spare host saves a little more", "the cause may follow the job: validate the host before",
        {"ranks": [int(one) for one in rounds.workers[slow]], "step_with_spare_s": float(with_spare.mean())},
        "too many ranks are slow to do without them" if many else "",
    )  # fmt: skip


def ordered(options: list[Option], rounds: Rounds) -> list[Option]:
    """Return the options in the order of preference among equals; a worker five times as slow is rather drained."""
    slow = chronic(rounds)
    if not len(slow):
        return options
    others = max(float(np.median(np.median(rounds.own_s, axis=1))), TINY_S)
    late = float((np.median(rounds.own_s[-LASTING_ROUNDS:, slow], axis=0) / others).min())
    if late < DRAIN_RATIO:
        return options
    return sorted(options, key=lambda one: one.remedy != "drain")
