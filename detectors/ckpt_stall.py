"""Saving a checkpoint takes much longer than it used to, or takes a large part of the job's time.

Why it hurts
    Nobody computes while a checkpoint is written in the foreground. A file server or network that became slow makes
    each one longer, and all GPUs of the job wait; a server that no longer answers stops the job.

How it is seen
    The seconds of the phase `checkpoint` of one saving are twice the median of the savings before, or savings take a
    tenth of the time from one to the next. The price is what they took longer, spread over the steps between them; of
    savings that were always long it is what exceeds the tenth. A kernel that tells of a file system that became
    read-only is told for its host, and of a file server that does not answer as context.

Look-alikes
    `data-loader-stall`: the same storage is slow for reading, in each step. `step-spike` and `host-gc-pause`: long
    steps at other times. `host-process-stuck`: a rank that does not come back from the storage at all.

What to do
    Save asynchronously or to local disks first and copy from there; let replicas save in turns; look at the file
    server, its network and how full it is. Until then save less often (`skewscope plan checkpoint`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.impact import JobCost, costs
from skewscope.signals.view import Signal, signal

from ._live import roles
from ._live_groups import Array, groups
from ._live_shares import PHASES, STEP
from ._live_worlds import Fleet
from ._prices import severity

MESSAGES, STEPS = "skewscope_kernel_messages_total", "skewscope_steps_total"
SERVER_S, CALLS = "skewscope_nfs_round_trip_seconds_total", "skewscope_nfs_operations_total"
ADVICE = "save asynchronously or to local disks first, let replicas save in turns, and look at the file server"


@dataclass(frozen=True)
class Savings:
    """The savings of one job: first and last window, seconds of each, and steps and step seconds since the one before.

    All are [savings].
    """

    first: Array
    last: Array
    took_s: Array
    steps_count: Array
    since_s: Array


@dataclass(frozen=True)
class CkptStall:
    """Thresholds: how much longer a saving takes, which share of the time savings take, and what that costs."""

    category: ClassVar[str] = "storage"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    longer_ratio: float = 2.0  # times the median of the savings before {conditions A10}
    share_ratio: float = 0.10  # of the time from one saving to the next {conditions A10}
    cost_ratio: float = 0.02  # of the step: below it is context {D}
    before_count: int = 2  # savings that say what is usual {D}
    savings_count: int = 3  # of which the median share is judged, where it was always so {D}

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per job whose savings stall, and what the kernels of hosts say of file systems."""
        told = signal(tables, PHASES, take="increase", phase="checkpoint")
        jobs = costs(tables).jobs
        for job in jobs if len(told) else ():
            savings = _savings(tables, told, jobs[job])
            yield from self._of_job(tables, told, job, savings)
        yield from self._kernels(tables)

    def _of_job(self, tables: Frames, told: Signal, job: str, savings: Savings) -> Iterator[Finding]:
        usual_s, slow = self._slow(savings)
        if not slow.any():
            return
        span = np.arange(len(slow)) >= np.argmax(slow)
        span &= np.arange(len(slow)) <= len(slow) - 1 - np.argmax(slow[::-1])
        lost_s = float((savings.took_s - usual_s)[span].sum())
        steps, seconds = float(savings.steps_count[span].sum()), float(savings.since_s[span].sum())
        share = max(0.0, lost_s / seconds) if seconds > 0 else 0.0
        per_step_s = max(0.0, lost_s / steps) if steps > 0 else 0.0
        mask = np.zeros(len(told.t_ns), dtype=bool)
        for first, last in zip(savings.first[slow], savings.last[slow], strict=True):
            mask[int(first) : int(last) + 1] = True
        took_s, before_s = float(np.median(savings.took_s[slow])), float(np.median(usual_s[slow]))
        yield Finding(
            condition="ckpt-stall", subject=subjects.job(job), confidence=0.9, window=told.window(mask),
            role="culprit" if share >= self.cost_ratio else "context", severity=severity(share),
            lost_s=per_step_s, lost_share=share, advice=ADVICE,
            evidence=(
                Evidence("checkpoint", took_s, before_s, self.longer_ratio * before_s, "seconds"),
                *_server(tables, mask),
            ),
            summary=f"saving a checkpoint of {job} takes {took_s:.1f} s where {before_s:.1f} s would be usual; over "
            f"the steps between, the job loses {per_step_s * 1e3:.1f} ms ({share:.0%}) of each",
        )  # fmt: skip

    def _slow(self, savings: Savings) -> tuple[Array, Array]:
        """Return for each saving the seconds that are usual, and whether it was much longer."""
        usual_s, slow = savings.took_s.copy(), np.zeros(len(savings.took_s), dtype=bool)
        good: list[float] = []
        for place, took_s in enumerate(savings.took_s.tolist()):
            if len(good) >= self.before_count:
                usual_s[place] = float(np.median(good))
                slow[place] = took_s >= self.longer_ratio * usual_s[place]
            good += [] if slow[place] else [took_s]
        share = savings.took_s / np.maximum(savings.since_s, 1e-9)
        if not slow.any() and len(share) >= self.savings_count and np.median(share) >= self.share_ratio:
            return self.share_ratio * savings.since_s, np.asarray(share >= self.share_ratio)
        return usual_s, slow

    def _kernels(self, tables: Frames) -> Iterator[Finding]:
        for category, role, least, says in (
            ("readonly_fs", "culprit", "S2", "a file system became read-only"),
            ("nfs", "context", "S3", "the file server does not answer"),
        ):  # fmt: skip
            told = signal(tables, MESSAGES, take="increase", category=category)
            for group in groups(told, told.values > 0, tables) if len(told) else ():
                count = float(np.nansum(told.values[:, list(group.columns)]))
                yield Finding(
                    condition="ckpt-stall", subject=group.subject or told.subject(group.columns[0]), role=role,
                    severity=least, confidence=0.8, window=told.window(group.mask), lost_s=0.0, lost_share=0.0,
                    evidence=(Evidence("kernel_messages", count, 0.0, 1.0, "messages"),),
                    summary=f"the kernel of {group.name(told)} said {count:.0f} times that {says}", advice=ADVICE,
                )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: savings take the threshold of the time of the last half hour."""
        saving = f'increase({PHASES}{{phase="checkpoint"}}[30m])'
        return Rule(
            "SkewscopeCkptStall", f"{saving} / ignoring (phase) increase({STEP}[30m]) >= {self.share_ratio:g}", 60,
            "warning", "checkpoints of rank {{ $labels.rank }} of {{ $labels.job_id }} take long",
            "saving takes {{ $value | humanizePercentage }} of the time of rank {{ $labels.rank }} on "
            "{{ $labels.instance }}",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: how long, the file server, its connection, pressure and blocked tasks."""
        pressure, resent = "skewscope_host_pressure_seconds_total", "skewscope_nfs_retransmissions_total"
        return (
            Check("saving", "Does saving take much of the time?", PHASES, "rate", "> 0.02",
                  f'rate({PHASES}{{phase="checkpoint"}}[30m])', "see `server`", "savings are short",
                  {"phase": "checkpoint"}),
            Check("server", "How long does the server take for a write? The query gives seconds a call.", SERVER_S,
                  "rate", "> 0",
                  f'rate({SERVER_S}{{operation="write"}}[30m]) / rate({CALLS}{{operation="write"}}[30m])',
                  "compare it with days before: a slower server or network; see `resent`",
                  "nothing is written to a file server: look at local disks", {"operation": "write"}, ("saving",)),
            Check("resent", "Are calls sent again?", resent, "rate", "> 0", f"rate({resent}[30m])",
                  "the network to the server loses packets, or it cannot keep up",
                  "the server itself is slow or full",
                  after=("server",)),
            Check("pressure", "Does the host stand still for input and output?", pressure, "rate", ">= 0.05",
                  f'rate({pressure}{{resource="io",kind="full"}}[5m])', "tasks wait for storage",
                  "the time goes into serialising: save from fewer ranks", {"resource": "io", "kind": "full"},
                  ("saving",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: short savings, just below, a spike, too few; longer, always long, and what kernels say."""
        yield World("quiet", _saved([3.0] * 5).tables())
        yield World("near-miss", _saved([3.0, 3.0, 3.0, 5.9, 5.9]).tables())
        yield World("always-nine-percent", _saved([10.8] * 5).tables())
        yield World("look-alike-spike", _saved([3.0] * 5).late(1, 5.0, since=13, until=14).tables())
        yield World("first-savings", _saved([3.0, 12.0]).tables())
        yield World("longer", _saved([3.0, 3.2, 2.9, 12.0, 11.0]).tables(), frozenset({"llm"}))
        yield World("one-longer", _saved([3.0, 3.2, 2.9, 12.0, 3.0]).tables(), frozenset({"llm"}))
        yield World("always-long", _saved([18.0] * 5).tables(), frozenset({"llm"}))
        kernel = Fleet().put(MESSAGES, 1.0, labels="category=readonly_fs", nodes=["n1"], since=10, until=11)
        yield World("read-only", kernel.tables(), frozenset({"n1"}))
        server = Fleet().put(MESSAGES, 1.0, labels="category=nfs", nodes=["n1"], since=10, until=11)
        yield World("server-gone", server.tables(), frozenset({"n1"}))


def _savings(tables: Frames, told: Signal, cost: JobCost) -> Savings:
    """Return the savings of a job: windows in a row in which its median rank saves are one."""
    mine = roles(told, tables) == cost.job
    took_s = _middle(told.values[:, mine]) if mine.any() else np.zeros(len(told.t_ns))
    begins = np.flatnonzero((took_s > 0) & ~np.concatenate(([False], took_s[:-1] > 0)))
    ends = np.flatnonzero((took_s > 0) & ~np.concatenate((took_s[1:] > 0, [False])))
    totals = []
    for metric in (STEPS, STEP):
        done = signal(tables, metric, take="increase")
        totals.append(np.cumsum(_middle(done.values[:, done.job == cost.job])))
    seconds = np.cumsum(took_s)
    before = np.concatenate(([-1], ends[:-1])).astype(int)

    def between(total: Array) -> Array:
        return total[ends] - np.where(before >= 0, total[before], 0.0) if len(ends) else np.zeros(0)

    return Savings(begins, ends, between(seconds), between(totals[0]), between(totals[1]))


def _middle(values: Array) -> Array:
    """Return [windows]: the median of what is known, 0 where nothing is."""
    found = np.zeros(len(values))
    known = np.isfinite(values).any(axis=1)
    found[known] = np.nanmedian(values[known], axis=1)
    return found


def _server(tables: Frames, mask: Array) -> Iterator[Evidence]:
    """Yield the seconds of one write to the file server, in the windows of `mask` and in those before."""
    spent, calls = (signal(tables, one, take="increase", operation="write") for one in (SERVER_S, CALLS))
    if not len(spent) or not len(calls):
        return
    total_s, count = np.nansum(spent.values, axis=1), np.nansum(calls.values, axis=1)
    before = (np.arange(len(mask)) < np.argmax(mask)) & (count > 0)
    if (count[mask] > 0).any() and before.any():
        now_s, usual_s = (float(total_s[some].sum() / count[some].sum()) for some in (mask & (count > 0), before))
        yield Evidence("server_write", now_s, usual_s, None, "seconds")


def _saved(seconds: list[float]) -> Fleet:
    """Return a job of 20 windows that saves at the end of every fourth, for so many seconds."""
    fleet = Fleet()
    fleet.put(PHASES, 0.0, labels="phase=checkpoint", devices=fleet.gpus)
    for place, took_s in enumerate(seconds):
        at = 4 * place + 3
        fleet.put(PHASES, took_s, labels="phase=checkpoint", devices=fleet.gpus, since=at, until=at + 1)
    return fleet
