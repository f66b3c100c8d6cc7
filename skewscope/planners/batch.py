"""Re-split the global batch so that slow and fast ranks finish together.

Takes recordings (own work per rank and step comes out of the attribution) or a table of seconds per round and worker.
Says how many samples each data-parallel rank should take, what the step will last, with an interval, and what no split
can be below. Nothing is recommended below a gain of 4 %, and never a split that is slower than today's, unless today's
gives a rank fewer samples than --least or more than --most.

How it works: a worker's own work is a fixed part plus a part per sample. The fixed part is fitted where recordings
with different loads are given (--also), else it is the optimizer's phase, and the interval allows for a quarter more.
The next sample always goes to the worker that would finish it first, which is the optimum in whole samples. The
predicted step is every recorded round replayed with the new loads, so jitter stays in it.

What it does not help: slowness that comes and goes within a few rounds (`skewscope plan backup-workers`), uneven
sequences (`skewscope plan sequence`), pipeline stages (`skewscope plan pipeline`).

Examples:
  skewscope plan batch traces/ --batch 512
  skewscope plan batch traces/ --batch 512 --most 96 --multiple 4 --html plan.html
  skewscope plan batch small-batch/ --also large-batch/ --batch 512
  skewscope plan batch --times own_work.csv --batch 56 --comm 0.02

Worked example: four workers with 14 samples each, the last one half as fast. With 16, 16, 16 and 8 all need 96 ms.

>>> import numpy as np
>>> from skewscope.optimize.speeds import of_times
>>> made = planned(of_times(np.array([[0.084, 0.084, 0.084, 0.168]] * 20)), Wanted(56))
>>> made.plan["samples"], round(made.current["step_s"], 3), round(made.proposed["step_s"], 3)
([16, 16, 16, 8], 0.168, 0.096)
>>> round(made.lower_bound, 3), made.optimal
(0.096, True)
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..optimize import semi_dynamic
from ..optimize.batch_split import Choice, Wanted, choose
from ..optimize.resplit import LEAST_GAIN_RATIO
from ..optimize.speeds import Rounds
from ..plans import Picture, Plan
from . import _rounds

Array = np.ndarray[Any, Any]

FOLLOWED_BURST_ROUNDS = 10.0  # shorter slowness is over before a new split acts
PERCENT = 100
PROVED_RATIO = 1e-9
LISTED = 20


class Batch:
    """`skewscope plan batch`."""

    name: ClassVar[str] = "batch"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        _rounds.arguments(parser)
        add = parser.add_argument
        also = "a recording of the same job with other batch sizes, to measure the fixed part; may be repeated"
        add("--also", action="append", default=[], metavar="PATH", help=also)
        add("--batch", type=_rounds.whole, metavar="N", help="samples of the global batch (default: percents)")
        add("--multiple", type=_rounds.whole, default=1, metavar="M", help="samples per rank in multiples of this")
        add("--least", metavar="N[,N...]", help="samples that a rank takes at least (default: one multiple)")
        add("--most", metavar="N[,N...]", help="samples that fit into a rank's memory")
        add("--fixed", type=_rounds.seconds, metavar="S", help="seconds of own work that do not grow with the samples")
        gain = "least gain that is worth a change (default: %(default)s)"
        add("--gain", type=_rounds.ratio, default=LEAST_GAIN_RATIO, metavar="SHARE", help=gain)

    def plan(self, args: argparse.Namespace) -> Plan:
        """Return the plan; raises UsageError or Unreadable."""
        rounds, *others = _rounds.read(args)
        others += [_rounds.recorded([Path(path)]) for path in args.also]
        workers = len(rounds.workers)
        wanted = Wanted(
            args.batch or PERCENT * workers, args.multiple, _rounds.limits(args.least, workers, "--least"),
            _rounds.limits(args.most, workers, "--most"), args.fixed, args.gain,
        )  # fmt: skip
        return planned(rounds, wanted, others, "samples" if args.batch else "percent of an even share")


def planned(rounds: Rounds, wanted: Wanted, also: Sequence[Rounds] = (), unit: str = "samples") -> Plan:
    """Return the plan for recorded rounds; raises UsageError where the limits cannot hold the batch.

    `also` are rounds with other loads, which tell the fixed part of the work.
    """
    made = choose(rounds, wanted, also)
    gap = float(made.after_s.mean()) / made.bound_s - 1
    bounds = {"step_low_s": made.low_s, "step_high_s": made.high_s}
    return Plan(
        name="batch",
        inputs={
            "workers": len(rounds.workers), "rounds": len(rounds.own_s), "batch": wanted.batch, "unit": unit,
            "multiple": wanted.multiple, "least": wanted.least, "most": wanted.most,
            "least_gain_ratio": wanted.least_gain, "fixed_part_measured": made.speeds.measured,
        },
        objective="step_s",
        current=_metrics(made.before_s, made.own_s(rounds, made.now)),
        proposed={**_metrics(made.after_s, made.own_s(rounds, made.best)), **bounds},
        verdict=_verdict(rounds, made, unit) if made.changed else _nothing(rounds, wanted),
        plan=_contents(rounds, made, wanted, unit),
        lower_bound=made.bound_s, gap=max(gap, 0.0), optimal=gap <= PROVED_RATIO,
        steps=list(_steps(rounds, made, unit)) if made.changed else (),
        warnings=(*rounds.warnings, *_warnings(rounds, made)), pictures=_pictures(rounds, made, unit),
    )  # fmt: skip


def _metrics(length: Array, own: Array) -> dict[str, float]:
    return {
        "step_s": float(length.mean()), "step_p50_s": float(np.median(length)),
        "step_p99_s": float(np.quantile(length, 0.99)),
        "slowest_over_mean_ratio": float(own.max() / own.mean()) if own.any() else 1.0,
    }  # fmt: skip


def _contents(rounds: Rounds, made: Choice, wanted: Wanted, unit: str) -> dict[str, Any]:
    followed = semi_dynamic.follow(rounds.own_s / (rounds.shares() * len(rounds.workers)))
    per = {name: getattr(made.speeds, name) / wanted.multiple for name in ("per_sample_s", "low_s", "high_s")}
    return {
        "ranks": rounds.workers, "samples": made.best.tolist(), "samples_now": made.now.tolist(), "unit": unit,
        "weights": made.best / made.best.sum(), "fixed_s": made.speeds.fixed_s, "per_sample_s": per["per_sample_s"],
        "per_sample_low_s": per["low_s"], "per_sample_high_s": per["high_s"], "saved_share": made.saved_share,
        "mean_burst_rounds": rounds.bursts.mean_rounds,
        "step_if_split_anew_each_round_s": float((followed.durations_s + rounds.exposed_s).mean()),
    }  # fmt: skip


def _verdict(rounds: Rounds, made: Choice, unit: str) -> str:
    moved = made.best - made.now
    place = int(np.argmax(np.abs(moved)))
    others = int((moved != 0).sum()) - 1
    more = f", and {others} others change" if others else ""
    saved = made.saved_share
    length = f"{abs(saved):.1%} {'shorter' if saved > 0 else 'longer'}" if round(abs(saved), 3) else "no longer"
    return (f"Re-split: rank {rounds.workers[place]} takes {made.best[place]} instead of {made.now[place]} ({unit})"
            f"{more}; the step gets {length}.")  # fmt: skip


def _nothing(rounds: Rounds, wanted: Wanted) -> str:
    seen = rounds.bursts
    text = f"Keep the split: no other one shortens the step by {wanted.least_gain:.0%}."
    if seen.stretches and seen.mean_rounds < FOLLOWED_BURST_ROUNDS:
        text += (f" Slowness comes and goes, {seen.mean_rounds:.1f} rounds at a time, faster than a split can follow: "
                 "see `skewscope plan backup-workers`.")  # fmt: skip
    return text


def _steps(rounds: Rounds, made: Choice, unit: str) -> Iterator[str]:
    moved = np.abs(made.best - made.now)
    for place in np.argsort(-moved, kind="stable")[:LISTED]:
        if moved[place]:
            yield f"rank {rounds.workers[place]}: {made.best[place]} instead of {made.now[place]} ({unit})"
    if int((moved > 0).sum()) > LISTED:
        yield f"and {int((moved > 0).sum()) - LISTED} ranks more: plan.samples in the JSON"
    yield ("weigh the gradients: each rank's mean loss times samples x workers / batch before backward, because the "
           "all-reduce averages with 1 / workers")  # fmt: skip
    yield ("measure again after some fifty steps; smooth speeds with an exponential mean (0.5), and change the split "
           f"only above a predicted gain of {LEAST_GAIN_RATIO:.0%}")  # fmt: skip


def _warnings(rounds: Rounds, made: Choice) -> Iterator[str]:
    seen = rounds.bursts
    if made.barred.any():
        place = int(np.flatnonzero(made.barred)[0])
        limit = "fewer than --least" if made.barred[place] < 0 else "more than --most"
        others = int((made.barred != 0).sum()) - 1
        more = f", and so with {others} others" if others else ""
        yield (f"today's split is not allowed: rank {rounds.workers[place]} takes {made.now[place]}, {limit}{more}; "
               "the plan holds the limits, whatever the step lasts")  # fmt: skip
    if not made.speeds.measured:
        yield ("one load only was measured: how much of the work does not shrink with the samples is assumed, not "
               "known; record a second batch size and give it with --also")  # fmt: skip
    if made.changed and seen.open_stretches and seen.stretches > seen.open_stretches:
        yield "slowness began or ended within the recording: record longer before changing the split for good"
    if not np.isfinite(rounds.load).all():
        yield "the tokens of each rank are not known: an even split is taken to be today's"


def _pictures(rounds: Rounds, made: Choice, unit: str) -> Sequence[Picture]:
    ranks = [str(one) for one in rounds.workers]
    own, then = made.own_s(rounds, made.now), made.own_s(rounds, made.best)
    lengths = {name: (list(range(len(one))), one.tolist())
               for name, one in (("now", made.before_s), ("planned", made.after_s))}  # fmt: skip
    return (
        Picture("bars", "Own work per rank", f"The slowest rank needs {own.max():.3g} s now, {then.max():.3g} s then.",
                "rank", "own work per step, s", {"now": (ranks, own.tolist()), "planned": (ranks, then.tolist())}),
        Picture("bars", "Samples per rank", "Each rank's part of the global batch.", "rank", unit,
                {"now": (ranks, made.now.tolist()), "planned": (ranks, made.best.tolist())}),
        Picture("lines", "Every recorded round, now and replayed with the new split",
                f"Mean {made.before_s.mean():.3g} s now, {made.after_s.mean():.3g} s then.", "recorded round",
                "step time, s", lengths),
    )  # fmt: skip
