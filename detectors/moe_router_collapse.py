"""The router of a training job has forgotten a part of the experts, or drops tokens at those that it prefers.

Why it hurts
    Dead experts learn nothing and their memory is wasted; tokens beyond the capacity of a full expert pass the layer
    unchanged. The loss gets worse and no step gets slower, so it is found late.

How it is seen
    More than 5 % of the experts got no token for 100 steps, with so many tokens that chance cannot be the reason, or
    more than 1 % of the picks were dropped. Live, the hook's dropped tokens are more than 1 % of the routed ones.

Look-alikes
    Few tokens leave experts empty by chance: the number needed is worked out first. Inference of one domain does not
    use every expert, which is no fault: only training counts. `moe-hot-expert`: experts are hot but none is dead.

What to do
    Raise the weight of the balancing loss or use a bias that follows the load (loss-free balancing), lower the
    learning rate of the router, look at its z-loss; go back to a checkpoint from before the collapse.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.moe import metrics
from skewscope.moe.diagnosis import TRAINING, Diagnosis
from skewscope.signals.persistence import lasting
from skewscope.signals.view import signal

from . import _moe, _moe_worlds

Array = np.ndarray[Any, Any]
ADVICE = (
    "raise the weight of the balancing loss, or balance by a bias that follows the load; lower the router's learning "
    "rate; go back to a checkpoint from before"
)


@dataclass(frozen=True)
class MoeRouterCollapse:
    """Thresholds: share of dead experts, for how many steps, and share of dropped picks."""

    category: ClassVar[str] = "moe"
    needs: ClassVar[tuple[str, ...]] = _moe.TABLES

    dead_ratio: float = 0.05  # D: of a layer's experts, conditions A8
    steps_count: int = 100  # D: for so long
    least_steps_count: int = 3  # recorded: of so many at least
    dropped_ratio: float = 0.01  # D: of the picks
    windows_count: int = 4
    of_windows_count: int = 5

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per job of dead experts or dropped tokens."""
        told: set[str] = set()
        for found in _moe.diagnoses(tables):
            dead = self.dead(found)
            share = _dropped(tables["expert_loads"], found, self.steps_count)
            if found.loads.job in told or not (dead.mean() > self.dead_ratio or share > self.dropped_ratio):
                continue
            told.add(found.loads.job)
            yield self._finding(tables, found, dead, share)
        yield from self._live(tables, told)

    def dead(self, found: Diagnosis) -> Array:
        """Return the share of experts [layers] without a token in the last hundred steps; zeros where chance may be."""
        counts = self._last(found)
        nobody = np.zeros(counts.shape[1])
        if found.loads.phase not in ("", TRAINING) or not found.loads.ordered or len(counts) < self.least_steps_count:
            return nobody
        return np.asarray(metrics.dead(counts.sum(axis=0))) if found.can_be_dead else nobody

    def _last(self, found: Diagnosis) -> Array:
        steps = found.loads.steps
        return np.asarray(found.loads.counts[steps > steps[-1] - self.steps_count])

    def _finding(self, tables: Frames, found: Diagnosis, dead: Array, dropped: float) -> Finding:
        counts = self._last(found)
        first = found.loads.counts[: max(1, len(counts))]
        then, now = (float(metrics.entropy(one.sum(axis=0)).mean()) for one in (first, counts))
        worst, experts = int(dead.argmax()), counts.shape[-1]
        steps = int(found.loads.steps[-1] - found.loads.steps[-len(counts)]) + 1
        parts = []
        if dead.mean() > self.dead_ratio:
            parts.append(f"{dead.mean():.0%} of {experts} experts got no token in {steps} steps (layer "
                         f"{found.loads.layers[worst]}: {dead[worst]:.0%})")  # fmt: skip
        if dropped > self.dropped_ratio:
            parts.append(f"{dropped:.1%} of the picks were dropped")
        return Finding(
            condition="moe-router-collapse", subject=subjects.job(found.loads.job), role="culprit", severity="S2",
            confidence=0.9 if found.loads.phase == TRAINING else 0.6, window=_moe.window(found, tables), lost_s=0.0,
            lost_share=0.0,
            evidence=(
                Evidence("dead_experts", float(dead.mean()), 0.0, self.dead_ratio, "ratio"),
                Evidence("dropped_picks", dropped, 0.0, self.dropped_ratio, "ratio"),
                Evidence("router_entropy", now, then, None, "ratio"),
            ),
            summary=f"{' and '.join(parts)}; the router's entropy is {now:.3f} where it was {then:.3f}",
            advice=ADVICE,
        )  # fmt: skip

    def _live(self, tables: Frames, told: set[str]) -> Iterable[Finding]:
        dropped = signal(tables, _moe.DROPPED, take="increase")
        routed = dropped.aligned(signal(tables, _moe.TOKENS, take="increase"), ("job", "rank"))
        for job in dict.fromkeys(dropped.job.tolist()):
            mine = dropped.job == job
            tokens = np.nansum(routed[:, mine], axis=1)
            share = np.nansum(dropped.values[:, mine], axis=1) / np.maximum(tokens, 1.0)
            mask = lasting((share > self.dropped_ratio)[:, None], self.windows_count, self.of_windows_count)[:, 0]
            if job in told or not mask.any():
                continue
            much = float(share[mask].mean())
            yield Finding(
                "moe-router-collapse", subjects.job(str(job)), "culprit", "S2", 0.85, dropped.window(mask), 0.0, 0.0,
                (Evidence("dropped_picks", much, 0.0, self.dropped_ratio, "ratio"),),
                f"{much:.1%} of the routed tokens are dropped at full experts", ADVICE,
            )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: tokens are dropped at full experts."""
        dropped, routed = (f"sum by (node, job_id) (rate({one}[5m]))" for one in (_moe.DROPPED, _moe.TOKENS))
        return Rule(
            "SkewscopeMoeRouterCollapse", f"{dropped} / {routed} > {self.dropped_ratio:g}", 120, "warning",
            "the router of {{ $labels.job_id }} drops tokens",
            "Job {{ $labels.job_id }} drops {{ $value | humanizePercentage }} of the tokens that ranks on "
            "{{ $labels.node }} route, at full experts",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: even, one expert dead, several, few tokens, inference, dropped tokens, the same live."""
        job = frozenset({"llm"})
        yield World("live-quiet", _moe_worlds.live(ratio=1.5, dropped=1e-4))
        yield World("quiet", _moe_worlds.tables(_moe_worlds.loads()))
        yield World("near-miss", _moe_worlds.tables(_moe_worlds.loads(drops=0.008)))
        yield World("dead", _moe_worlds.tables(_moe_worlds.loads(dead=(1, 9))), job)
        yield World("recovered", _moe_worlds.tables(_revived()))
        yield World("few-tokens", _moe_worlds.tables(_moe_worlds.loads(steps=4, tokens=12)))
        yield World("inference", _moe_worlds.tables(_moe_worlds.loads(dead=(1, 9), phase="decode")))
        yield World("dropped", _moe_worlds.tables(_moe_worlds.loads(drops=0.03)), job)
        yield World("live-near-miss", _moe_worlds.live(ratio=1.5, dropped=0.008))
        yield World("live", _moe_worlds.live(ratio=1.5, dropped=0.03), job)

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: are tokens dropped, is an expert hot, does the job still train."""
        steps = "skewscope_steps_total"
        return (
            Check("drops", "Tokens are dropped.", _moe.DROPPED, "rate", "> 0", f"rate({_moe.DROPPED}[5m])",
                  "the router prefers few experts, or the capacity factor is small",
                  "no capacity is set, or nothing overflows: count dead experts with the hook's loads"),
            Check("hot", "The busiest expert has many times the mean.", _moe.RATIO, "mean", ">= 2",
                  f"max by (job_id) ({_moe.RATIO})", "raise the weight of the balancing loss",
                  "the load is even: capacity is too small for noise"),
            Check("trains", "The job makes steps.", steps, "rate", "> 0", f"rate({steps}[5m])",
                  "compare its loss with that before", "it stands still: another condition"),
        )  # fmt: skip


def _dropped(rows: pd.DataFrame, found: Diagnosis, steps: int) -> float:
    """Return the share of dropped picks in the last steps of a job, 0 where nobody tells."""
    mine = rows[((rows["job"].astype(str) == found.loads.job) & (rows["dropped_tokens"] >= 0)).to_numpy()]
    if not len(mine):
        return 0.0
    last = mine[(mine["step"] > mine["step"].max() - steps).to_numpy()]
    routed = float(last["routed_tokens"].sum())
    return float(last["dropped_tokens"].sum()) / routed if routed > 0 else 0.0


def _revived() -> pd.DataFrame:
    """Return loads in which experts were dead for the first ten steps only."""
    late = _moe_worlds.loads()
    early = _moe_worlds.loads(dead=(1, 9))
    first = (early["step"] < 10).to_numpy()
    return late.assign(routed_tokens=np.where(first, early["routed_tokens"], late["routed_tokens"]))
