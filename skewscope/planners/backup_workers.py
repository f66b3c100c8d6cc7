"""Close each step at the k-th result instead of the last: how many slow workers not to wait for.

Takes recordings, or a table of seconds per round and worker, and replays every round with 0, 1, 2 .. results dropped.
Dropped work is not free: the time is counted per kept data, so dropping b of n workers must save more than b/n of the
round. Short random slowness is what it helps; a rank that is always slow would be dropped always, and its data never
learnt. Nothing is recommended below a gain of 2 %, nor beyond the share of data that may be lost (--drop).

Besides the fixed number, it says how many results to wait for as the noise of the gradients changes in training
(dynamic backup workers, arXiv 2004.14696): few while gradients agree, more when they are mostly noise. The noise is
V / |grad F|^2: the variance of one worker's gradient over the squared length of the mean one.

Examples:
  skewscope plan backup-workers traces/
  skewscope plan backup-workers --times delays.csv --comm 0.1 --drop 0.05 --html plan.html
  skewscope plan backup-workers --times delays.csv --noise 10 --curvature 0.1

Worked example: of ten workers one, another each round, needs 3 s and not 1 s. Dropping one result a round leaves 1 s,
for nine tenths of the data: 1.11 s for all of it, and not 3 s.

>>> import numpy as np
>>> from skewscope.optimize.speeds import of_times
>>> times = np.where(np.eye(10, dtype=bool), 3.0, 1.0)
>>> made = planned(of_times(times), Wanted())
>>> made.plan["backups"], round(made.proposed["step_per_kept_s"], 2), made.current["step_per_kept_s"]
(1, 1.11, 3.0)
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..optimize import backup, dynamic_backup
from ..optimize.speeds import Rounds
from ..plans import Picture, Plan
from ..stats.bootstrap import block_draws, block_rounds, interval
from . import _rounds

Array = np.ndarray[Any, Any]

LEAST_GAIN_RATIO = 0.02
DROP_RATIO = 0.1
CURVATURE_RATIO = 0.1  # rate times smoothness of the loss: well below 2, where descent ends
NOISES = (0.1, 1.0, 10.0, 100.0, 1000.0)
ALWAYS_DROPPED_RATIO = 0.5


class BackupWorkers:
    """`skewscope plan backup-workers`."""

    name: ClassVar[str] = "backup-workers"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        _rounds.arguments(parser)
        add = parser.add_argument
        drop = "largest share of a step's data that may be lost (default: %(default)s)"
        add("--drop", type=_rounds.ratio, default=DROP_RATIO, metavar="SHARE", help=drop)
        add("--noise", type=_rounds.seconds, metavar="V", help="measured V / |grad F|^2, for the dynamic number")
        curve = "learning rate times smoothness of the loss (default: %(default)s)"
        add("--curvature", type=_rounds.ratio, default=CURVATURE_RATIO, metavar="C", help=curve)

    def plan(self, args: argparse.Namespace) -> Plan:
        """Return the plan; raises UsageError or Unreadable."""
        rounds = _rounds.read(args)[0]
        return planned(rounds, Wanted(args.drop, args.noise, args.curvature))


@dataclass(frozen=True)
class Wanted:
    """`drop_ratio` of the data may be lost; `noise` and `curvature` as the flags say."""

    drop_ratio: float = DROP_RATIO
    noise: float | None = None
    curvature: float = CURVATURE_RATIO
    least_gain: float = LEAST_GAIN_RATIO


def planned(rounds: Rounds, wanted: Wanted) -> Plan:
    """Return the plan for recorded rounds."""
    made = backup.static(rounds.own_s, rounds.exposed_s)
    workers = len(rounds.workers)
    allowed = min(int(wanted.drop_ratio * workers + 1e-9), workers - 1)  # somebody is waited for
    best = int(np.argmin(made.per_kept_s[: allowed + 1]))
    saved = 1 - made.per_kept_s[best] / made.per_kept_s[0]
    chosen = best if saved > wanted.least_gain else 0
    low, high = _saved_range(rounds, best)
    dropped = backup.dropped_share(rounds.own_s, chosen) if chosen else np.zeros(workers)
    bound = _bound_s(rounds, allowed)
    return Plan(
        name="backup-workers",
        inputs={"workers": workers, "rounds": len(rounds.own_s), "drop_ratio": wanted.drop_ratio,
                "least_gain_ratio": wanted.least_gain, "curvature": wanted.curvature, "noise": wanted.noise},
        objective="step_per_kept_s", current=_metrics(made, 0, workers), proposed=_metrics(made, chosen, workers),
        verdict=_verdict(made, best, chosen, (low, high), wanted),
        plan={
            "backups": chosen, "wait_for": workers - chosen, "best_within_limit": best, "best_without_limit": made.best,
            "saved_share_low": low, "saved_share_high": high, "step_s": made.round_s, "per_kept_s": made.per_kept_s,
            "ranks": rounds.workers, "dropped_share": dropped, "dynamic": _dynamic(rounds, wanted),
            "mean_burst_rounds": rounds.bursts.mean_rounds,
        },
        lower_bound=bound, gap=made.per_kept_s[chosen] / bound - 1, steps=list(_steps(chosen, workers)),
        warnings=(*rounds.warnings, *_warnings(rounds, dropped)), pictures=_pictures(rounds, made, dropped, chosen),
    )  # fmt: skip


def _metrics(made: backup.Backups, backups: int, workers: int) -> dict[str, float]:
    return {
        "step_per_kept_s": float(made.per_kept_s[backups]), "step_s": float(made.round_s[backups]),
        "lost_data_share": backups / workers,
    }  # fmt: skip


def _saved_range(rounds: Rounds, backups: int) -> tuple[float, float]:
    """Return the interval of the share saved per kept data, from rounds resampled in blocks."""
    count = len(rounds.own_s)
    draws = block_draws(count, block_rounds(count, rounds.bursts.mean_rounds))
    now, then = (backup.per_kept_s(rounds.own_s, rounds.exposed_s, one)[draws].mean(axis=1) for one in (0, backups))
    return interval(1 - then / now)


def _bound_s(rounds: Rounds, most: int) -> float:
    """Return what no number can be below: the best number for each round, known before it began."""
    every = [backup.per_kept_s(rounds.own_s, rounds.exposed_s, one) for one in range(most + 1)]
    return float(np.min(every, axis=0).mean())


def _dynamic(rounds: Rounds, wanted: Wanted) -> list[dict[str, float]]:
    """Return how many results to wait for at several noises (and at the measured one)."""
    arrival = (backup.arrivals_s(rounds.own_s) + rounds.exposed_s[:, None]).mean(axis=0)
    noises = NOISES if wanted.noise is None else (wanted.noise,)
    return [{"noise": noise, "wait_for": dynamic_backup.best_workers(
        dynamic_backup.gain(dynamic_backup.Noise(noise, 1.0), len(arrival), 1.0, wanted.curvature), arrival)}
        for noise in noises]  # fmt: skip


def _verdict(made: backup.Backups, best: int, chosen: int, saved: tuple[float, float], wanted: Wanted) -> str:
    if chosen:
        gain = 1 - made.per_kept_s[chosen] / made.per_kept_s[0]
        some = "1 slow worker" if chosen == 1 else f"{chosen} slow workers"
        return (f"Do not wait for {some} a step: {gain:.1%} less time per kept data "
                f"({saved[0]:.1%} to {saved[1]:.1%}).")  # fmt: skip
    text = f"Wait for everybody: dropping results does not save {wanted.least_gain:.0%} per kept data"
    if made.best > best and 1 - made.per_kept_s[made.best] / made.per_kept_s[0] > wanted.least_gain:
        return f"{text} within --drop {wanted.drop_ratio:g}; {made.best} dropped would, if that much data may be lost."
    return f"{text}."


def _steps(chosen: int, workers: int) -> Iterator[str]:
    if not chosen:
        return
    yield f"close the step when {workers - chosen} of {workers} gradients are in, and drop the rest"
    yield f"divide the sum by the {workers - chosen} results that came, so that the step keeps its length"
    yield ("compare the loss per sample over a few hundred steps: a worker dropped often takes its part of the data "
           "with it, so shuffle data across workers")  # fmt: skip


def _warnings(rounds: Rounds, dropped: Array) -> Iterator[str]:
    often = rounds.workers[dropped > ALWAYS_DROPPED_RATIO]
    if len(often):
        yield (f"ranks {', '.join(map(str, often))} would be dropped in most steps and their data never learnt: they "
               "are slow for good; re-split (`skewscope plan batch`) or drain them instead")  # fmt: skip


def _pictures(rounds: Rounds, made: backup.Backups, dropped: Array, chosen: int) -> Sequence[Picture]:
    numbers = list(range(len(made.round_s)))
    ranks = [str(one) for one in rounds.workers]
    return (
        Picture("lines", "Time against the number of results not waited for",
                f"Per kept data, {made.best} dropped is the least: {made.per_kept_s[made.best]:.3g} s.",
                "results not waited for, workers", "time, s",
                {"per kept data": (numbers, made.per_kept_s.tolist()), "of a step": (numbers, made.round_s.tolist())}),
        Picture("bars", "Who would be dropped", f"Share of the steps in which each rank is among the {chosen} dropped.",
                "rank", "share of steps, ratio", {"dropped": (ranks, dropped.tolist())}),
    )  # fmt: skip
