"""A few experts get so many tokens that the GPUs which hold them compute while all others wait.

Why it hurts
    Each layer ends when its slowest GPU has multiplied the tokens of its experts. If one expert alone is more than a
    GPU's fair share, no placement helps: the layer takes as long as that expert.

How it is seen
    In a tenth of the layers or more the busiest expert has twice the mean of its layer (or the Gini coefficient is 0.35
    or more), beyond what chance makes of so few tokens; and where GPUs are known, today's balance is below 0.9 of the
    noise ceiling in these layers, and a new placement on the same slots makes good less than half of that. Live, where
    loads are not recorded, the hook's ratio of the busiest expert stays at 2 or more while all ranks that hold the same
    experts need longer than others.

Look-alikes
    `moe-rank-imbalance`: no expert is too large, they only lie badly; a new placement is enough. Experts that are
    skewed on GPUs that are even cost nothing, and nothing is said. `moe-router-collapse` starves experts in training.
    Padding and warm-up tokens all pick the same experts: the report names such faults of the record first.

What to do
    Add redundant experts: the finding says how many slots it takes and which experts get them. Where the workload
    became another one, plan from loads since then (`skewscope plan moe`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.moe import advice, metrics
from skewscope.moe.diagnosis import Diagnosis
from skewscope.signals.persistence import lasting
from skewscope.signals.view import signal

from . import _moe, _moe_worlds, _prices

Array = np.ndarray[Any, Any]
LAYERS_NAMED = 3
RULES = ("data", "change", "redundancy", "unplaced", "decode")  # of the diagnosis that speak of hot experts


@dataclass(frozen=True)
class MoeHotExpert:
    """Thresholds: how hot an expert is, in how many layers, and how far below the ceiling balance must be."""

    category: ClassVar[str] = "moe"
    needs: ClassVar[tuple[str, ...]] = _moe.TABLES

    hot_ratio: float = 2.0  # D: of the mean, conditions A8
    gini_ratio: float = 0.35  # D: conditions A8
    chance_ratio: float = 2.0  # D: times the excess that an even router shows on so few tokens
    layers_ratio: float = 0.1  # D: of the layers
    controlled_ratio: float = 0.9  # of the noise ceiling: finding rule 1 of the diagnosis
    recovered_ratio: float = 0.5  # D: of the way up to that, by placing anew: experts lie badly, none is too large
    waiting_ratio: float = 0.15  # D: the alert's: of the time, in the all-to-all
    slow_ratio: float = 1.05  # D: live, own work of the ranks that hold the same experts
    windows_count: int = 4
    of_windows_count: int = 5

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per job, from its recorded loads or else from live metrics."""
        told: set[str] = set()
        for job, phases in _moe.by_job(tables).items():
            hot = [(self.layers(one), one) for one in phases]
            layers, worst = max(hot, key=lambda pair: float(pair[0].mean()))
            if layers.mean() >= self.layers_ratio:
                yield self._recorded(tables, worst, layers, phases)
            if layers.mean() >= self.layers_ratio or any(one.ladder is not None for one in phases):
                told.add(job)  # what is recorded knows more than what is guessed live
        yield from self._live(tables, told)

    def layers(self, found: Diagnosis) -> Array:
        """Return [layers]: where experts are hot beyond chance, and GPUs pay for it as far as they are known."""
        gini = metrics.gini(found.judged.sum(0))
        hot: Array = (found.hottest >= self.hot_ratio) | (gini >= self.gini_ratio)
        hot &= found.hottest - 1 >= self.chance_ratio * (found.even_hottest - 1)
        rungs = found.ladder
        if rungs is None:
            return hot
        line = self.controlled_ratio * rungs.ceiling
        badly_placed = rungs.plan - rungs.now >= self.recovered_ratio * (line - rungs.now)
        return np.asarray(hot & (rungs.now < line) & ~badly_placed)

    def _recorded(self, tables: Frames, found: Diagnosis, layers: Array, phases: list[Diagnosis]) -> Finding:
        hottest = advice.hot_experts(found, LAYERS_NAMED)
        named = ", ".join(f"layer {layer} expert {expert} ({ratio:.1f} times)" for layer, expert, ratio in hottest)
        lost_s, share, priced = _moe.cost(found, tables)
        known = found.ladder is not None
        text = (
            f"{int(layers.sum())} of {len(layers)} layers{_moe.said_phase(found)} have experts that get "
            f"{self.hot_ratio:g} times the mean and more, at worst {named}"
        )
        if found.ladder is not None:
            rungs = found.ladder
            text += (
                f"; balance of {rungs.gpus} GPUs is {rungs.now.mean():.3f}, and a plan on {rungs.slots} slots reaches "
                f"{rungs.plan.mean():.3f} (bound {rungs.bound.mean():.3f}, noise ceiling {rungs.ceiling.mean():.3f})"
            )
        else:
            text += "; whether GPUs pay for it is unknown"
        evidence = (
            Evidence("busiest_expert_over_mean", float(np.median(found.hottest)),
                     float(np.median(found.even_hottest)), self.hot_ratio, "ratio"),
            Evidence("gini", found.experts["gini"].mean, 0.0, self.gini_ratio, "ratio"),
            *_moe.rungs(found),
        )  # fmt: skip
        faulty = bool(advice.faults(found))
        return Finding(
            condition="moe-hot-expert", subject=subjects.job(found.loads.job), role="culprit",
            severity=min(_prices.severity(share), "S3") if known else "S4",
            confidence=(0.9 if known else 0.6) - (0.3 if faulty else 0.0), window=_moe.window(found, tables),
            lost_s=lost_s, lost_share=share, evidence=evidence, summary=f"{text}; {priced}",
            advice=_moe.advice(found, phases, RULES),
        )  # fmt: skip

    def _live(self, tables: Frames, told: set[str]) -> Iterable[Finding]:
        ratio = signal(tables, _moe.RATIO)
        for held in _moe.holders(tables) if len(ratio) else ():
            mine = ratio.job == held.cost.job
            if held.cost.job in told or not mine.any():
                continue
            busiest = np.nanmax(np.where(np.isfinite(ratio.values[:, mine]), ratio.values[:, mine], 0.0), axis=1)
            slow = held.hot(self.slow_ratio) & (busiest >= self.hot_ratio)[:, None]
            mask = lasting(slow, self.windows_count, self.of_windows_count)
            if mask.any():
                yield self._of_ranks(held, mask, busiest, ratio.window(np.asarray(mask.any(axis=1))))

    def _of_ranks(self, held: _moe.Holders, mask: Array, busiest: Array, window: Any) -> Finding:  # noqa: ANN401
        some, hot = np.asarray(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        ranks = held.ranks(np.unique(held.of)[hot])
        lost_s, share = held.cost.lost(ranks, some)
        times, slow = float(busiest[some].mean()), float(np.nanmean(held.ratio[mask]))
        return Finding(
            condition="moe-hot-expert", subject=subjects.job(held.cost.job), role="culprit",
            severity=_prices.severity(share), confidence=0.8, window=window, lost_s=lost_s, lost_share=share,
            evidence=(
                Evidence("busiest_expert_over_mean", times, 1.0, self.hot_ratio, "ratio"),
                Evidence("work_of_its_ranks_over_others", slow, 1.0, self.slow_ratio, "ratio"),
            ),
            summary=f"the busiest expert gets {times:.1f} times the mean, and all {len(ranks)} ranks that hold the "
            f"same experts ({_few(ranks)}) need {slow:.2f} times the others' time, {_prices.duration(lost_s)} per step",
            advice="record the loads of experts (the hook's counts, or the engine's recorder) and run `skewscope plan "
            "moe` on them; redundant replicas of the hottest experts help",
        )  # fmt: skip

    def alert(self) -> Rule:
        """Return the alert: the busiest expert stays far above the mean, and ranks wait in the all-to-all."""
        waiting = 'max by (node, job_id) (rate(skewscope_collective_seconds_total{op="all_to_all"}[5m]))'
        return Rule(
            "SkewscopeMoeHotExpert",
            f"max by (node, job_id) ({_moe.RATIO}) >= {self.hot_ratio:g} "
            f"and on (node, job_id) {waiting} > {self.waiting_ratio:g}",
            600, "info", "experts of {{ $labels.job_id }} are hot",
            "The busiest expert of job {{ $labels.job_id }} gets {{ $value | humanize }} times the mean of its layer, "
            "and ranks on {{ $labels.node }} wait for those that hold it",
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: an even router, one expert that fits, hot ones with and without GPUs, flat GPUs, live."""
        job = frozenset({"llm"})
        yield World("live-quiet", _moe_worlds.live(ratio=1.2))
        yield World("quiet", _moe_worlds.tables(_moe_worlds.loads()))
        yield World("near-miss", _moe_worlds.tables(_moe_worlds.loads(hot=1.7), ep=4))
        yield World("hot", _moe_worlds.tables(_moe_worlds.loads(hot=9.0), ep=4), job)
        yield World("gpus-unknown", _moe_worlds.tables(_moe_worlds.loads(hot=9.0)), job)
        yield World("gpus-even", _moe_worlds.tables(_moe_worlds.loads(hot=3.0, every=4), ep=4))
        yield World("few-tokens", _moe_worlds.tables(_moe_worlds.loads(tokens=24, steps=1)))
        yield World("live-flat", _moe_worlds.live(ratio=4.0))
        yield World("live", _moe_worlds.live(ratio=4.0, late_s=0.1), job)

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: how hot, do its ranks pay for it, does the router drop tokens."""
        late, last = "skewscope_collective_seconds_total", "skewscope_collective_local_last_arrivals_total"
        return (
            Check("hot", "The busiest expert has many times the mean of its layer.", _moe.RATIO, "mean",
                  f">= {self.hot_ratio:g}", f"max by (job_id) ({_moe.RATIO})",
                  "go on with `waits`", "experts are even: see `moe-rank-imbalance` for how they lie"),
            Check("waits", "Ranks wait long in the all-to-all.", late, "rate", "> 0.05",
                  f'rate({late}{{op="all_to_all"}}[5m])', "the hot expert's ranks are those that wait least",
                  "GPUs are even in spite of it: nothing to do", {"op": "all_to_all"}, after=("hot",)),
            Check("last", "The same ranks always come last.", last, "rate", "> 1", f"rate({last}[10m])",
                  "they hold the hot experts: record loads and run `skewscope plan moe`",
                  "the ranks take turns: bursts; split tokens or plan robustly", after=("waits",)),
            Check("drops", "Tokens are dropped at full experts.", _moe.DROPPED, "rate", "> 0",
                  f"rate({_moe.DROPPED}[5m])", "see `moe-router-collapse`", "capacity is enough"),
        )  # fmt: skip


def _few(ranks: list[int]) -> str:
    shown = ", ".join(map(str, ranks[:4]))
    return shown + (", ..." if len(ranks) > 4 else "")
