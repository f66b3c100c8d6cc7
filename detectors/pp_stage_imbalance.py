"""One pipeline stage has more work than the others, so every other stage waits for it in each microbatch.

Why it hurts
    A pipeline runs at the pace of its heaviest stage; the time that the other stages idle grows with the number of
    microbatches. The last stage (loss, output embedding) and the first (embedding) are the usual ones.

How it is seen
    A stage's own compute per step is at least 1.1 times that of the other stages, on all of its data-parallel replicas
    alike, and bringing it to the mean of the stages shortens the replayed step. Not to be confused with one heavy
    replica: then the rank is slow (`coll-late-rank`), not the stage.

What to do
    Nobody to drain. Move layers away from the stage, or use interleaved (virtual) stages; recompute the split from
    measured forward and backward times per layer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Finding, Frames, Rule, World
from skewscope.frames import concat

from . import _priced_worlds, _prices


@dataclass(frozen=True)
class PpStageImbalance:
    """Thresholds: load against the other stages, spread between replicas, share of the step lost."""

    category: ClassVar[str] = "pipeline"
    needs: ClassVar[tuple[str, ...]] = ("blame", "rank_steps", "step_times")

    load_ratio: float = 1.10
    replica_ratio: float = 1.20
    lost_share_ratio: float = 0.03
    confidence_ratio: float = 0.8

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per heavy stage; its rank only where the stage is a single rank."""
        for row in _prices.prices(tables, "stage", "stage"):
            if row.lost_share_ratio < self.lost_share_ratio or not row.rate_ratio >= self.load_ratio:
                continue
            members = _members(tables, row.stage)
            if row.confidence_ratio < self.confidence_ratio or _replica_spread(tables, members) > self.replica_ratio:
                continue
            only = members[0] if len(members) == 1 else -1
            yield Finding(
                condition="pp-stage-imbalance", subject=subjects.stage("job", row.stage, rank=only),
                role="culprit", severity=_prices.severity(row.lost_share_ratio),
                confidence=row.confidence_ratio, window=row.window, lost_s=row.lost_s,
                lost_share=row.lost_share_ratio,
                evidence=(
                    _prices.evidence("stage_compute_over_others", row.rate_ratio, 1.0, self.load_ratio, "ratio"),
                ),
                summary=f"stage {row.stage} computes {row.rate_ratio:.2f}x as long as the other stages; bringing it to "
                f"their mean saves {_prices.duration(row.lost_s)} per step",
                advice=f"move layers away from stage {row.stage}, or interleave virtual stages",
            )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the finding stays active and costs its share."""
        return _prices.lost_share_alert(
            "pp-stage-imbalance",
            self.lost_share_ratio,
            900,
            "info",
            "{{ $labels.subject }} has more work than the other stages",
        )

    def cases(self) -> Iterable[World]:
        """Return worlds: even stages, a stage slightly heavier, a heavy stage."""
        tables = _priced_worlds.priced()
        light = _priced_worlds.blame_row("stage", "stage", 0.02, stage=3, rate=1.06)
        heavy = _priced_worlds.blame_row("stage", "stage", 0.25, stage=3, rate=2.0)
        yield World("quiet", tables)
        yield World("near-miss", {**tables, "blame": concat("blame", [light])})
        yield World("heavy", {**tables, "blame": concat("blame", [heavy])}, frozenset({"job/stage3"}))


def _members(tables: Frames, stage: int) -> list[int]:
    steps = tables["rank_steps"]
    return [int(rank) for rank in np.unique(steps.loc[(steps["stage"] == stage).to_numpy(), "rank"])]


def _replica_spread(tables: Frames, members: list[int]) -> float:
    """Return the heaviest replica's own work over the lightest's, 1 for a single rank."""
    if len(members) < 2:
        return 1.0
    steps = tables["rank_steps"]
    mine = steps[steps["rank"].isin(members).to_numpy()]
    work = mine.groupby("rank")["work_ns"].median()
    return float(work.max() / max(work.median(), 1.0))
