"""The path between two ranks is slow while both reach everybody else at full speed.

Why it hurts
    All-to-all and rings wait for their slowest edge. Since both ends are healthy with others, checks of a single node
    find nothing.

How it is seen
    One cell of the matrix of pair speeds (a probe or the job's own point-to-point calls) is at least three times slower
    than the median of the other cells, and neither its row nor its column is. Not to be confused with all pairs of one
    rank being slow (`coll-slow-endpoint`).

What to do
    Look at the path: cable, switch port, a hash that puts two flows on one link. Re-route, add queue pairs, or place
    the two ranks so that little traffic flows between them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope import subjects
from skewscope.attribution.endpoints import slow_ends
from skewscope.contracts import Finding, Frames, Rule, World
from skewscope.stats.robust import leave_one_out_median

from . import _priced_worlds, _prices


@dataclass(frozen=True)
class CollSlowLink:
    """Thresholds: how much slower the pair is than the others, and how many pairs it takes to say so."""

    category: ClassVar[str] = "collective"
    needs: ClassVar[tuple[str, ...]] = ("pair_delays", "blame", "step_times")

    slow_ratio: float = 3.0
    end_slow_ratio: float = 2.0
    fewest_pairs_count: int = 6
    fewest_bytes_per_s: float = 1.0

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per slow ordered pair between two healthy ends."""
        pairs = tables["pair_delays"]
        ends = slow_ends(pairs, self.end_slow_ratio)
        probed = pairs[
            ((pairs["source"] == "probe") & (pairs["speed_bytes_per_s"] >= self.fewest_bytes_per_s)).to_numpy()
        ]
        if len(probed) < self.fewest_pairs_count:
            return
        speed = probed["speed_bytes_per_s"].to_numpy()
        usual = leave_one_out_median(speed)
        for place in np.flatnonzero(usual / speed >= self.slow_ratio):
            src, dst = int(probed["src_rank"].iloc[place]), int(probed["dst_rank"].iloc[place])
            if src in ends or dst in ends:
                continue
            yield Finding(
                condition="coll-slow-link", subject=subjects.link("job", src, dst), role="culprit", severity="S3",
                confidence=0.9, window=_prices.steps_of(tables), lost_s=0.0, lost_share=0.0,
                evidence=(_prices.evidence("pair_speed", speed[place], float(usual[place]),
                                           float(usual[place]) / self.slow_ratio, "bytes/s"),),
                summary=f"from rank {src} to rank {dst} {speed[place] / 1e6:.1f} MB/s where other pairs move "
                f"{usual[place] / 1e6:.1f} MB/s; both ends are fast with others",
                advice=f"check the path between the nodes of ranks {src} and {dst}: cable, switch port, hashing",
            )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: a pair is this much slower than the others by the agents' probes."""
        return Rule(
            "SkewscopeCollSlowLink",
            f'skewscope_finding_score_ratio{{condition="coll-slow-link"}} >= {self.slow_ratio:g} and on (subject) '
            'skewscope_finding_active{condition="coll-slow-link"} == 1',
            240, "warning", "the path {{ $labels.subject }} is slow",
            "{{ $labels.subject }} is {{ $value | humanize }} times slower than other pairs",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: equal pairs, a pair a little slower, a slow pair, a slow end."""
        tables = _priced_worlds.priced()
        with_one = [(2, other) for other in (0, 1, 3)] + [(other, 2) for other in (0, 1, 3)]
        yield World("quiet", _priced_worlds.with_pairs(tables, {}))
        yield World("near-miss", _priced_worlds.with_pairs(tables, {(2, 0): 2.5}))
        yield World("slow", _priced_worlds.with_pairs(tables, {(2, 0): 9.0}), frozenset({"job/rank2->job/rank0"}))
        yield World("slow-end", _priced_worlds.with_pairs(tables, {pair: 20.0 for pair in with_one}))
