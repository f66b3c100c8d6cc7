"""What the last windows say of each rank: its step, its waiting, and its own work beside that of its job's ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts import Frames
from ..signals.view import Signal, signal

Array = np.ndarray[Any, Any]
SCHEMA = "skewscope.rank-times/1"
RECENT = 4  # windows: long steps end in few of them


@dataclass(frozen=True)
class RankTimes:
    """All ranks, [ranks] each: the mean step and the part of it in collectives (s), NaN where no step ended."""

    job: Array
    rank: Array
    node: Array
    device: Array
    step_s: Array
    wait_s: Array

    def document(self, time_ns: int) -> dict[str, Any]:
        """Return `skewscope.rank-times/1` of the moment `time_ns`: ranks by job and number, None for what is unknown.

        >>> names = (np.array([one, one]) for one in ("a", 0, "n1", "gpu2"))
        >>> made = RankTimes(*names, np.ones(2), np.array([0.2, 0.6]))
        >>> made.document(5)["ranks"][0]["work_ratio"]  # 0.8 s of own work where 0.6 s is usual
        1.3333
        """
        work_ratio = self._work_ratio()
        order = np.lexsort((self.rank, self.job.astype(str)))
        rows = [
            {
                "job": str(self.job[at]), "rank": int(self.rank[at]), "node": str(self.node[at]),
                "gpu": str(self.device[at]).removeprefix("gpu"), "step_s": _known(self.step_s[at], 6),
                "work_ratio": _known(work_ratio[at], 4),
                "wait_ratio": _known(min(self.wait_s[at] / self.step_s[at], 1.0), 4),
            }
            for at in order.tolist()
            if self.rank[at] >= 0
        ]  # fmt: skip
        return {"schema": SCHEMA, "time_ns": time_ns, "ranks": rows}

    def _work_ratio(self) -> Array:
        """Return own work over the median of the ranks of the same job, NaN for a rank that has none beside it."""
        own_s = self.step_s - self.wait_s
        found = np.full(len(own_s), np.nan)
        for job in set(self.job.tolist()):
            mine = (self.job == job) & np.isfinite(own_s)
            usual_s = float(np.median(own_s[mine])) if mine.sum() > 1 else 0.0
            if usual_s > 0:
                found[mine] = own_s[mine] / usual_s
        return found


NOBODY = RankTimes(*[np.empty(0)] * 6)


def rank_times(tables: Frames) -> RankTimes:
    """Return the times of all ranks in the last of the recent windows in which each ended steps."""
    steps, seconds, waited = (
        signal(tables, f"skewscope_{name}_total", take="increase")
        for name in ("steps", "step_seconds", "collective_seconds")
    )
    if not len(seconds):
        return NOBODY
    count, spent_s, wait_s = _recent(seconds, steps), seconds.values[-RECENT:], _recent(seconds, waited)
    ended = count > 0
    last = len(ended) - 1 - np.argmax(ended[::-1], axis=0)
    each = (last, np.arange(len(seconds)))
    with np.errstate(divide="ignore", invalid="ignore"):
        step_s, wait_s = (np.where(ended[each], whole[each] / count[each], np.nan) for whole in (spent_s, wait_s))
    return RankTimes(seconds.job, seconds.rank, seconds.node, seconds.device, step_s, wait_s)


def _recent(seconds: Signal, other: Signal) -> Array:
    return seconds.aligned(other, ("job", "rank"))[-RECENT:]


def _known(value: float, digits: int) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None
