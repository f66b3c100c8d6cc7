"""What the last window says of each job (ranks, step time, whether it stands still), and whose job a place is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts import Finding, Frames
from ..precedence import Explained
from ..signals.impact import JobCost, costs
from ..subjects import Subject
from .incidents import HARD, Seen

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Job:
    """One job at the end of the last window; `step_s` is NaN where it made no step in it."""

    name: str
    ranks: int
    step_s: float
    lost_share: float
    stopped: bool

    @property
    def lost_gpus(self) -> float:
        """GPU-hours that it loses per hour."""
        return self.ranks * (1.0 if self.stopped else self.lost_share)


def seen_of(explained: Explained, tables: Frames) -> list[Seen]:
    """Return the culprits with what they explain and the job that they cost something, in the order of a report."""
    known = costs(tables).jobs
    still = {name for name, cost in known.items() if is_stopped(cost, tables)}
    found = []
    for place, one in enumerate(explained.findings):
        if one.role == "culprit":
            others = tuple(explained.findings[other] for other in explained.explains.get(place, ()))
            job = job_of(one, known)
            ranks = len(known[job].rank) if job else 0
            found.append(Seen(one, others, job, ranks, job in still))
    return found


def job_of(found: Finding, jobs: Mapping[str, JobCost]) -> str:
    """Return the job of a finding's place, "" where none or several may be meant."""
    subject = found.subject
    name = subject.id.partition("/")[0]
    if name in jobs:
        return name
    here = [job for job, cost in jobs.items() if _is_there(cost, subject)]
    if len(here) == 1:
        return here[0]
    return next(iter(jobs)) if len(jobs) == 1 and not subject.node else ""


def _is_there(cost: JobCost, subject: Subject) -> bool:
    ranks = cost.rank[cost.node == subject.node]
    return bool(len(ranks)) and (subject.rank < 0 or subject.rank in ranks)


def is_stopped(cost: JobCost, tables: Frames) -> bool:
    """Return whether a job that made steps makes none in the last window though its ranks are there."""
    if not len(cost.step_s) or np.isfinite(cost.step_s[-1]) or not np.isfinite(cost.step_s).any():
        return False
    rows = tables["windows"]
    last = rows[(rows["t_ns"] == cost.t_ns[-1]).to_numpy()]
    return bool((last["job"] == cost.job).any())


def jobs_now(seen: Sequence[Seen], tables: Frames) -> list[Job]:
    """Return all jobs of the tables, by name; a job loses at most all of its time."""
    told = []
    for name, cost in sorted(costs(tables).jobs.items()):
        lost = [one for one in seen if one.job == name]
        stopped = any(one.stopped and one.finding.condition in HARD for one in lost)
        share = min(1.0, sum(max(0.0, one.finding.lost_share) for one in lost))
        step_s = float(cost.step_s[-1]) if len(cost.step_s) else float("nan")
        told.append(Job(name, len(cost.rank), step_s, share, stopped))
    return told
