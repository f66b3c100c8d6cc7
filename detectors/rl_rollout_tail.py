"""A few long answers hold the whole batch: most of the generators have ended and wait for them.

Why it hurts
    Training begins when the last answer of the batch is there. Where a few answers are several times as long as most,
    GPUs that have ended theirs idle, and those that still generate do so for one or two sequences at a time.

How it is seen
    The generation phase takes three times the median answer or more, and ranks that generate are idle for a part of
    it, in most of the last windows. The price is what the mean step grew by since; where it was always so, the idle
    part of the phase.

Look-alikes
    A slow replica: all its answers are slow, the median too (`gpu-slow-silent` and others tell why). `rl-phase-idle`:
    all answers are long and the pool that trains waits. Sixty-four answers a replica always have a longest one: twice
    the median is usual and no fault.

What to do
    Cut answers at a length and go on with them in the next batch (partial rollouts), stream finished answers to the
    trainer, sort prompts by the length that is expected, and let idle replicas take over waiting prompts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.peers import peer_median
from skewscope.signals.persistence import STRONG_RATIO, lasting
from skewscope.signals.view import signal

from ._live_groups import Array
from ._rl import ANSWER, GENERATION, SECONDS, STEPS, Phases, middle, phases, priced, reinforced


@dataclass(frozen=True)
class RlRolloutTail:
    """Thresholds: the phase against the median answer, its idle part, a slow replica, for how long, the price."""

    category: ClassVar[str] = "rl"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    tail_ratio: float = 3.0  # {conditions A13 says 2; 64 answers that spread by 0.3 have 2.5 when nothing is wrong}
    idle_ratio: float = 0.15  # of the phase {conditions A13 says 0.20, of single steps; means over windows waver}
    slow_ratio: float = 1.3  # a replica's median answer against the others': then it is the replica {D}
    cost_ratio: float = 0.02  # of the step: below it is context {D}
    held_count: int = 3  # windows of 30 s {conditions A12}
    of_count: int = 4

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per job whose generation waits for its longest answers."""
        for one in phases(tables):
            generates = one.works_in(GENERATION)
            if not generates.any():
                continue
            busy_s, idle_s = (part[GENERATION][:, generates] for part in (one.busy_s, one.idle_s))
            phase_s = middle((busy_s + idle_s) / one.steps[:, generates])
            median_s, slow = self._answers(tables, one, generates)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = phase_s / median_s
                idle = idle_s.sum(axis=1) / (busy_s + idle_s).sum(axis=1)
            much = (ratio >= self.tail_ratio) & (idle >= self.idle_ratio) & ~slow
            strong = much & (ratio - 1 >= STRONG_RATIO * (self.tail_ratio - 1))
            mask = lasting(much[:, None], self.held_count, self.of_count, strong[:, None])[:, 0]
            if mask.any():
                yield self._finding(one, mask, ratio, idle, float(np.nanmean(phase_s[mask] * idle[mask])))

    def _answers(self, tables: Frames, one: Phases, generates: Array) -> tuple[Array, Array]:
        """Return [windows]: the median answer, and whether one replica is slow as a whole."""
        median_s = one.told.aligned(signal(tables, ANSWER, statistic="median"))[:, generates]
        peers = peer_median(median_s, np.zeros(median_s.shape[1]))
        return middle(median_s), np.asarray((median_s >= self.slow_ratio * peers).any(axis=1))

    def _finding(self, one: Phases, mask: Array, ratio: Array, idle: Array, idle_s: float) -> Finding:
        worst, share = float(np.nanmean(ratio[mask])), float(np.nanmean(idle[mask]))
        step_s = float(np.nanmean(one.step_s[mask] / one.steps[mask]))
        found = Finding(
            condition="rl-rollout-tail", subject=subjects.job(one.cost.job), role="culprit", severity="S3",
            confidence=0.85, window=one.told.window(mask), lost_s=0.0, lost_share=0.0,
            evidence=(
                Evidence("phase_of_median_answer", worst, None, self.tail_ratio, "ratio"),
                Evidence("idle_of_generation", share, None, self.idle_ratio, "ratio"),
            ),
            summary=f"generation of {one.cost.job} takes {worst:.1f} times its median answer, and its GPUs idle "
            f"{share:.0%} of that",
            advice="cut answers and go on with them later, stream finished ones to the trainer, sort by length",
        )  # fmt: skip
        return priced(found, one, mask, idle_s / step_s, self.cost_ratio)

    def alert(self) -> Rule:
        """Return the alert: a rank is idle while its generation phase takes a multiple of its median answer."""
        rank, generation = "on (instance, job_id, rank)", f'phase="{GENERATION}"'
        whole = f"sum by (instance, job_id, rank) (rate({SECONDS}{{{generation}}}[2m]))"
        return Rule(
            "SkewscopeRlRolloutTail",
            f"{whole} / {rank} rate({STEPS}[2m]) / {rank} {ANSWER}{{statistic=\"median\"}} >= {self.tail_ratio:g} "
            f"and {rank} rate({SECONDS}{{{generation},state=\"idle\"}}[2m]) / {rank} {whole} >= {self.idle_ratio:g}",
            30 * self.held_count, "info", "rank {{ $labels.rank }} of {{ $labels.job_id }} waits for long answers",
            "generation on {{ $labels.instance }} takes {{ $value }} times the median answer of rank "
            "{{ $labels.rank }}",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: the idle part, the lengths, a slow replica, and the pool that trains."""
        idle = f'rate({SECONDS}{{phase="{GENERATION}",state="idle"}}[5m])'
        return (
            Check("idle", "Do ranks idle while others still generate?", SECONDS, "rate", ">= 0.05", idle,
                  "see `lengths`", "generators are busy: see `rl-phase-idle`",
                  {"phase": GENERATION, "state": "idle"}),
            Check("lengths", "How long does the longest answer take?", ANSWER, "mean", "> 0",
                  f'{ANSWER}{{statistic="max"}} / ignoring (statistic) {ANSWER}{{statistic="median"}}',
                  "above 3 a few long answers hold the batch; see `replica`", "nobody tells of answers",
                  {"statistic": "max"}, ("idle",)),
            Check("replica", "Is one replica slow with all its answers?", ANSWER, "mean", "> 0",
                  f'{ANSWER}{{statistic="median"}}',
                  "one above the others: look for its GPU or link; all alike: cut or stream long answers",
                  "nobody tells of answers", {"statistic": "median"}, ("lengths",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: a usual tail, just below, all long, a slow replica, one window; a tail, one from the start."""
        late = np.arange(20) >= 10
        yield World("quiet", reinforced(generating_s=2.2, tail_s=0.3).tables())
        yield World("near-miss", reinforced(generating_s=2.3, tail_s=0.2 + 0.4 * late).tables())
        yield World("all-long", reinforced(generating_s=2.2 + 1.8 * late, tail_s=0.3).tables())
        slow = reinforced(generating_s=2.2, tail_s=0.2 + 1.5 * late)
        slow.put(ANSWER, 1.5, labels="statistic=median", nodes=["n0"], devices=["gpu1"])
        yield World("look-alike-replica", slow.tables())
        once = reinforced(generating_s=2.2, tail_s=0.3 + 1.5 * (np.arange(20) == 12))
        yield World("single-window", once.tables())
        yield World("tail", reinforced(generating_s=2.4, tail_s=0.2 + 1.2 * late).tables(), frozenset({"llm"}))
        yield World("always", reinforced(generating_s=2.4, tail_s=1.4).tables(), frozenset({"llm"}))
