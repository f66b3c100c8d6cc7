"""Synchronise less often: how many local steps between two averagings, where communication or jitter is exposed.

Takes recordings, or a table of seconds per round and worker, and replays them with ranks that meet once in H steps
(local SGD, DiLoCo). Communication is then paid once in H, and random delays of different ranks average out before
anybody waits. A rank that is slow for good stays slow: the plan's bound is its mean own work. Proposed is the shortest
interval that saves nine tenths of what the longest allowed one saves: beyond it the risk grows and time hardly falls.

The risk is statistical and no timing shows it: replicas drift apart between averagings. Published runs use an outer
optimizer (Nesterov momentum 0.9, rate 0.7) and up to 500 steps in pre-training. Compare the loss before you trust it.
Where ranks differ in speed for good, they can do unequal numbers of local steps and still meet (FedCompass); the plan
lists them.

Examples:
  skewscope plan local-steps traces/
  skewscope plan local-steps traces/ --most 32 --averaging 0.8
  skewscope plan local-steps --times own_work.csv --comm 0.4 --html plan.html

Worked example: two equal ranks, each late by turns, and 1 s of exposed communication. Every second step is enough to
make delays meet, and halves the communication: 4 s become 2.5 s; four steps reach 2.25 s.

>>> import numpy as np
>>> from skewscope.optimize.speeds import of_times
>>> made = planned(of_times(np.array([[1.0, 3.0], [3.0, 1.0]] * 4), comm_s=1.0), Wanted(most=4))
>>> made.plan["step_by_interval_s"].tolist(), made.plan["interval_steps"], made.lower_bound
([4.0, 2.5, 2.25], 4, 2.0)
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..optimize import fed_compass, local_steps
from ..optimize.speeds import Rounds
from ..plans import Picture, Plan
from ..stats.bootstrap import block_draws, block_rounds, interval
from . import _rounds

Array = np.ndarray[Any, Any]

LEAST_GAIN_RATIO = 0.02
UNEQUAL_RATIO = 1.1  # of the mean own work: from here on unequal local steps pay


class LocalSteps:
    """`skewscope plan local-steps`."""

    name: ClassVar[str] = "local-steps"

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags."""
        _rounds.arguments(parser)
        add = parser.add_argument
        add("--most", type=_rounds.whole, metavar="H", help="longest interval that training allows, steps")
        averaging = "seconds of one averaging of parameters (default: all communication of a step, hidden or not)"
        add("--averaging", type=_rounds.seconds, metavar="S", help=averaging)

    def plan(self, args: argparse.Namespace) -> Plan:
        """Return the plan; raises UsageError or Unreadable."""
        return planned(_rounds.read(args)[0], Wanted(args.most, args.averaging))


@dataclass(frozen=True)
class Wanted:
    """`most` steps between averagings (None: as the recording allows), `averaging_s` of one (None: as recorded)."""

    most: int | None = None
    averaging_s: float | None = None
    least_gain: float = LEAST_GAIN_RATIO


def planned(rounds: Rounds, wanted: Wanted) -> Plan:
    """Return the plan for recorded rounds."""
    exposed = float(rounds.exposed_s.mean())
    averaging = max(exposed, float(np.median(rounds.comm_s))) if wanted.averaging_s is None else wanted.averaging_s
    made = local_steps.intervals(rounds.own_s, exposed, averaging, wanted.most)
    place = made.enough()
    saved = 1 - made.step_s[place] / made.step_s[0]
    place = place if saved > wanted.least_gain else 0
    steps = int(made.steps[place])
    low, high = _range_s(rounds, steps, exposed, averaging)
    bound = min(made.bound_s, float(made.step_s.min()))  # blocks may leave out the last rounds
    return Plan(
        name="local-steps",
        inputs={"workers": len(rounds.workers), "rounds": len(rounds.own_s), "exposed_s": exposed,
                "averaging_s": averaging, "most": wanted.most, "least_gain_ratio": wanted.least_gain},
        objective="step_s", current=_metrics(made, 0, exposed), proposed={
            **_metrics(made, place, averaging / steps if place else exposed), "step_low_s": low, "step_high_s": high},
        verdict=_verdict(made, place, exposed, wanted),
        plan={
            "interval_steps": steps, "intervals": made.steps, "step_by_interval_s": made.step_s,
            "ranks": rounds.workers,
            "risk": local_steps.risk(steps, len(rounds.workers)),
            "together_steps": fed_compass.steps_together(rounds.own_s.mean(axis=0), 1, max(steps, 1)),
        },
        lower_bound=bound, gap=float(made.step_s[place]) / bound - 1 if bound > 0 else None,
        steps=list(_steps(rounds, steps, averaging)) if place else (),
        warnings=(*rounds.warnings, *_warnings(rounds, made, wanted)), pictures=_pictures(made, place),
    )  # fmt: skip


def _metrics(made: local_steps.Intervals, place: int, exposed: float) -> dict[str, float]:
    return {
        "step_s": float(made.step_s[place]), "steps_between_averagings": int(made.steps[place]),
        "exposed_communication_s": exposed,
    }  # fmt: skip


def _range_s(rounds: Rounds, steps: int, exposed: float, averaging: float) -> tuple[float, float]:
    """Return the interval of the mean step, from rounds resampled in blocks that hold whole intervals."""
    count = len(rounds.own_s)
    draws = block_draws(count, max(steps, block_rounds(count, rounds.bursts.mean_rounds)), draws=100)
    once = exposed if steps == 1 else averaging
    return interval(np.array([local_steps.block_s(rounds.own_s[one], steps).mean() + once for one in draws]) / steps)


def _verdict(made: local_steps.Intervals, place: int, exposed: float, wanted: Wanted) -> str:
    if not place:
        return (f"Synchronise every step: averaging less often does not save {wanted.least_gain:.0%} "
                f"(exposed communication {exposed:.3g} s of {made.step_s[0]:.3g} s).")  # fmt: skip
    saved = 1 - made.step_s[place] / made.step_s[0]
    return (f"Average every {made.steps[place]} steps: the step gets {saved:.1%} shorter, if the loss stays as good; "
            "compare it before you rely on it.")  # fmt: skip


def _steps(rounds: Rounds, steps: int, averaging: float) -> Iterator[str]:
    yield f"let each replica do {steps} steps of its own, then average the parameters ({averaging:.3g} s once)"
    yield "keep the inner optimizer's state on each replica; give the average to an outer optimizer"
    yield "compare the loss at equal samples with a synchronous run over at least a few thousand steps"
    mean = rounds.own_s.mean(axis=0)
    if mean.max() > UNEQUAL_RATIO * mean.mean():
        yield ("ranks differ in speed for good: give them unequal local steps (plan.together_steps) or unequal batches "
               "(`skewscope plan batch`), else all wait for the slowest")  # fmt: skip


def _warnings(rounds: Rounds, made: local_steps.Intervals, wanted: Wanted) -> Iterator[str]:
    if wanted.most and made.steps[-1] * 2 <= wanted.most:
        yield f"the recording has {len(rounds.own_s)} rounds, so intervals beyond {made.steps[-1]} steps are not judged"
    if wanted.averaging_s is None and not rounds.comm_s.any():
        yield "no communication was recorded: averaging is taken to cost nothing; give --averaging or --comm"


def _pictures(made: local_steps.Intervals, place: int) -> Sequence[Picture]:
    steps = made.steps.tolist()
    lines = {"replayed": (steps, made.step_s.tolist()), "slowest rank alone": (steps, [made.bound_s] * len(steps))}
    return (
        Picture("lines", "Step time against the steps between averagings",
                f"{made.step_s[place]:.3g} s at {steps[place]} steps; no interval is below {made.bound_s:.3g} s.",
                "steps between averagings", "mean step time, s", lines),
    )  # fmt: skip
