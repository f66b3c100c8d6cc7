"""Whether an act helped: the job's step time before it and after it, against what was promised."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..acts import Fleet
from .book import Book

SECOND_NS = 10**9
PROVED = ("avoid", "exclude", "drain", "quarantine", "requeue", "advise")
LEAST, MOST = 3, 10  # windows on each side
BEFORE_NS, LONGEST_NS = 900 * SECOND_NS, 86_400 * SECOND_NS  # how old a step time before may be; when nobody waits on
KEPT = 64
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Gain:
    """What came of an act: median step times in seconds, the share of the step saved, and that over the promise."""

    before_s: float
    after_s: float
    windows: int
    predicted: float

    @property
    def share(self) -> float:
        """The share of the step that was saved, below 0 where it became slower.

        >>> Gain(2.0, 1.5, 5, 0.5).share, Gain(2.0, 1.5, 5, 0.5).of_predicted
        (0.25, 0.5)
        """
        return 1.0 - self.after_s / self.before_s

    @property
    def of_predicted(self) -> float | None:
        """The share of the promise that came true, None where nothing was promised."""
        return self.share / self.predicted if self.predicted > 0 else None

    def told(self) -> dict[str, Any]:
        """Return it as a record's `observed`."""
        return {"before_s": self.before_s, "after_s": self.after_s, "windows": self.windows, "step_share": self.share,
                "of_predicted": self.of_predicted}  # fmt: skip


@dataclass
class Proofs:
    """The step times of jobs, window by window, and the acts that wait for their proof."""

    _steps: dict[str, deque[tuple[int, float]]] = field(default_factory=dict)
    _since: dict[str, int] = field(default_factory=dict)  # act -> when its job was first seen without the node

    def see(self, steps: Mapping[str, float], now_ns: int) -> None:
        """Take the step times (s) of a window in, by job."""
        for job, step_s in steps.items():
            if 0.0 < step_s < float("inf"):
                self._steps.setdefault(job, deque(maxlen=KEPT)).append((now_ns, step_s))
        for job in [job for job, seen in self._steps.items() if now_ns - seen[-1][0] > LONGEST_NS]:
            del self._steps[job]

    def before(self, job: str, now_ns: int) -> float | None:
        """Return the median step time of a job's latest windows, None where too few are known."""
        seen = [step_s for t_ns, step_s in self._steps.get(job, ()) if now_ns - BEFORE_NS <= t_ns <= now_ns]
        return statistics.median(seen[-MOST:]) if len(seen) >= LEAST else None

    def settle(self, book: Book, scheduler: str, fleet: Fleet, now_ns: int) -> None:
        """Write down the proof of each act that can be proved now, and that none came where too much time is over."""
        for record in list(book.journal.unproved.values()):
            if record.get("scheduler") != scheduler or record["verb"] not in PROVED:
                continue
            gain = self._gain(record, fleet, now_ns)
            if gain is not None:
                prove(book, record, gain)
            elif now_ns - record["time_ns"] > LONGEST_NS:
                prove(book, record, None)

    def _gain(self, record: Record, fleet: Fleet, now_ns: int) -> Gain | None:
        predicted = record.get("predicted") or {}
        before_s, job = predicted.get("step_s"), predicted.get("step_job")
        if before_s is None or not job:
            return None
        if self._is_there(record, fleet):
            self._since.pop(record["act"], None)
            return None
        since_ns = self._since.setdefault(record["act"], now_ns)
        after = [step_s for t_ns, step_s in self._steps.get(job, ()) if t_ns > since_ns]
        if len(after) < LEAST + 2:  # the first windows hold the start
            return None
        promised = float(predicted.get("step_share") or 0.0)
        return Gain(float(before_s), statistics.median(after[2:]), len(after) - 2, promised)

    def _is_there(self, record: Record, fleet: Fleet) -> bool:
        """Return whether the job still runs on the node: one that is drained or only avoided lets it end."""
        if record["verb"] == "advise":
            return False
        named = [job for job in fleet.jobs.values() if record.get("job") in (job.id, job.name)]
        return any(record["target"] in job.nodes for job in named if job.state == "running")


def prove(book: Book, record: Record, gain: Gain | None) -> None:
    """Write down what an act brought; None: nobody could see."""
    told = {name: record[name] for name in ("scheduler", "verb", "target", "job", "incident", "finding", "predicted")
            if name in record}  # fmt: skip
    if gain is None:
        book.append("proved", of=record["act"], **told, result="unknown", detail="no step times to compare")
        return
    share = gain.of_predicted
    result = "unknown" if share is None else "realised" if share >= 0.5 else "less"
    detail = f"a step takes {gain.after_s:.4g} s, before {gain.before_s:.4g} s: {gain.share:.1%} less, " \
             f"{gain.predicted:.1%} were promised"  # fmt: skip
    book.append("proved", of=record["act"], **told, result=result, observed=gain.told(), detail=detail)
