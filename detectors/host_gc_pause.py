"""Python's garbage collector stops one rank at a time, and all others wait for it.

Why it hurts
    A full collection walks every object of the process, 100 ms and more in a large trainer, while no kernel is
    launched. Each rank collects at a different step, so with many ranks nearly every step holds somebody's pause.

How it is seen
    The recording shows collector pauses (spans named gc); replaying the steps without what they add beyond the peers'
    shortens them. The paused rank changes. Live, the seconds in the phase gc of all ranks of a job add up, since pauses
    at different steps are waited for one after another; the price is what the job's steps became longer by, within that
    sum.

Look-alikes
    `data-sequence-skew`: the slow rank changes as well, but its kernels are longer, here the gap between them is.
    `step-spike`: one long step without a pause in it. `host-cpu-contention`: the same rank again and again.

What to do
    Freeze what start-up allocated (`gc.freeze()`), switch automatic collection off and collect by hand on all ranks at
    the same step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Check, Finding, Frames, Rule, World
from skewscope.signals.impact import costs
from skewscope.signals.persistence import STRONG_RATIO, lasting

from . import _live, _live_shares, _live_worlds, _priced_worlds, _prices

ADVICE = "gc.freeze() after start-up, gc.disable(), and gc.collect() on all ranks at the same step"


@dataclass(frozen=True)
class HostGcPause:
    """Thresholds: share of the step that the pauses cost, and of what the ranks' spread costs."""

    category: ClassVar[str] = "host"
    needs: ClassVar[tuple[str, ...]] = ("blame", "step_times", "windows")

    lost_share_ratio: float = 0.01
    dominant_ratio: float = 0.5
    steady_hit_share_ratio: float = 0.5
    held_count: int = 3  # windows of 30 s {conditions A12}
    of_count: int = 4

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding: the job's, or the rank's where one rank alone pauses; live, one of each job."""
        recorded = list(self._recorded(tables))
        yield from recorded or self._live(tables)

    def _live(self, tables: Frames) -> Iterable[Finding]:
        told = _live_shares.share_of_step(tables, _live_shares.PHASES, "gc")
        jobs = _live.roles(told, tables)
        for job in dict.fromkeys(jobs.tolist()):
            cost, of_job = costs(tables).jobs.get(str(job)), told.values[:, jobs == job]
            shares = np.nansum(of_job, axis=1)
            much, more = (shares[:, None] >= times * self.lost_share_ratio for times in (1.0, STRONG_RATIO))
            mask = lasting(much, self.held_count, self.of_count, strong=more)[:, 0]
            if cost is None or not mask.any():
                continue
            paused, longest = float(shares[mask].mean()), float(np.nanmax(of_job[mask]))
            shift = cost.lost((), mask)[1]
            share = float(np.clip(shift, min(longest, paused), paused)) if shift > 0 else paused
            lost_s = share * float(np.nanmean(cost.step_s[mask]))
            if share < self.lost_share_ratio:
                continue
            yield Finding(
                "host-gc-pause", subjects.job(str(job)), "culprit", _prices.severity(share), 0.85, told.window(mask),
                lost_s, share, (_prices.evidence("gc_share_of_step", paused, 0.0, self.lost_share_ratio, "ratio"),),
                f"garbage collection pauses one rank after another, {_prices.duration(lost_s)} ({share:.0%}) per step",
                ADVICE,
            )  # fmt: skip

    def _recorded(self, tables: Frames) -> Iterable[Finding]:
        priced = _prices.prices(tables, "job", "gc")
        if not priced or priced[0].lost_share_ratio < self.lost_share_ratio:
            return
        row = priced[0]
        if row.lost_s < self.dominant_ratio * _prices.lost(tables, "job", "skew"):
            return
        steady = [rank for rank in _prices.prices(tables, "rank", "gc")
                  if rank.hit_share_ratio >= self.steady_hit_share_ratio]  # fmt: skip
        alone = bool(steady) and steady[0].lost_s >= self.dominant_ratio * row.lost_s
        subject = subjects.rank("job", steady[0].rank) if alone else subjects.job("job")
        yield Finding(
            condition="host-gc-pause", subject=subject, role="culprit",
            severity=_prices.severity(row.lost_share_ratio), confidence=row.confidence_ratio,
            window=row.window, lost_s=row.lost_s, lost_share=row.lost_share_ratio,
            evidence=(
                _prices.evidence("gc_share_of_step", row.lost_share_ratio, 0.0, self.lost_share_ratio, "ratio"),
            ),
            summary=f"garbage collection pauses {'one rank' if alone else 'one rank after another'} and everybody "
            f"waits, {_prices.duration(row.lost_s)} per step",
            advice=ADVICE,
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the finding stays active and costs its share."""
        return _prices.lost_share_alert(
            "host-gc-pause", self.lost_share_ratio, 900, "info", "garbage collection stalls {{ $labels.subject }}"
        )

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: time in pauses, other waits of the host, and whether one rank is always last."""
        phases, last = "skewscope_phase_seconds_total", "skewscope_collective_local_last_arrivals_total"
        delay = "skewscope_rank_run_delay_seconds_total"
        return (
            Check("pauses", "Do ranks spend time in the garbage collector?", phases, "rate",
                  f">= {self.lost_share_ratio:g}", f'rate({phases}{{phase="gc"}}[10m])',
                  "freeze and collect by hand at the same step; `turns` tells whether one rank stands out",
                  "pauses are too short to matter", {"phase": "gc"}),
            Check("turns", "Is one rank nearly always the last to arrive?", last, "rate", "> 1", f"rate({last}[10m])",
                  "then it is more than pauses: see `coll-late-rank`", "ranks take turns, as pauses do",
                  after=("pauses",)),
            Check("delay", "Do its threads wait for a CPU instead?", delay, "rate", ">= 0.05", f"rate({delay}[10m])",
                  "see `host-cpu-contention`", "the pauses are Python's own", after=("pauses",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: no pauses, pauses below the line, pauses beside a larger cause, pauses that cost."""
        yield World("quiet", _priced_worlds.priced())
        yield World("near-miss", _priced_worlds.priced(job={"skew": 0.009, "gc": 0.009}))
        yield World("minor", _priced_worlds.priced(job={"skew": 0.3, "gc": 0.02}))
        yield World("pauses", _priced_worlds.priced(job={"skew": 0.1, "gc": 0.09}), frozenset({"job"}))
        yield World("live-near-miss", _collecting(0.008))
        yield World("live", _collecting(0.08), frozenset({"llm"}))


def _collecting(share: float) -> _live_worlds.TABLES:
    """Return a job whose ranks together spend this share of each step in the collector, from the middle on."""
    fleet = _live_worlds.Fleet()
    since, ranks = fleet.windows_count // 2, len(fleet.nodes) * len(fleet.gpus)
    fleet.put("skewscope_phase_seconds_total", _live_worlds.WINDOW_S * share / ranks, labels="phase=gc",
              devices=fleet.gpus, since=since)  # fmt: skip
    return fleet.slow_transfer(0.5 * share / (1 - share), since=since).tables()
