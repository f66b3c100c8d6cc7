"""One host breaks jobs again and again, and works well enough in between to be given the next one.

Why it hurts
    Each job that lands on it loses its work since the last checkpoint, the restart, and the queue; a large job needs
    only one such host. A few per cent of the hosts cause a large share of all failures.

How it is seen
    In the scheduler's accounting more of the jobs fail on a host than on all others, beyond chance (binomial, over all
    hosts together), and those of several users do. Or the host was taken out and repaired five times in a week, or
    one of its GPUs had five fatal XIDs within a day.

Look-alikes
    A program's own fault (`gpu-app-fault`) fails wherever it runs: a job that also failed without the host does not
    speak against it, nor does a single user. A single hard fault (`gpu-off-bus`, `gpu-ecc-uncorrectable`) is told by
    its own room and may never come back. Timeouts and cancelled jobs count neither way.

What to do
    Give it no new work, run every diagnostic that takes hours (DCGM level 4, burn-in with its neighbours), and have the
    part or the host replaced; a reboot that "fixes" it is what made it a lemon.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, Window, World
from skewscope.stats.robust import binomial_tail
from skewscope.xid_policy import DRAINS, POLICY

from . import _attempts, _xids

Array = np.ndarray[Any, Any]
FATAL = tuple(sorted(code for code, xid in POLICY.table.items() if xid.action in DRAINS))
REPAIRS = ("drain", "reset", "reboot", "remediation")  # rows of `events` that say that somebody repaired a host
DAY_S = 86_400.0


@dataclass(frozen=True)
class _Reason:
    """Why a host is one: what speaks for it, since when, and the seconds of work lost."""

    evidence: Evidence
    text: str
    start_ns: int
    end_ns: int
    lost_s: float = 0.0


@dataclass(frozen=True)
class SchedLemonNode:
    """Thresholds: failures beyond chance, of how many users, repairs and fatal XIDs, and within what time."""

    category: ClassVar[str] = "scheduler"
    needs: ClassVar[tuple[str, ...]] = ("attempts", "events", "windows")

    chance_ratio: float = 0.01  # that a host looks so by chance, all hosts together {conditions A10: binomial p < 0.01}
    failures_count: int = 3  # fewer are bad luck {D}
    users_count: int = 2  # one user's program may be the reason {D}
    repairs_count: int = 5  # {conditions A10, NVSentinel}
    fatal_count: int = 5  # XIDs on one GPU {conditions A10, NVSentinel}
    week_s: float = 7 * DAY_S  # of attempts and repairs {conditions A10}
    day_s: float = DAY_S  # of XIDs {conditions A10}
    apart_s: float = 3600.0  # repairs closer to each other are one {D}

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per such host, with all that speaks for it."""
        now_ns = _now(tables)
        reasons: dict[str, list[_Reason]] = {}
        for found in (self._failures(tables, now_ns), self._repairs(tables, now_ns), self._xids(tables, now_ns)):
            for node, reason in found:
                reasons.setdefault(node, []).append(reason)
        for node in sorted(reasons):
            yield self._finding(node, reasons[node])

    def _failures(self, tables: Frames, now_ns: int) -> Iterator[tuple[str, _Reason]]:
        done = _attempts.judged(tables["attempts"], now_ns - int(self.week_s * 1e9))
        if not len(done):
            return
        by_node = done.groupby("node", sort=True)
        count, failed = by_node.size(), by_node["blamed"].sum()
        for node, rows in by_node:
            bad = rows[rows["blamed"].to_numpy()]
            if len(bad) < self.failures_count or bad["user"].nunique() < self.users_count:
                continue
            others, failures = int(count.sum() - len(rows)), int(failed.sum() - len(bad))
            usual = (failures + 1) / (others + 2)  # nobody is sure that the others never fail
            if binomial_tail(len(bad), len(rows), usual) * len(count) >= self.chance_ratio:
                continue
            share = len(bad) / len(rows)
            lost_s = float(bad["lost_ns"].sum()) / 1e9 * (1 - usual / share)
            text = f"{len(bad)} of {len(rows)} jobs failed on it ({share:.0%}, elsewhere {usual:.0%})"
            evidence = Evidence("failed_share", share, usual, None, "ratio")
            yield str(node), _Reason(evidence, text, int(bad["start_ns"].min()), int(bad["end_ns"].max()), lost_s)

    def _repairs(self, tables: Frames, now_ns: int) -> Iterator[tuple[str, _Reason]]:
        events = tables["events"]
        recent = (events["t_ns"] > now_ns - int(self.week_s * 1e9)) & events["event"].isin(REPAIRS)
        for node, rows in events[recent.to_numpy()].groupby("node", observed=True, sort=True):
            times = np.sort(rows["t_ns"].to_numpy())
            count = 1 + int((np.diff(times) > self.apart_s * 1e9).sum())
            if str(node) and count >= self.repairs_count:
                evidence = Evidence("repairs", float(count), 0.0, float(self.repairs_count), "count")
                yield str(node), _Reason(evidence, f"it was repaired {count} times", int(times[0]), int(times[-1]))

    def _xids(self, tables: Frames, now_ns: int) -> Iterator[tuple[str, _Reason]]:
        times: dict[tuple[str, str], list[int]] = {}
        for burst in _xids.bursts(tables, FATAL):
            if burst.end_ns > now_ns - int(self.day_s * 1e9):
                times.setdefault((burst.node, burst.device), []).append(burst.start_ns)
        for (node, device), mine in sorted(times.items()):
            if node and device and len(mine) >= self.fatal_count:
                evidence = Evidence(f"fatal_xids_{device}", float(len(mine)), 0.0, float(self.fatal_count), "count")
                yield node, _Reason(evidence, f"{device} had {len(mine)} fatal XIDs in a day", min(mine), max(mine))

    def _finding(self, node: str, reasons: list[_Reason]) -> Finding:
        lost_s = sum(one.lost_s for one in reasons)
        price = f"; {lost_s / 3600:.1f} hours of work were lost" if lost_s > 0 else ""
        return Finding(
            "sched-lemon-node", subjects.node(node), "culprit", "S2", 0.95 if len(reasons) > 1 else 0.85,
            Window(min(one.start_ns for one in reasons), max(one.end_ns for one in reasons)), 0.0, 0.0,
            tuple(one.evidence for one in reasons), f"{node}: " + ", ".join(one.text for one in reasons) + price,
            "give it no new work, run the long diagnostics and have it serviced; another reboot repairs nothing",
            lost_once_s=lost_s,
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: `watch` has found it; it takes days that few queries can look back."""
        return Rule(
            "SkewscopeSchedLemonNode",
            'skewscope_finding_active{condition="sched-lemon-node",role="culprit"} == 1',
            0, "warning", "{{ $labels.node }} breaks jobs again and again",
            "more of what runs on {{ $labels.node }} fails than elsewhere, or it needs repair every other day",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: what the host's parts say of themselves while it has no work."""
        xid, remap = "skewscope_gpu_xid_errors_total", "skewscope_gpu_row_remap_pending"
        replays = "skewscope_gpu_pcie_replays_total"
        return (
            Check("xids", "Did its GPUs raise XIDs?", xid, "rate", "< 0.0001", f"increase({xid}[1d])",
                  "see `rows`", "see the room of that XID, and have the GPU serviced"),
            Check("rows", "Does a GPU wait for rows to be remapped?", remap, "high", "< 1", remap,
                  "see `link`", "see `gpu-row-remap`", after=("xids",)),
            Check("link", "Are its PCIe links quiet?", replays, "rate", "< 0.1", f"rate({replays}[1h])",
                  "nothing counts it: run DCGM level 4 and a burn-in with its neighbours",
                  "see `pcie-error-replay`", after=("rows",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: the same everywhere, bad luck, a user's fault, one user, jobs, repairs, XIDs; and too few."""
        bad = frozenset({"n3"})
        yield World("quiet", _attempts.week({}))
        yield World("near-miss", _attempts.week({"n3": 3}))
        yield World("look-alike-program", _attempts.week({"n3": 9}, everywhere=True))
        yield World("look-alike-one-user", _attempts.week({"n3": 9}, users=1))
        yield World("fails-jobs", _attempts.week({"n3": 9}), bad)
        yield World("repaired", _attempts.repaired(5), bad)
        yield World("near-miss-repaired", _attempts.repaired(4))
        yield World("repaired-long-ago", _attempts.repaired(5, every_s=2 * DAY_S))
        yield World("xids", _attempts.xids(5), bad)
        yield World("near-miss-xids", _attempts.xids(4))


def _now(tables: Frames) -> int:
    """Return the newest time that anything tells of, 0 where nothing does."""
    told = [tables["windows"]["t_ns"], tables["events"]["t_ns"], tables["attempts"]["end_ns"]]
    newest: list[pd.Series] = [one for one in told if len(one)]
    return max((int(one.max()) for one in newest), default=0)
