"""Communication that no computation hides takes a large share of every step.

Why it hurts
    While a rank only transfers, its GPU computes nothing. Nobody is at fault: all ranks pay the same, so nothing stands
    out between them, and the loss is taken for normal.

How it is seen
    Per rank and step: communication time after everybody had arrived, minus what ran beside computation; the median
    over ranks and steps, over the step. 15 % is worth a look, 30 % is severe. Waiting for a late rank is not
    communication and is taken out before. Not to be confused with one slow link or group (`coll-slow-link`,
    `coll-slow-group`), where some ranks transfer longer than others.

What to do
    Start the transfers earlier (overlap gradients with backward, prefetch parameters), use larger buckets, keep tensor
    parallelism inside a host, or synchronise less often. What compute could hide at most bounds the gain.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from skewscope import subjects
from skewscope.contracts import Finding, Frames, Rule, World

from . import _prices, _worlds


@dataclass(frozen=True)
class CommExposed:
    """Thresholds: exposed share of the step that is told, and that is severe."""

    category: ClassVar[str] = "collective"
    needs: ClassVar[tuple[str, ...]] = ("rank_steps", "step_times")

    exposed_ratio: float = 0.15
    severe_ratio: float = 0.30

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding for the job where the exposed share is beyond the threshold."""
        steps = _exposed(tables["rank_steps"], tables["step_times"])
        if not len(steps):
            return
        share, lost_s = float((steps["transfer"] / steps["whole"]).median()), float(steps["transfer"].median()) / 1e9
        hidden_s = float(steps["compute"].median()) / 1e9
        if not share >= self.exposed_ratio:
            return
        yield Finding(
            "comm-exposed", subjects.job("job"), "context", "S2" if share >= self.severe_ratio else "S3", 0.9,
            _prices.steps_of(tables), lost_s, share,
            (
                _prices.evidence("exposed_over_step", share, 0.0, self.exposed_ratio, "ratio"),
                _prices.evidence("overlap_bound", min(lost_s, hidden_s), None, None, "s"),
            ),
            f"{share:.0%} of the step ({_prices.duration(lost_s)}) is communication that no computation hides, "
            "on the median rank",
            "overlap communication with computation: earlier and larger buckets, prefetched parameters",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the exposed share stays beyond the threshold."""
        return Rule(
            "SkewscopeExposedCommunication",
            f'skewscope_finding_lost_share_ratio{{condition="comm-exposed"}} >= {self.exposed_ratio:g}',
            600, "info", "communication is exposed", "{{ $value | humanizePercentage }} of every step is bare transfer",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: hidden, below the line, exposed, severe, exposed only in warm-up and checkpoint steps."""
        whole = [1.0] * 20
        yield World("quiet", _worlds.steps(whole))
        yield World("near-miss", _worlds.steps(whole, transfer_ratio=0.13))
        yield World("exposed", _worlds.steps(whole, transfer_ratio=0.2), frozenset({"job"}))
        yield World("severe", _worlds.steps(whole, transfer_ratio=0.4), frozenset({"job"}))
        yield World("planned", _worlds.steps(whole, planned=range(20), transfer_ratio=0.4))


def _exposed(rank_steps: pd.DataFrame, step_times: pd.DataFrame) -> pd.DataFrame:
    """Return per judged step the median over ranks of transfer, compute and whole time, ns."""
    planned = step_times.loc[step_times["planned"].to_numpy(), "step"]
    rows = rank_steps[~rank_steps["step"].isin(planned).to_numpy()]
    whole = (rows["end_ns"] - rows["start_ns"]).astype(float)
    found = pd.DataFrame({
        "step": rows["step"], "transfer": rows["transfer_ns"], "compute": rows["compute_ns"],
        "whole": whole.where(whole > 0, np.nan),
    })  # fmt: skip
    return found.groupby("step").median().dropna(subset=["transfer", "whole"])
