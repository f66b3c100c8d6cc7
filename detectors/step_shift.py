"""Steps become slower (or faster) at one moment and stay so.

Why it hurts
    A job that slows down by a tenth after three days burns a tenth of its GPUs from then on, and averages over the
    whole run hide it.

How it is seen
    A change of level in the series of step times: two stretches of at least 8 steps whose medians differ by 10 % or
    more, by a rank test that single outliers cannot move. Warm-up and planned steps (checkpoint, evaluation) do not
    count. Not to be confused with `step-spike`, single long steps. This room says when; the others say who.

What to do
    Look at what happened at that time: findings of other rooms whose window begins there, throttling, link errors,
    a neighbour on the host, a new data shard, a changed batch size.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from skewscope import subjects
from skewscope.contracts import Finding, Frames, Rule, Window, World
from skewscope.stats.changepoint import Change, changes

from . import _prices, _steps, _worlds


@dataclass(frozen=True)
class StepShift:
    """Thresholds: smallest change of the median, steps on each side, steps in all, warm-up steps, chance of noise."""

    category: ClassVar[str] = "step"
    needs: ClassVar[tuple[str, ...]] = ("step_times",)

    change_ratio: float = 0.10
    segment_count: int = 8
    fewest_count: int = 20
    warmup_count: int = 2
    chance_ratio: float = 0.001

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per change of level."""
        steps = _steps.judged(tables["step_times"], self.warmup_count)
        if len(steps) < self.fewest_count:
            return
        length = steps["duration_ns"].to_numpy() / 1e9
        found = changes(length, fewest=self.segment_count, ratio=self.change_ratio, chance=self.chance_ratio)
        borders = [0, *(change.place for change in found), len(steps)]
        for change, start, end in zip(found, borders, borders[2:], strict=False):
            yield self._finding(steps, change, start, end)

    def _finding(self, steps: pd.DataFrame, change: Change, start: int, end: int) -> Finding:
        slower = change.after > change.before
        slow = slice(change.place, end) if slower else slice(start, change.place)
        part = steps.iloc[slow]
        excess_s = abs(change.after - change.before)
        mean_s = float(steps["duration_ns"].mean()) / 1e9
        lost_s = excess_s * len(part) / len(steps)
        ratio = change.after / change.before if change.before else float("inf")
        at = int(steps["step"].iloc[change.place])
        return Finding(
            "step-shift", subjects.job("job"), "context", "S3" if slower else "S4", 1.0 - change.chance,
            _window(part), lost_s, lost_s / mean_s,
            (
                _prices.evidence("step_time_after", change.after, change.before, None, "s"),
                _prices.evidence("after_over_before", ratio, 1.0, 1.0 + self.change_ratio, "ratio"),
            ),
            f"from step {at} on, steps take {_prices.duration(change.after)} instead of "
            f"{_prices.duration(change.before)} ({ratio:.2f}x)",
            f"look at what changed at step {at}; other findings whose window begins there name the cause",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the last ten minutes are slower than the hour before by the threshold."""
        recent, before = "skewscope:step_seconds:p50_10m", "skewscope:step_seconds:p50_1h offset 10m"
        return Rule(
            "SkewscopeStepShift", f"{recent} / ({before}) >= {1.0 + self.change_ratio:g}",
            600, "warning", "steps have become slower", "steps take {{ $value }} times as long as an hour ago",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: level, a change of 7 %, noise, a shift, planned long steps, one outlier, slow warm-up."""
        jitter = 1.0 + 0.02 * np.sin(np.arange(40) * 2.4)
        level = np.repeat([1.0, 1.3], 20)
        yield World("quiet", _worlds.steps(jitter))
        yield World("near-miss", _worlds.steps(jitter * np.repeat([1.0, 1.07], 20)))
        yield World("noise", _worlds.steps(1.0 + 0.2 * np.sin(np.arange(40) * 2.4)))
        yield World("shift", _worlds.steps(jitter * level), frozenset({"job"}))
        yield World("back-again", _worlds.steps(np.repeat([1.0, 1.3, 1.0], 12)), frozenset({"job"}))
        yield World("planned", _worlds.steps(level, planned=range(20, 40)))
        yield World("outlier", _worlds.steps([1.0] * 20 + [9.0] + [1.0] * 19))
        yield World("warm-up", _worlds.steps([5.0, 3.0] + [1.0] * 30))


def _window(steps: pd.DataFrame) -> Window:
    last = steps.iloc[-1]
    first = steps.iloc[0]
    end = int(last["start_ns"]) + int(last["duration_ns"])
    return Window(int(first["start_ns"]), end, int(first["step"]), int(last["step"]))
