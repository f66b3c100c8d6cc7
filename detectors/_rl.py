"""What rooms about reinforcement learning share: who is busy or idle in which phase, and what that costs a job."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from skewscope import subjects
from skewscope.contracts import Finding, Frames
from skewscope.signals.impact import JobCost, costs
from skewscope.signals.view import Signal, signal

from ._live_groups import BEFORE, Array
from ._live_shares import STEP, known_or
from ._live_worlds import WINDOW_S, Fleet
from ._prices import severity

SECONDS, ANSWER, STEPS = "skewscope_rl_seconds_total", "skewscope_rl_answer_seconds", "skewscope_steps_total"
GENERATION, TRAINING = "generation", "training"


@dataclass(frozen=True)
class Phases:
    """One job: seconds [windows, ranks] by phase; steps and step seconds [windows, ranks], NaN where it makes none."""

    cost: JobCost
    told: Signal
    steps: Array
    step_s: Array
    busy_s: dict[str, Array]
    idle_s: dict[str, Array]

    def works_in(self, phase: str) -> Array:
        """Return [ranks]: who has ever worked in a phase."""
        return np.asarray((known_or(self.busy_s[phase], 0.0) > 0).any(axis=0))


def phases(tables: Frames) -> Iterator[Phases]:
    """Yield each job that tells of phases of reinforcement learning."""
    told = signal(tables, SECONDS, take="increase", phase=GENERATION)
    if not len(told):
        return
    for cost in costs(tables).jobs.values():
        step = signal(tables, STEP, take="increase")
        mine = np.flatnonzero(step.job == cost.job)
        job = replace(step, node=step.node[mine], device=step.device[mine], job=step.job[mine], rank=step.rank[mine],
                      values=step.values[:, mine])  # fmt: skip
        steps = job.aligned(signal(tables, STEPS, take="increase"))
        made = (steps > 0) & (job.values > 0)
        made &= np.cumsum(made, axis=0) > 1  # in the first window phases are told of a step that is told later
        if not np.isfinite(job.aligned(told)).any():
            continue
        parts = [{phase: _seconds(tables, job, phase, state) for phase in (GENERATION, TRAINING)}
                 for state in ("busy", "idle")]  # fmt: skip
        yield Phases(cost, job, np.where(made, steps, np.nan), np.where(made, job.values, np.nan), *parts)


def _seconds(tables: Frames, job: Signal, phase: str, state: str) -> Array:
    """Return the seconds of a phase [windows, ranks], 0 where they are not told: counters that never grew are not."""
    told = signal(tables, SECONDS, take="increase", phase=phase, state=state)
    return known_or(job.aligned(told), 0.0) if len(told) else np.zeros(job.values.shape)


def middle(values: Array) -> Array:
    """Return [windows]: the median of the known values, NaN where none is.

    >>> middle(np.array([[1.0, np.nan, 3.0]])).tolist()
    [2.0]
    """
    found = np.full(len(values), np.nan)
    known = np.isfinite(values).any(axis=1)
    if known.any():
        found[known] = np.nanmedian(values[known], axis=1)
    return found


def priced(found: Finding, one: Phases, mask: Array, ideal_share: float, cost_ratio: float) -> Finding:
    """Return the finding about a job with its price: what its mean step grew by since, or what evening out would save.

    The latter, `ideal_share` of the step, counts where too little is known of before.
    """
    lost_s, share = one.cost.stalled(mask)
    if one.cost.before(mask).sum() < BEFORE:
        step_s = float(np.nanmean(one.step_s[mask] / one.steps[mask]))
        lost_s, share = ideal_share * step_s, ideal_share
    role = "culprit" if share >= cost_ratio else "context"
    text = f"{found.summary}; the job loses {lost_s * 1e3:.1f} ms ({share:.0%}) of each step"
    return replace(
        found, lost_s=lost_s, lost_share=share, role=role, severity=severity(share), window=one.told.window(mask),
        subject=subjects.job(one.cost.job), summary=text,
    )  # fmt: skip


def reinforced(
    *, generating_s: Array | float, tail_s: Array | float = 0.0, median_s: float = 1.0, pools: bool = False,
    behind_s: Array | float = 0.0, windows_count: int = 20,
) -> Fleet:  # fmt: skip
    """Return a job whose step of 6 s generates for so long, waits for its last answer, and trains the rest.

    With `pools` the second half of each host's ranks train only, and wait `behind_s` of each step for the first.
    Arrays are [windows].
    """
    grown_s = np.broadcast_to(np.asarray(generating_s) + tail_s, windows_count)
    step_s = 6.0 + (np.broadcast_to(behind_s, windows_count) if pools else grown_s - grown_s[0])
    fleet = Fleet(windows_count=windows_count, step_s=6.0)
    fleet.put(ANSWER, median_s, labels="statistic=median", devices=fleet.gpus)
    for window in range(windows_count):
        fleet.late(list(range(8)), float(step_s[window] - 6.0), since=window, until=window + 1)
    count = WINDOW_S / step_s
    generators, trainers = (fleet.gpus[:2], fleet.gpus[2:]) if pools else (fleet.gpus, fleet.gpus)
    for state, each_s in (("busy", generating_s), ("idle", tail_s)):
        fleet.put(SECONDS, count * each_s, labels=f"phase=generation,state={state}", devices=generators)
    training_s = step_s - (np.broadcast_to(behind_s, windows_count) if pools else grown_s)
    fleet.put(SECONDS, count * training_s, labels="phase=training,state=busy", devices=trainers)
    if pools:
        waiting_s = count * np.broadcast_to(behind_s, windows_count)
        fleet.put(SECONDS, waiting_s, labels="phase=generation,state=idle", devices=trainers)
    return fleet
