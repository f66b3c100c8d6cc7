"""What a cause costs the job that runs on it, from the metrics of its ranks.

In synchronous training all ranks have the same step time; what tells them apart is the time in collectives, which is
waiting for the rank that comes last. So a rank is late by as much as it waits less than the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skewscope.contracts import Frames

from .view import Signal, remembered, signal

Array = np.ndarray[Any, Any]
LEAST_BEFORE = 4  # windows that say what was usual before
BURST = 1.5  # times the usual growth: more in one window is something else
HIGH = 0.75  # quantile of what is usual where it is there at times only
MOST, HALF, QUARTER = 0.7, 0.5, 0.25  # of the growth


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
        The growth of the job's own step time counts where these ranks explain most of it. Where others are late too,
        only what the next late rank leaves to be saved; where all wait alike, only what transfers grew by. With no
        ranks (a link, a switch) it is the growth of transfers, else that of the step. (0, 0) where nothing is known.
        """
        mask = mask & np.isfinite(self.step_s)
        if not mask.any():
            return 0.0, 0.0
        span = _span(mask) & np.isfinite(self.step_s)
        amount_s = self._amount_s(ranks, mask)
        usual_s = float(np.nanquantile(amount_s[mask], HIGH)) if np.isfinite(amount_s[mask]).any() else 0.0
        if not usual_s > 0:
            return 0.0, 0.0
        steps = 1 / self.step_s[span]  # of equal windows
        # A checkpoint is no part of it, and noise between bursts cancels out.
        within_s = np.clip(np.nan_to_num(amount_s[span]), -BURST * usual_s, BURST * usual_s)
        lost_s = max(0.0, float((within_s * steps).sum() / steps.sum()))
        return lost_s, lost_s / _mean(self.step_s[span])

    def _amount_s(self, ranks: Sequence[int], mask: Array) -> Array:
        """Return [windows]: what a step took longer because of these ranks, or of a link."""
        grown_s = self.step_s - _median(self.step_s[self.before(mask)])
        shift_s = _median(grown_s[mask])
        least_s, middle_s = _columns(np.nanmin, self.waiting_s), _columns(np.nanmedian, self.waiting_s)
        saved_s = self._saved_s(ranks, mask)
        own_s = float(np.nanmean(saved_s[mask])) if np.isfinite(saved_s[mask]).any() else 0.0
        if not np.isfinite(shift_s):
            return saved_s
        if own_s >= MOST * shift_s:
            return grown_s
        # Without what the latest rank adds: the compute of the median rank and the transfers of the latest.
        even_s = self.step_s - middle_s + least_s
        even_s = even_s - _median(even_s[self.before(mask)])
        rise_s = _median(least_s[mask]) - _median(least_s[self.before(mask)])
        by_transfers = rise_s >= HALF * _median(even_s[mask]) and rise_s >= QUARTER * shift_s
        if own_s >= QUARTER * shift_s or (np.isfinite(saved_s[mask]).any() and not by_transfers):
            return saved_s
        return even_s if by_transfers else grown_s

    def before(self, mask: Array) -> Array:
        """Return [windows]: those before `mask` in which the job made steps; none where they are too few."""
        known: Array = np.isfinite(self.step_s) & (np.arange(len(mask)) < np.flatnonzero(mask)[0])
        return known

    def _saved_s(self, ranks: Sequence[int], mask: Array) -> Array:
        """Return [windows]: how much sooner the step would end, had the latest of these ranks been on time.

        The next late rank, and what even the latest of all waited before (somebody is late in each step, not always
        the same), bound it.
        """
        mine = np.isin(self.rank, list(ranks))
        if not mine.any() or mine.all():
            return np.full(len(mask), np.nan)
        own_s = _columns(np.nanmin, self.waiting_s[:, mine])
        others = self.waiting_s[:, ~mine]
        next_s = _columns(np.nanmin, others)
        least_s = _columns(np.nanmin, self.waiting_s[self.before(mask)])
        if len(least_s) < LEAST_BEFORE:
            return np.asarray(np.maximum(next_s - own_s, 0.0))
        # Where the next late rank is always the same one, it will not wait for the jitter of the others.
        lead_s = _columns(_second, others) - next_s
        return np.asarray(np.maximum(next_s - np.fmax(own_s, _median(least_s) - lead_s), 0.0))


def _median(values: Array) -> float:
    """Return the median of the known values, NaN where too few say what is usual."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _second(values: Array, axis: int) -> Array:
    """Return the second smallest known value, the smallest where there is one, along an axis."""
    ordered = np.sort(values, axis=axis)  # NaN last
    first, second = (np.take(ordered, min(place, ordered.shape[axis] - 1), axis=axis) for place in (0, 1))
    return np.asarray(np.where(np.isfinite(second), second, first))


def _columns(of: Callable[..., Array], values: Array) -> Array:
    """Return [windows] of values [windows, ranks], NaN where none is known."""
    found = np.full(len(values), np.nan)
    known = np.isfinite(values).any(axis=1)
    if known.any():
        found[known] = of(values[known], axis=1)
    return found


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
