"""One rank arrives late at collectives because of its own work, and everybody waits for it.

Why it hurts
    A collective ends for all when the last member has arrived. One rank with a tenth more work per step makes the
    whole job a tenth slower, and every other GPU waits: on those ranks the step looks just as long, so step times and
    utilisation name nobody.

How it is seen
    The rank's own work between arrivals, with all waiting taken out, exceeds the median of its peers (same stage, same
    calls) in most steps, and replaying the job with the usual work on that rank shortens the step. The culprit waits
    least inside the collective. A loss below a tenth of the step must show in nearly every step, and in eight at least:
    busy hosts alone make somebody a little slower more often than not. Not to be confused with a rank that is late
    because it waited for somebody else (pipeline neighbours: its waiting is not its work), with a slowest rank that
    changes from step to step (`data-sequence-skew`), or with late input (`data-loader-stall`), which this room leaves
    to theirs.
    Live, own work is step time less the time in collectives: 1.1 times that of the peers or more, while input, copies,
    garbage collection, processors, tokens and clocks do not explain it.

What to do
    Look at that rank's GPU (clocks, throttle reasons, ECC), then its host (CPU pressure, foreign processes). If the
    cause is not found within minutes, exclude the node at the next restart; until then give the rank less work
    (smaller micro-batches) if the framework can.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Evidence, Finding, Frames, Rule, World
from skewscope.signals.persistence import lasting
from skewscope.signals.view import Signal

from . import _crowds, _late_ranks, _live, _priced_worlds, _prices
from ._live_worlds import Fleet

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class CollLateRank:
    """Thresholds: share of steps in which it is the slowest, share of the step it costs, certainty, peers."""

    category: ClassVar[str] = "collective"
    needs: ClassVar[tuple[str, ...]] = ("blame", "arrivals", "rank_steps", "step_times", "windows", "ranks")

    hit_share_ratio: float = 0.5
    lost_share_ratio: float = 0.05
    plain_share_ratio: float = 0.10
    small_hit_share_ratio: float = 0.9
    rate_ratio: float = 1.05
    confidence_ratio: float = 0.9
    fewest_peers_count: int = 2
    fewest_steps_count: int = 3
    small_fewest_steps_count: int = 8  # for a small loss: who shares a core on a busy host is last for a few steps
    other_cause_ratio: float = 0.6
    always_last_ratio: float = 0.9
    least_share_ratio: float = 0.001  # always last by less of a step is of no use to anybody
    fewest_calls_count: int = 12
    slow_ratio: float = 1.10  # live: own work of a step against the peers' {Greyhound}
    strong_ratio: float = 1.20  # live {OWN}: such work needs one window less
    spread_z: float = 4.0  # live {OWN}: robust deviations by which healthy ranks differ
    explained_ratio: float = 0.5  # live {OWN}: of the excess; then another condition is the cause
    crowd_ratio: float = 0.25  # live {A11}: so many at once are no single rank
    held_count: int = 4  # live {A12}: windows; last resort, after whatever says why
    of_count: int = 5

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per rank that is consistently late through its own work."""
        loud = [row for row in _prices.prices(tables, "rank", "own") if self._is_loud(row)]
        found = [self._priced(tables, row) for row in loud if not self._has_another_cause(tables, row)]
        yield from found
        if not loud:
            yield from self._always_last(tables)
        if not found:
            yield from self._live(tables)

    def _live(self, tables: Frames) -> Iterable[Finding]:
        """Yield the ranks whose own work live metrics show to be long."""
        for job in _late_ranks.late(tables, self):
            told = job.told
            strong = job.suspect & (job.ratio >= self.strong_ratio)
            mask = lasting(job.suspect, self.held_count, self.of_count, strong)
            for one in _crowds.found(told, mask, tables):
                if one.subject is None:
                    yield self._live_finding(tables, told, one, job.usual)

    def _live_finding(self, tables: Frames, told: Signal, one: _crowds.Found, usual: Array) -> Finding:
        column, own_s, usual_s = one.column, one.mean(told.values), one.mean(usual)
        rank, node = int(told.rank[column]), str(told.node[column])
        found = _live.finding(
            "coll-late-rank", tables, told, column, one.mask, role="culprit", confidence=0.8, least="S4",
            subject=subjects.rank(str(told.job[column]) or "job", rank, node=node), ranks=[rank],
            evidence=(
                Evidence("own_work_per_step", own_s, usual_s, self.slow_ratio * usual_s, "s"),
                Evidence("own_work_against_peers", own_s / usual_s, 1.0, self.slow_ratio, "ratio"),
            ),
            summary=f"rank {rank} on {node} needs {own_s * 1e3:.0f} ms for its part of a step, its peers "
            f"{usual_s * 1e3:.0f} ms, and nothing that is measured explains it",
            advice=f"look at what the process of rank {rank} does between collectives (`py-spy dump`), then at its "
            "host; exclude the node at the next restart",
        )  # fmt: skip
        return found if found.lost_share >= self.lost_share_ratio else replace(found, role="context")

    def _is_loud(self, row: _prices.Price) -> bool:
        plain = row.lost_share_ratio >= self.plain_share_ratio
        often = self.hit_share_ratio if plain else self.small_hit_share_ratio
        steady = row.hit_share_ratio >= often and row.confidence_ratio >= self.confidence_ratio
        costly = row.lost_share_ratio >= self.lost_share_ratio and row.rate_ratio >= self.rate_ratio
        return (
            steady
            and costly
            and row.steps_count >= (self.fewest_steps_count if plain else self.small_fewest_steps_count)
        )

    def _has_another_cause(self, tables: Frames, row: _prices.Price) -> bool:
        known = sum(_prices.lost(tables, "rank", cause, row.rank) for cause in ("input", "gc", "checkpoint"))
        return known >= self.other_cause_ratio * row.lost_s

    def _priced(self, tables: Frames, row: _prices.Price) -> Finding:
        share, late_s, calls = _prices.lateness(tables, row.rank)
        sure = row.peers_count >= self.fewest_peers_count
        fair = 1.0 / (row.peers_count + 1)
        found = [
            _prices.evidence("own_work_over_peers", row.rate_ratio, 1.0, self.rate_ratio, "ratio"),
            _prices.evidence("slowest_share_of_steps", row.hit_share_ratio, fair, self.hit_share_ratio, "ratio"),
        ]
        if calls:
            late = late_s / _prices.step_s(tables)
            found += [
                _prices.evidence("last_arriver_share", share, fair, None, "ratio"),
                _prices.evidence("late_over_step", late, 0.0, None, "ratio"),
            ]
        doubt = "" if sure else f"; with {row.peers_count} peer(s) it cannot be told which one is unusual"
        return Finding(
            condition="coll-late-rank", subject=_subject(tables, row.rank, row.stage),
            role="culprit" if sure else "context", severity=_prices.severity(row.lost_share_ratio) if sure else "S4",
            confidence=row.confidence_ratio if sure else 0.5, window=row.window, lost_s=row.lost_s,
            lost_share=row.lost_share_ratio, evidence=tuple(found),
            summary=f"rank {row.rank} needs {row.rate_ratio:.2f}x the work time of its peers and is the slowest in "
            f"{row.hit_share_ratio:.0%} of steps; everybody waits for it, {_prices.duration(row.lost_s)} "
            f"per step{doubt}",
            advice=f"check the GPU and host of rank {row.rank} (clocks, throttling, CPU pressure); "
            "exclude the node at the next restart",
        )  # fmt: skip

    def _always_last(self, tables: Frames) -> Iterable[Finding]:
        """Return the rank that is last nearly always though it costs little, or last most in too few steps to tell."""
        last = _prices.last_arrivers(tables)
        if last is None or last.calls_count < self.fewest_calls_count // 2:
            return
        step_s = _prices.step_s(tables)
        lost_s = last.waited_s / last.steps_count if last.steps_count else 0.0
        rounds = last.steps_count or len(tables["step_times"])  # steps that only the calls show have no number in them
        share_of_step = last.waited_s / (rounds * step_s) if rounds and step_s > 0 else 0.0
        always = last.share_ratio >= self.always_last_ratio and last.calls_count >= self.fewest_calls_count
        if always and step_s > 0 and share_of_step < self.least_share_ratio:
            return
        few = 0 < last.steps_count < self.fewest_steps_count and share_of_step >= self.lost_share_ratio
        if last.confidence_ratio < self.confidence_ratio or last.peers_count < self.fewest_peers_count:
            return
        if not always and not (few and last.share_ratio >= self.hit_share_ratio):
            return
        why = "" if always else f"; {last.steps_count} step(s) are too few to tell a slow rank from chance"
        waiting = (
            f"{_prices.duration(lost_s)} per step" if last.steps_count else _prices.duration(last.waited_s) + " in all"
        )
        yield Finding(
            condition="coll-late-rank", subject=_subject(tables, last.rank, -1),
            role="culprit" if always else "context", severity="S4", confidence=last.confidence_ratio if always else 0.5,
            window=_prices.steps_of(tables), lost_s=lost_s, lost_share=share_of_step,
            lost_once_s=0.0 if last.steps_count else last.waited_s,
            evidence=(
                _prices.evidence("last_arriver_share", last.share_ratio, 1.0 / (last.peers_count + 1),
                                 self.always_last_ratio, "ratio"),
                _prices.evidence("late_over_step", share_of_step, 0.0, self.lost_share_ratio, "ratio"),
            ),
            summary=f"rank {last.rank} arrives last at {last.share_ratio:.0%} of {last.calls_count} collectives and "
            f"keeps the others waiting {waiting}{why}",
            advice=f"compare the GPU and host of rank {last.rank} with its peers' when the job allows it",
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
        yield World("few-steps", _priced_worlds.arriving(late_ratio=1.0, steps=2, late_s=0.1), frozenset({"job/rank2"}))
        yield World("little-but-always", _priced_worlds.arriving(late_ratio=1.0), frozenset({"job/rank2"}))
        yield World("little-and-often", _priced_worlds.arriving(late_ratio=0.7))
        yield World("input", _priced_worlds.priced(rank=3, lost_share=0.2, causes={"input": 0.18}))
        yield World("live-quiet", Fleet().tables())
        yield World("live-near-miss", Fleet().late(5, 0.02).tables())
        yield World("live", Fleet().late(5, 0.12).tables(), frozenset({"llm/rank5"}))


def _subject(tables: Frames, rank: int, stage: int) -> subjects.Subject:
    found = tables["rank_steps"]
    names = found.loc[(found["rank"] == rank).to_numpy(), "node"]
    return subjects.rank("job", rank, node=str(names.iloc[0]) if len(names) else "", stage=stage)
