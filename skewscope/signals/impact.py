"""What a cause costs the job that runs on it, from the metrics of its ranks.

In synchronous training all ranks have the same step time; what tells them apart is the time in collectives, which is
waiting for the rank that comes last. So a rank is late by as much as it waits less than the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skewscope.contracts import Frames

from .view import Signal, remembered, signal

Array = np.ndarray[Any, Any]
LEAST_BEFORE = 4  # windows that say what was usual before
BURST = 1.5  # times the usual shift: more in one window is something else


@dataclass(frozen=True)
class JobCost:
    """One job: `step_s` [windows] is its mean step time, `waiting_s` [windows, ranks] a step's time in collectives."""

    job: str
    t_ns: Array
    step_s: Array
    waiting_s: Array
    rank: Array
    node: Array
    device: Array

    def stalled(self, mask: Array) -> tuple[float, float]:
        """Return the same for moments that stop the job now and then: what the mean step is longer by since the first.

        A stall may end windows later than its cause, so the windows of `mask` themselves say little.
        """
        known = np.isfinite(self.step_s)
        if not mask.any() or self.before(mask).sum() < LEAST_BEFORE:
            return 0.0, 0.0
        since_s, usual_s = _mean(self.step_s[known & _span(mask, after=1)]), _mean(self.step_s[self.before(mask)])
        lost_s = max(0.0, since_s - usual_s)
        return lost_s, lost_s / since_s if since_s > 0 else 0.0

    def lost(self, ranks: Sequence[int], mask: Array) -> tuple[float, float]:
        """Return (seconds a step, share of the step) that these ranks cost from the first to the last of `mask`.

        `mask` is [windows]. What comes in bursts costs nothing between them, so its price is smaller than a burst's.
        The shift of the job's own step time counts, held between what peers allow: repaired, the ranks would come no
        earlier than the next late one, and at best like the median. Without windows before it the lower bound counts.
        With no ranks (a link, a switch) only the shift does. (0, 0) where nothing is known.
        """
        mask = mask & np.isfinite(self.step_s)
        if not mask.any():
            return 0.0, 0.0
        shift_s = self._shift_s(mask)
        lost_s = shift_s if not len(ranks) else self._held(shift_s, *self._excess_s(ranks, mask))
        lost_s = max(0.0, lost_s if np.isfinite(lost_s) else 0.0)
        span = _span(mask) & np.isfinite(self.step_s)
        lost_s *= self._duty(mask, span, shift_s)
        step_s = _mean(self.step_s[span])
        return lost_s, lost_s / step_s if step_s > 0 else 0.0

    def _duty(self, mask: Array, span: Array, shift_s: float) -> float:
        """Return how much of the shift there is over all steps of `span`: 1 where it is there all the time."""
        steps = 1 / self.step_s[span]  # of equal windows
        if not shift_s > 0:
            return float(steps[mask[span]].sum() / steps.sum())
        usual_s = float(np.median(self.step_s[self.before(mask)]))
        excess_s = np.clip(self.step_s[span] - usual_s, 0.0, BURST * shift_s)  # a checkpoint is no part of it
        return min(1.0, float((excess_s * steps).sum() / steps.sum()) / shift_s)

    @staticmethod
    def _held(shift_s: float, lower_s: float, upper_s: float) -> float:
        if not np.isfinite(lower_s):
            return shift_s
        return lower_s if not np.isfinite(shift_s) else float(np.clip(shift_s, lower_s, max(upper_s, lower_s)))

    def before(self, mask: Array) -> Array:
        """Return [windows]: those before `mask` in which the job made steps."""
        known: Array = np.isfinite(self.step_s) & (np.arange(len(mask)) < np.flatnonzero(mask)[0])
        return known

    def _shift_s(self, mask: Array) -> float:
        before = self.before(mask)
        if before.sum() < LEAST_BEFORE:
            return float("nan")
        # Medians on both sides: a checkpoint lengthens one window in many, before as well as after.
        return float(np.median(self.step_s[mask]) - np.median(self.step_s[before]))

    def _excess_s(self, ranks: Sequence[int], mask: Array) -> tuple[float, float]:
        """Return by how much the latest of these ranks waits less than the next late one, and than the median."""
        mine = np.isin(self.rank, list(ranks))
        waiting_s = self.waiting_s[mask]
        if not mine.any() or mine.all() or not np.isfinite(waiting_s).any():
            return float("nan"), float("nan")
        mean_s = np.array([np.nanmean(column) if np.isfinite(column).any() else np.nan for column in waiting_s.T])
        own_s, others_s = np.nanmin(mean_s[mine]), mean_s[~mine]
        own_s += self._jitter_s(mask, own_s)
        return float(max(np.nanmin(others_s) - own_s, 0.0)), float(np.nanmedian(others_s) - own_s)

    def _jitter_s(self, mask: Array, own_s: float) -> float:
        """Return how much more even the latest rank waited before: somebody is late in each step, not always the same.

        A rank that is always last hides that; repaired, it would wait for the others' jitter as everybody does.
        """
        waiting_s = self.waiting_s[self.before(mask)]
        if len(waiting_s) < LEAST_BEFORE or not np.isfinite(waiting_s).any():
            return 0.0
        known = waiting_s[:, np.isfinite(waiting_s).any(axis=0)]
        return max(0.0, float(np.nanmin(np.nanmean(known, axis=0))) - own_s)


def _span(mask: Array, after: int = 0) -> Array:
    """Return True from the first to the last of `mask`, and in so many windows after it."""
    places = np.flatnonzero(mask)
    found = np.zeros(len(mask), dtype=bool)
    found[places[0] : places[-1] + 1 + after] = True
    return found


def _mean(step_s: Array) -> float:
    """Return the mean over steps of what are means of equal windows, 0 where there are none."""
    return len(step_s) / float((1 / step_s).sum()) if len(step_s) else 0.0


@dataclass(frozen=True)
class Costs:
    """All jobs of a table."""

    jobs: Mapping[str, JobCost]

    def of_device(self, node: str, device: str) -> tuple[JobCost | None, list[int]]:
        """Return the job on a GPU (or on any of a host's, where `device` is none) and its ranks there."""
        for cost in self.jobs.values():
            here = cost.node == node
            if device.startswith("gpu"):
                here = here & (cost.device == device)
            if here.any():
                return cost, sorted(int(rank) for rank in cost.rank[here])
        return None, []


def costs(tables: Frames) -> Costs:
    """Return what the table `windows` tells of each job; worked out once a table."""
    return remembered(tables["windows"], "costs", lambda: _costs(tables))


def _costs(tables: Frames) -> Costs:
    steps = signal(tables, "skewscope_steps_total", take="increase")
    seconds = signal(tables, "skewscope_step_seconds_total", take="increase")
    waited = signal(tables, "skewscope_collective_seconds_total", take="increase")
    by = ("job", "rank")
    count = seconds.aligned(steps, by)
    with np.errstate(divide="ignore", invalid="ignore"):
        step_s = np.where(count > 0, seconds.values / count, np.nan)
        waiting_s = np.where(count > 0, seconds.aligned(waited, by) / count, np.nan)
    jobs = [str(job) for job in dict.fromkeys(seconds.job.tolist())]
    return Costs({job: _job(job, seconds, step_s, waiting_s) for job in jobs})


def _job(job: str, seconds: Signal, step_s: Array, waiting_s: Array) -> JobCost:
    mine = np.flatnonzero(seconds.job == job)
    of_ranks = step_s[:, mine]
    mean_s = np.full(len(of_ranks), np.nan)
    known = np.isfinite(of_ranks).any(axis=1)
    mean_s[known] = np.nanmedian(of_ranks[known], axis=1)
    return JobCost(
        job, seconds.t_ns, mean_s, waiting_s[:, mine], seconds.rank[mine], seconds.node[mine], seconds.device[mine]
    )
