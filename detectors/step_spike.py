"""Single steps take more than twice as long as the steps before them.

Why it hurts
    A few long steps an hour cost little each and much together, and they are the first sign of links that retrain,
    storage that stalls, or a host that swaps.

How it is seen
    A step longer than twice the median of the 50 steps before it, when the steps around it are normal. Warm-up and
    planned steps (checkpoint, evaluation) do not count. Not to be confused with `step-shift`, where steps stay long.

What to do
    Look at which rank was last in those steps and what its host logged at that time; regular spacing means something
    periodic (garbage collection, logging, a cron job, telemetry).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Finding, Frames, Rule, Window, World

from . import _prices, _steps, _worlds


@dataclass(frozen=True)
class StepSpike:
    """Thresholds: times the median before, how many steps before are looked at, longest run, steps, warm-up steps."""

    category: ClassVar[str] = "step"
    needs: ClassVar[tuple[str, ...]] = ("step_times",)

    spike_ratio: float = 2.0
    before_count: int = 50
    run_count: int = 3
    fewest_count: int = 12
    warmup_count: int = 2

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding for all spikes of the job."""
        steps = _steps.judged(tables["step_times"], self.warmup_count)
        if len(steps) < self.fewest_count:
            return
        length = steps["duration_ns"].to_numpy() / 1e9
        usual = _median_before(length, self.before_count)
        spikes = _short_runs(length > self.spike_ratio * usual, self.run_count)
        if not spikes.any():
            return
        excess_s = float((length - usual)[spikes].sum())
        worst = int(np.argmax(np.where(spikes, length / usual, 0.0)))
        number, start = steps["step"].to_numpy()[spikes], steps["start_ns"].to_numpy()[spikes]
        end = int(start[-1] + length[spikes][-1] * 1e9)
        lost_s = excess_s / len(steps)
        listed = ", ".join(map(str, number[:8])) + (" ..." if len(number) > 8 else "")
        yield Finding(
            "step-spike", subjects.job("job"), "context", _prices.severity(lost_s / float(length.mean())), 0.9,
            Window(int(start[0]), end, int(number[0]), int(number[-1])), lost_s, lost_s / float(length.mean()),
            (
                _prices.evidence("worst_step", length[worst], float(usual[worst]), None, "s"),
                _prices.evidence("worst_over_usual", length[worst] / usual[worst], 1.0, self.spike_ratio, "ratio"),
                _prices.evidence("spikes", len(number), 0.0, None, "steps"),
            ),
            f"{len(number)} of {len(steps)} steps took more than {self.spike_ratio:g}x the usual time (step {listed}), "
            f"{_prices.duration(excess_s)} in all",
            "look at which rank came last in those steps and what its host logged then",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the longest step of ten minutes over their median."""
        return Rule(
            "SkewscopeStepSpike",
            f"skewscope:step_seconds:max_10m / skewscope:step_seconds:p50_10m > {self.spike_ratio:g}",
            0, "info", "single steps are long", "a step took {{ $value }} times the usual",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: level, 1.8 times, a spike, a planned one, one in warm-up, a level that stays."""
        yield World("quiet", _worlds.steps([1.0] * 30))
        yield World("near-miss", _worlds.steps([1.0] * 15 + [1.8] + [1.0] * 14))
        yield World("spike", _worlds.steps([1.0] * 15 + [4.0] + [1.0] * 14), frozenset({"job"}))
        yield World("planned", _worlds.steps([1.0] * 15 + [4.0] + [1.0] * 14, planned=[15]))
        yield World("warm-up", _worlds.steps([9.0, 4.0] + [1.0] * 28))
        yield World("shift", _worlds.steps([1.0] * 15 + [3.0] * 15))


def _median_before(length: np.ndarray[Any, Any], before: int) -> np.ndarray[Any, Any]:
    """Return for each step the median of up to `before` steps before it; the first ones look at those after them."""
    fewest = 8
    usual = np.empty(len(length))
    for place in range(len(length)):
        usual[place] = np.median(length[max(0, place - before) : place] if place >= fewest else length[: fewest + 1])
    return usual


def _short_runs(long: np.ndarray[Any, Any], most: int) -> np.ndarray[Any, Any]:
    """Return `long` without the runs of more than `most`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], long, [False]]).astype(np.int8)))
    short = np.zeros(len(long), dtype=bool)
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        short[start:end] = end - start <= most
    return short
