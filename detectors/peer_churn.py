"""Members of a job leave and come back again and again, and each time all others wait, or start anew.

Why it hurts
    Who leaves takes its part of the state with it: the job stops, finds new peers, loads its last checkpoint and does
    again what was lost. At three departures an hour of two minutes each a tenth of all GPU hours is gone.

How it is seen
    A rank's series end while its host still tells others (or its host falls silent and the job stops), and begin again.
    More than two such changes within an hour, or two departures whose stops cost more than 5 % of the time. The price
    is the time that the job did not spend in steps since the first departure, over whole rounds.

Look-alikes
    Planned scaling changes the members once. A job that ends does not come back. An agent that is restarted is silent,
    and the job goes on. A host that is lost for good (`gpu-off-bus`, `coll-missing-rank`) leaves once, and its reason
    is told there. `step-spike`: the step is long, but all are there.

What to do
    If it is always the same host, take it out of the job. On hosts that may be taken away at any time keep spares,
    write checkpoints more often (`ckpt-stall` says what that costs), or use collectives that bear fewer peers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import SEVERITIES, Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.view import Signal, signal

from ._membership import Membership, jobs
from ._membership_worlds import churn
from ._prices import severity

Array = np.ndarray[Any, Any]
STEPS, SECONDS = "skewscope_steps_total", "skewscope_step_seconds_total"


@dataclass(frozen=True)
class PeerChurn:
    """Thresholds: changes within an hour, the share of time that stops cost, and what is too little to blame."""

    category: ClassVar[str] = "scheduler"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    changes_count: int = 2  # more than these {conditions A13}
    hour_s: float = 3600.0  # {conditions A13}
    lost_ratio: float = 0.05  # of the time, more than this {conditions A13}
    departures_count: int = 2  # one is no churn {D}
    cost_ratio: float = 0.02  # of the time: below it is context {D}

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per job whose members come and go, about the host if it is always the same one."""
        seconds = signal(tables, SECONDS, take="increase")
        steps = signal(tables, STEPS, take="increase")
        for one in jobs(tables):
            leaves, joins = one.changes()
            leaves = leaves[leaves > one.last - self.hour_s / seconds.window_s]
            if len(leaves) < self.departures_count:
                continue
            changes = len(leaves) + int((joins > leaves[0]).sum())
            lost_s, share = _lost(one, seconds, steps, leaves)
            if changes > self.changes_count or share > self.lost_ratio:
                yield self._finding(one, seconds, leaves, changes, lost_s, share)

    def _finding(
        self, one: Membership, told: Signal, leaves: Array, changes: int, lost_s: float, share: float
    ) -> Finding:
        hosts = one.leavers(leaves)
        same = len(hosts) == 1 and one.hosts > 1
        culprit = share >= self.cost_ratio
        mask = np.zeros(len(told.t_ns), dtype=bool)
        mask[[leaves[0], one.last]] = True
        whose = f"always those of {hosts[0]}" if same else f"of {len(hosts)} hosts"
        return Finding(
            "peer-churn", subjects.node(hosts[0]) if same else subjects.job(one.job),
            "culprit" if culprit else "context",
            min(severity(share), "S3", key=SEVERITIES.index) if culprit else "S4", 0.9,
            told.window(mask), lost_s, share,
            (Evidence("membership_changes", float(changes), 0.0, float(self.changes_count), "count"),
             Evidence("lost_share", share, 0.0, self.lost_ratio, "ratio")),
            f"members of {one.job} left {len(leaves)} times within an hour ({whose}); it loses {share:.0%} of its time",
            f"take {hosts[0]} out of the job" if same else
            "keep spare hosts and write checkpoints more often, or ask for hosts that are not taken away",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: `watch` has found it; a host that does not answer looks alike to a query."""
        return Rule(
            "SkewscopePeerChurn",
            'skewscope_finding_active{condition="peer-churn",role="culprit"} == 1',
            0, "warning", "members of {{ $labels.subject }} come and go",
            "ranks leave and come back again and again; see the finding about {{ $labels.subject }}",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: does it stop, does a host restart, did the kernel kill, was a fault told."""
        killed, xid = "skewscope_host_oom_kills_total", "skewscope_gpu_xid_errors_total"
        return (
            Check("steps", "Does the job make steps all the time?", STEPS, "rate", "> 0", f"rate({STEPS}[5m])",
                  "members come and go without stopping it", "it stops: see `killed`"),
            Check("killed", "Did the kernel kill its processes?", killed, "rate", "< 0.001", f"rate({killed}[1h])",
                  "see `xid`", "see `mem-oom-risk`", after=("steps",)),
            Check("xid", "Did a GPU fail before?", xid, "rate", "< 0.001", f"rate({xid}[1h])",
                  "ask the scheduler: preemption, time limits, spot hosts", "see the room of that XID",
                  after=("killed",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: nobody, once, scaling, an agent, the end; several hosts, one, silent ones, at no cost."""
        yield World("quiet", churn(()))
        yield World("near-miss", churn(((8, 11, 1),)))
        yield World("look-alike-scaling", churn(((10, 40, 3),)))
        yield World("look-alike-agent", churn(((8, 9, 1), (16, 17, 1), (24, 25, 1)), silent=True, stops=False))
        yield World("look-alike-end", churn((), end=30))
        yield World("churn", churn(((8, 11, 1), (20, 23, 2))), frozenset({"llm"}))
        yield World("one-host", churn(((8, 11, 1), (20, 23, 1))), frozenset({"n1"}))
        yield World("silent-hosts", churn(((8, 11, 1), (20, 23, 2)), silent=True), frozenset({"llm"}))
        yield World("elastic", churn(((8, 11, 1), (20, 23, 2)), stops=False), frozenset({"llm"}))


def _lost(one: Membership, seconds: Signal, steps: Signal, leaves: Array) -> tuple[float, float]:
    """Return (seconds a step, share of the time) that a job did not spend in steps since its first departure.

    Whole rounds from departure to departure count, until the job has lasted for longer than such a round.
    """
    first, newest = int(leaves[0]), int(leaves[-1])
    spent, made = (_of_job(told, one) for told in (seconds, steps))
    before = slice(one.first + 1, max(first - 1, one.first + 1))
    idle_s = seconds.window_s - spent
    usual_s = max(0.0, float(np.median(idle_s[before]))) if len(idle_s[before]) else 0.0
    ended = one.last + 1 < len(spent)  # in the middle of its last window
    lasts = one.last - newest > (newest - first) / max(len(leaves) - 1, 1)
    since = slice(max(first - 1, 0), one.last + 1 - ended if lasts else newest - 1)
    lost_s = max(0.0, float((idle_s[since] - usual_s).sum()))
    whole_s = len(idle_s[since]) * seconds.window_s
    return lost_s / max(float(made[since].sum()), 1.0), lost_s / max(whole_s, 1e-9)


def _of_job(told: Signal, one: Membership) -> Array:
    """Return [windows]: the median of what the ranks of a job tell, 0 where none does."""
    values = told.values[:, told.job == one.job]
    found = np.zeros(len(values))
    known = np.isfinite(values).any(axis=1)
    found[known] = np.nanmedian(values[known], axis=1)
    return found
