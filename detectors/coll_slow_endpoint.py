"""The network end of one rank is slow: every transfer that it is part of takes longer.

Why it hurts
    A ring or tree moves all data through every member, so one slow port, cable, PCIe slot or traffic shaper sets the
    speed of every collective. Compute and arrival order look the same on all ranks, and so do the byte counters.

How it is seen
    Between pairs (a probe, or the job's own point-to-point calls) every pair with that rank is at least twice as slow
    as the pairs without it. Its price is what the exposed transfers would save at the speed of the others, limited to
    the part of the transfer time that the line rate explains. Not to be confused with one slow pair only
    (`coll-slow-link`) or a rank that is late because of its work (`coll-late-rank`). From collectives alone only "the
    network is slow" can be said (`comm-exposed`).

What to do
    Check the rank's port (rate, errors, cable), its PCIe link, shapers and other traffic of its host; validate the
    node before it gets new work.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from skewscope import subjects
from skewscope.attribution.endpoints import slow_ends
from skewscope.contracts import Finding, Frames, Rule, World

from . import _priced_worlds, _prices


@dataclass(frozen=True)
class CollSlowEndpoint:
    """Thresholds: how much slower its pairs are; the line between severities is that of the share lost."""

    category: ClassVar[str] = "collective"
    needs: ClassVar[tuple[str, ...]] = ("pair_delays", "blame", "step_times")

    slow_ratio: float = 2.0
    lost_share_ratio: float = 0.05
    least_share_ratio: float = 0.02

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per rank whose pairs are all slow."""
        priced = {row.rank: row for row in _prices.prices(tables, "link", "transfer")}
        for rank, (own, other) in slow_ends(tables["pair_delays"], self.slow_ratio).items():
            row = priced.get(rank)
            share, lost = (row.lost_share_ratio, row.lost_s) if row else (0.0, 0.0)
            if row and share < self.least_share_ratio:
                continue
            cost = f"its transfers cost {_prices.duration(lost)} per step" if lost else "its price is not known"
            yield Finding(
                condition="coll-slow-endpoint", subject=subjects.rank("job", rank), role="culprit",
                severity=_prices.severity(share), confidence=0.95,
                window=row.window if row else _prices.steps_of(tables), lost_s=lost,
                lost_share=share,
                evidence=(_prices.evidence("pair_speed", own, other, other / self.slow_ratio, "bytes/s"),),
                summary=f"every pair with rank {rank} moves {own / 1e6:.1f} MB/s where the other pairs move "
                f"{other / 1e6:.1f} MB/s; {cost}",
                advice=f"check the port, cable, PCIe link and shapers of rank {rank}; validate its node",
            )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the finding stays active and costs its share."""
        return _prices.lost_share_alert(
            "coll-slow-endpoint",
            self.lost_share_ratio,
            240,
            "warning",
            "the network end of {{ $labels.subject }} is slow",
        )

    def cases(self) -> Iterable[World]:
        """Return worlds: equal pairs, pairs a little slower, one slow pair, one slow end."""
        tables = _priced_worlds.priced()
        with_one = [(2, other) for other in (0, 1, 3)] + [(other, 2) for other in (0, 1, 3)]
        yield World("quiet", _priced_worlds.with_pairs(tables, {}))
        yield World("near-miss", _priced_worlds.with_pairs(tables, {pair: 1.8 for pair in with_one}))
        yield World("one-pair", _priced_worlds.with_pairs(tables, {(2, 0): 9.0}))
        slow = _priced_worlds.with_pairs(tables, {pair: 20.0 for pair in with_one})
        yield World("slow", slow, frozenset({"job/rank2"}))
