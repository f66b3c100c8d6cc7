"""Generation and training wait for each other: one pool of GPUs idles while the other works.

Why it hurts
    With pools of their own, answers for the next batch are generated while the last one is trained on. The step takes
    as long as the slower pool; the GPUs of the other one wait, and were bought for nothing in that time.

How it is seen
    Ranks that never work in a phase are idle in it for a quarter of the step or more, in most of the last windows. The
    price is what the mean step grew by since; where it was always so, what pools of the right sizes would save: the
    idle share of all GPUs.

Look-alikes
    `rl-rollout-tail`: generators themselves wait for a few long answers. Ranks that do both phases in turn do not wait
    for a pool. A slow replica or link makes its pool late: that has a room of its own.

What to do
    Move GPUs from the idle pool to the other one, or let each pool run ahead by a bounded number of batches (bounded
    staleness), so that one long batch does not stop the other pool.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from skewscope import subjects
from skewscope.contracts import Check, Evidence, Finding, Frames, Rule, World
from skewscope.signals.persistence import STRONG_RATIO, lasting

from ._live_groups import Array
from ._live_shares import STEP
from ._rl import GENERATION, SECONDS, TRAINING, Phases, middle, phases, priced, reinforced

OTHER = {GENERATION: TRAINING, TRAINING: GENERATION}


@dataclass(frozen=True)
class RlPhaseIdle:
    """Thresholds: the idle share of a pool, for how long, and what that costs."""

    category: ClassVar[str] = "rl"
    needs: ClassVar[tuple[str, ...]] = ("windows",)

    idle_ratio: float = 0.25  # of the step {conditions A13}
    cost_ratio: float = 0.02  # of the step: below it is context {D}
    held_count: int = 3  # windows of 30 s {conditions A12}
    of_count: int = 4

    def detect(self, tables: Frames) -> Iterable[Finding]:
        """Return one finding per job and pool that waits for the other pool."""
        for one in phases(tables):
            for phase in (GENERATION, TRAINING):
                yield from self._of_phase(one, phase)

    def _of_phase(self, one: Phases, phase: str) -> Iterator[Finding]:
        """Yield the finding about those who wait in a phase in which they never work."""
        waits = ~one.works_in(phase) & one.works_in(OTHER[phase])
        if not waits.any() or waits.all():
            return
        idle = middle(one.idle_s[phase][:, waits] / one.step_s[:, waits])
        much = (idle >= self.idle_ratio)[:, None]
        strong = (idle >= STRONG_RATIO * self.idle_ratio)[:, None]
        mask = lasting(much, self.held_count, self.of_count, strong)[:, 0]
        if not mask.any():
            return
        share, count = float(np.nanmean(idle[mask])), int(waits.sum())
        found = Finding(
            condition="rl-phase-idle", subject=subjects.job(one.cost.job), role="culprit", severity="S3",
            confidence=0.9, window=one.told.window(mask), lost_s=0.0, lost_share=0.0,
            evidence=(Evidence("idle_of_step", share, None, self.idle_ratio, "ratio"),),
            summary=f"{count} of {len(waits)} ranks of {one.cost.job} wait {share:.0%} of each step for {phase}",
            advice=f"give {phase} more GPUs, or let the pools run ahead of each other by a bounded number of batches",
        )  # fmt: skip
        yield priced(found, one, mask, self._saved(one, mask), self.cost_ratio)

    def _saved(self, one: Phases, mask: Array) -> float:
        """Return which share of the step pools of the right sizes would save: the idle share of all ranks."""
        idle_s = one.idle_s[GENERATION] + one.idle_s[TRAINING]
        return float(np.nanmean(idle_s[mask] / one.step_s[mask]))

    def alert(self) -> Rule:
        """Return the alert: a rank is idle in a phase, in which it does not work, for the threshold of its step."""
        idle, busy = (f'rate({SECONDS}{{state="{state}"}}[2m])' for state in ("idle", "busy"))
        return Rule(
            "SkewscopeRlPhaseIdle",
            f"{idle} / ignoring (phase, state) group_left () rate({STEP}[2m]) >= {self.idle_ratio:g} "
            f"unless ignoring (state) {busy} > 0",
            30 * self.held_count, "info", "rank {{ $labels.rank }} of {{ $labels.job_id }} waits for the other pool",
            "rank {{ $labels.rank }} on {{ $labels.instance }} waits {{ $value | humanizePercentage }} of its time "
            "for {{ $labels.phase }}",
        )  # fmt: skip

    def guide(self) -> tuple[Check, ...]:
        """Return the checks: who waits, for which phase, and whether answers became longer."""
        answer = "skewscope_rl_answer_seconds"
        return (
            Check("trainers", "Do ranks wait for generation?", SECONDS, "rate", f">= {self.idle_ratio:g}",
                  f'rate({SECONDS}{{phase="{GENERATION}",state="idle"}}[5m])', "see `answers`", "see `generators`",
                  {"phase": GENERATION, "state": "idle"}),
            Check("generators", "Do ranks wait for training?", SECONDS, "rate", f">= {self.idle_ratio:g}",
                  f'rate({SECONDS}{{phase="{TRAINING}",state="idle"}}[5m])',
                  "training is the slower pool: give it GPUs of the generators", "no pool waits for long",
                  {"phase": TRAINING, "state": "idle"}),
            Check("answers", "How long does the median answer take? Compare it with before.", answer, "mean", "> 0",
                  f'{answer}{{statistic="median"}}', "longer than before: give GPUs to generation; as before: look "
                  "for a slow replica", "nobody tells of answers", {"statistic": "median"}, ("trainers",)),
        )  # fmt: skip

    def cases(self) -> Iterable[World]:
        """Return worlds: no pools, pools that fit, just below, a tail, one window; waiting since, from the start."""
        late = np.arange(20) >= 10
        yield World("quiet", reinforced(generating_s=3.0, tail_s=0.3).tables())
        yield World("fitting-pools", reinforced(generating_s=5.0, pools=True).tables())
        yield World("near-miss", reinforced(generating_s=5.0, pools=True, behind_s=1.9 * late).tables())
        yield World("look-alike-tail", reinforced(generating_s=2.0, tail_s=2.5 * late).tables())
        once = reinforced(generating_s=5.0, pools=True, behind_s=3.0 * (np.arange(20) == 12))
        yield World("single-window", once.tables())
        waiting = reinforced(generating_s=5.0, pools=True, behind_s=2.5 * late)
        yield World("waiting", waiting.tables(), frozenset({"llm"}))
        always = reinforced(generating_s=5.0, pools=True, behind_s=2.5)
        yield World("always", always.tables(), frozenset({"llm"}))
