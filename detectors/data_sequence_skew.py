"""Sequences differ in length between ranks and steps, so each step waits for whoever got the longest.

Why it hurts
    Work grows with tokens (attention with their square). If batches are packed by count instead of by cost, some rank
    has a long one in nearly every step, and the step lasts as long as that rank needs.

How it is seen
    Own work differs much between ranks within a step, but the slowest rank changes from step to step, and the work
    follows the tokens (or forward and backward grow together). Not to be confused with a slow rank that stays the same
    (`coll-late-rank`). Without tokens or phases to confirm it, this room only says that the slowest rank rotates.

What to do
    Nobody to drain. Pack or sort batches by cost (length squared for attention), balance tokens across data-parallel
    ranks, or use sequence parallelism for the long ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from skewscope import subjects
from skewscope.contracts import Finding, Frames, Rule, World
from skewscope.stats.robust import correlation, mad

from . import _priced_worlds, _prices

SHOWN_STEPS = 6
SMALLEST_SPREAD = 0.01  # of the median: identical ranks still differ by a hundredth


@dataclass(frozen=True)
class DataSequenceSkew:
    """Thresholds: what the spread costs, how much ranks must differ, and how well tokens must explain it."""

    category: ClassVar[str] = "data"
    needs: ClassVar[tuple[str, ...]] = ("blame", "rank_steps", "step_times")

    lost_share_ratio: float = 0.05
    unexplained_share_ratio: float = 0.15
    outlier_ratio: float = 5.0
    token_correlation_ratio: float = 0.9
    phase_correlation_ratio: float = 0.95
    forward_variation_ratio: float = 0.10
    steady_hit_share_ratio: float = 0.5
    other_cause_ratio: float = 0.5
    fewest_steps_count: int = 4

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding for the job, culprit where lengths explain the spread, else context."""
        for row in _prices.prices(tables, "job", "sequence")[:1]:
            if row.lost_share_ratio >= self.lost_share_ratio:
                yield self._finding(tables, row, "per-microbatch forward and backward time grow together", 1.0)
                return
        skew = _prices.prices(tables, "job", "skew")
        if not skew or skew[0].lost_share_ratio < self.lost_share_ratio or self._steady(tables):
            return
        row = skew[0]
        known = sum(_prices.lost(tables, "job", cause) for cause in ("input", "gc", "checkpoint"))
        if known >= self.other_cause_ratio * row.lost_s or row.steps_count < self.fewest_steps_count:
            return
        why, strength = self._explained(tables["rank_steps"])
        stands_out = _outlier(tables["rank_steps"]) >= self.outlier_ratio
        if why or (stands_out and row.lost_share_ratio >= self.unexplained_share_ratio):
            yield self._finding(tables, row, why, strength)

    def _steady(self, tables: Frames) -> bool:
        """Return whether one rank is the slowest so often that it, not the data, is to blame."""
        return any(
            row.lost_share_ratio >= self.lost_share_ratio and row.hit_share_ratio >= self.steady_hit_share_ratio
            for row in _prices.prices(tables, "rank", "own")
        )

    def _explained(self, steps: pd.DataFrame) -> tuple[str, float]:
        """Return (what confirms that lengths are the cause, strength 0..1); ("", 0) if nothing does."""
        tokens = steps["work_tokens"].to_numpy().astype(float)
        own = _off_rank(steps, (steps["work_ns"] - steps["input_ns"]).to_numpy())
        if (tokens > 0).all() and len(np.unique(tokens)) > 1:
            follows = correlation(_off_rank(steps, tokens), own)
            if follows >= self.token_correlation_ratio:
                return f"work follows the tokens (correlation {follows:.2f})", follows
        forward, backward = steps["forward_ns"].to_numpy(), steps["backward_ns"].to_numpy()
        together = correlation(_off_rank(steps, forward), _off_rank(steps, backward))
        varies = float(np.nanstd(forward) / np.nanmean(forward)) if np.isfinite(forward).any() else 0.0
        if together >= self.phase_correlation_ratio and varies >= self.forward_variation_ratio:
            return f"forward and backward grow together (correlation {together:.2f})", together
        return "", 0.0

    def _finding(self, tables: Frames, row: _prices.Price, why: str, strength: float) -> Finding:
        sure = bool(why)
        lost = row.lost_s
        text = f"each step waits for the rank with the longest sequences, {_prices.duration(lost)} per step; {why}"
        worst = slowest(tables["rank_steps"])
        if not sure:
            text = (
                f"the slowest rank changes from step to step ({_listed(worst)}) and costs "
                f"{_prices.duration(lost)} per step: that is the workload, not a node; the recording does not show "
                "tokens, so the cause stays open"
            )
        return Finding(
            condition="data-sequence-skew", subject=subjects.job("job"), role="culprit" if sure else "context",
            severity=_prices.severity(row.lost_share_ratio) if sure else "S4",
            confidence=float(min(row.confidence_ratio, strength)) if sure else 0.5, window=row.window,
            lost_s=lost, lost_share=row.lost_share_ratio,
            evidence=(
                _prices.evidence("spread_share_of_step", row.lost_share_ratio, 0.0, self.lost_share_ratio, "ratio"),
                _prices.evidence("explained_by_length", strength, 0.0, self.token_correlation_ratio, "ratio"),
                _prices.evidence("distinct_slowest_ranks", len(set(worst.values())), 1.0, None,
                                 "count"),
            ),
            summary=text,
            advice="pack batches by cost instead of by count, or sort and balance tokens across ranks",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the finding stays active and costs its share."""
        return _prices.lost_share_alert(
            "data-sequence-skew",
            self.lost_share_ratio,
            900,
            "info",
            "sequence lengths are uneven in {{ $labels.subject }}",
        )

    def cases(self) -> Iterable[World]:
        """Return worlds: even, a spread below the line, long sequences that rotate, a rank that stays slow."""
        own = _priced_worlds.rotating()
        job = {"skew": 0.3}
        yield World("quiet", _priced_worlds.priced())
        yield World("near-miss", _priced_worlds.priced(job={"skew": 0.04}, own=own, tokens=(own * 128).astype(int)))
        long = _priced_worlds.priced(job=job, own=own, tokens=(own * 128).astype(int))
        yield World("long", long, frozenset({"job"}))
        yield World("unexplained", _priced_worlds.priced(job=job, own=own, phases=own * 0 + 0.2), frozenset({"job"}))
        yield World("one-rank", _priced_worlds.priced(rank=3, lost_share=0.3, job=job, own=own))


def _outlier(steps: pd.DataFrame) -> float:
    """Return how many spreads of the other ranks the slowest rank stands above their median, in the median step."""
    table = steps.pivot_table(index="step", columns="rank", values="work_ns").to_numpy()
    if table.shape[1] < 3:
        return 0.0
    ranked = np.sort(table, axis=1)
    others = ranked[:, :-1]
    middle = np.nanmedian(others, axis=1)
    spread = np.maximum(mad(others), SMALLEST_SPREAD * middle)
    return float(np.nanmedian((ranked[:, -1] - middle) / spread))


def _listed(worst: Mapping[int, int]) -> str:
    """Return the first few steps with their slowest rank, as text."""
    shown = [f"step {step}: rank {rank}" for step, rank in list(worst.items())[:SHOWN_STEPS]]
    return ", ".join(shown) + (", ..." if len(worst) > SHOWN_STEPS else "")


def slowest(steps: pd.DataFrame) -> dict[int, int]:
    """Return the rank with the most own work of each step.

    >>> slowest(pd.DataFrame({"step": [0, 0], "rank": [0, 1], "work_ns": [1.0, 2.0]}))
    {0: 1}
    """
    ordered = steps.sort_values("work_ns", kind="stable").drop_duplicates("step", keep="last").sort_values("step")
    return {int(step): int(rank) for step, rank in zip(ordered["step"], ordered["rank"], strict=True)}


def _off_rank(steps: pd.DataFrame, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return `values` minus the median of their pipeline stage: what varies beyond the place in the model."""
    column = pd.Series(np.asarray(values, dtype=float))
    return np.asarray(column - column.groupby(steps["stage"].to_numpy()).transform("median"))
