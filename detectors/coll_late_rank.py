"""One rank arrives late at collectives because of its own work, and everybody waits for it.

Why it hurts
    A collective ends for all when the last member has arrived. One rank with a tenth more work per step makes the
    whole job a tenth slower, and every other GPU waits: on those ranks the step looks just as long, so step times and
    utilisation name nobody.

How it is seen
    The rank's own work between arrivals, with all waiting taken out, exceeds the median of its peers (same stage, same
    calls) in most steps, and replaying the job with the usual work on that rank shortens the step. The culprit waits
    least inside the collective. Not to be confused with a rank that is late because it waited for somebody else
    (pipeline neighbours: its waiting is not its work), with a slowest rank that changes from step to step
    (`data-sequence-skew`), or with late input (`data-loader-stall`), which this room leaves to theirs.

What to do
    Look at that rank's GPU (clocks, throttle reasons, ECC), then its host (CPU pressure, foreign processes). If the
    cause is not found within minutes, exclude the node at the next restart; until then give the rank less work
    (smaller micro-batches) if the framework can.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from skewscope import subjects
from skewscope.contracts import Finding, Frames, Rule, World

from . import _priced_worlds, _prices


@dataclass(frozen=True)
class CollLateRank:
    """Thresholds: share of steps in which it is the slowest, share of the step it costs, certainty, peers."""

    category: ClassVar[str] = "collective"
    needs: ClassVar[tuple[str, ...]] = ("blame", "arrivals", "rank_steps", "step_times")

    hit_share_ratio: float = 0.5
    lost_share_ratio: float = 0.05
    rate_ratio: float = 1.05
    confidence_ratio: float = 0.9
    fewest_peers_count: int = 2
    other_cause_ratio: float = 0.6

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per rank that is consistently late through its own work."""
        for row in _prices.prices(tables, "rank", "own"):
            if row.lost_share_ratio < self.lost_share_ratio or not row.rate_ratio >= self.rate_ratio:
                continue
            if self._has_another_cause(tables, row):
                continue
            steady = row.hit_share_ratio >= self.hit_share_ratio and row.confidence_ratio >= self.confidence_ratio
            if row.peers_count < self.fewest_peers_count and steady:
                yield self._finding(tables, row, "context")
            elif steady:
                yield self._finding(tables, row, "culprit")

    def _has_another_cause(self, tables: Frames, row: _prices.Price) -> bool:
        known = sum(_prices.lost(tables, "rank", cause, row.rank) for cause in ("input", "gc", "checkpoint"))
        return known >= self.other_cause_ratio * row.lost_s

    def _finding(self, tables: Frames, row: _prices.Price, role: str) -> Finding:
        share, late_s, calls = _prices.lateness(tables, row.rank)
        step_s = _prices.step_s(tables)
        found = [
            _prices.evidence("own_work_over_peers", row.rate_ratio, 1.0, self.rate_ratio, "ratio"),
            _prices.evidence("slowest_share_of_steps", row.hit_share_ratio, 1.0 / (row.peers_count + 1),
                             self.hit_share_ratio, "ratio"),
        ]  # fmt: skip
        if calls:
            found += [
                _prices.evidence("last_arriver_share", share, 1.0 / (row.peers_count + 1), None, "ratio"),
                _prices.evidence("late_over_step", late_s / step_s, 0.0, None, "ratio"),
            ]
        doubt = "" if role == "culprit" else f"; with {row.peers_count} peer(s) it cannot be told which one is unusual"
        return Finding(
            condition="coll-late-rank",
            subject=subjects.rank("job", row.rank, node=_node(tables, row.rank), stage=row.stage),
            role=role, severity=_prices.severity(row.lost_share_ratio) if role == "culprit" else "S4",
            confidence=row.confidence_ratio if role == "culprit" else 0.5, window=row.window,
            lost_s=row.lost_s, lost_share=row.lost_share_ratio, evidence=tuple(found),
            summary=f"rank {row.rank} needs {row.rate_ratio:.2f}x the work time of its peers and is the slowest in "
            f"{row.hit_share_ratio:.0%} of steps; everybody waits for it, {_prices.milliseconds(row.lost_s)} "
            f"per step{doubt}",
            advice=f"check the GPU and host of rank {row.rank} (clocks, throttling, CPU pressure); "
            "exclude the node at the next restart",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the finding stays active and costs its share."""
        return _prices.lost_share_alert(
            "coll-late-rank", self.lost_share_ratio, 240, "warning", "{{ $labels.subject }} is late at collectives"
        )

    def cases(self) -> Iterable[World]:
        """Return worlds: equal ranks, a lateness below the line, one late rank, a late rank that changes."""
        yield World("quiet", _priced_worlds.priced())
        yield World("near-miss", _priced_worlds.priced(rank=3, lost_share=0.04))
        yield World("late", _priced_worlds.priced(rank=3, lost_share=0.2), frozenset({"job/rank3"}))
        yield World("rotating", _priced_worlds.priced(rank=3, lost_share=0.2, hit_share=0.2))
        yield World("input", _priced_worlds.priced(rank=3, lost_share=0.2, causes={"input": 0.18}))


def _node(tables: Frames, rank: int) -> str:
    found = tables["rank_steps"]
    names = found.loc[(found["rank"] == rank).to_numpy(), "node"]
    return str(names.iloc[0]) if len(names) else ""
