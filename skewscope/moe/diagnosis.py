"""All that can be said of the expert loads of one job and phase: where experts live, ladder, drift, cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from . import drift, metrics, noise, times
from .ladder import Ladder, ladder, shuffled, slots_needed, window_edges
from .layout import Layout, layout
from .loads import Loads, of_tables
from .placement import Floats, balancedness

Tables = Mapping[str, pd.DataFrame]
TRAINING = "train"
TOLD_BY = ("expert_loads", "expert_placements", "ranks", "step_times", "windows")
MOST_SPANS = 16  # in which the newest steps are looked for
BALANCE_STEP = 0.1  # of balance: so much less or more is another state


@dataclass(frozen=True)
class Diagnosis:
    """One job and phase; `deff` [L] is the design effect, `clock` None where model or GPU is not known.

    Everything else is worked out when it is asked for, and once.
    """

    loads: Loads
    layout: Layout
    deff: Floats
    clock: times.Clock | None = None
    step_s: float = float("nan")

    @cached_property
    def judged(self) -> NDArray[np.int64]:
        """Loads [T, L, E] of the steps that are like the newest ones; all where nothing changed."""
        counts = self.loads.counts
        since = self._since() if self.loads.ordered else 0
        return counts[since:] if len(counts) - since >= drift.REACH_STEPS else counts

    def _since(self) -> int:
        """Return the first place from which on workload and balance are what they are in the newest window."""
        since = self.changes[-1].place if self.changes else 0
        edges = drift.cut(len(self.loads.steps), min(MOST_SPANS, len(self.loads.steps) // drift.REACH_STEPS))
        windows = drift.summed(self.loads.counts, edges)
        alike = np.ones(len(windows), dtype=bool)
        if self.loads.counts.shape[-1] >= drift.JUDGED_EXPERTS:
            bits = [drift.change_since(one, windows[-1], self.deff).mean() for one in windows]
            alike &= np.array(bits) < drift.ALARM_BITS
        if self.layout.placement is not None:
            balance = balancedness(self.layout.placement.gpu_loads(windows)).mean(-1)
            alike &= np.abs(balance - balance[-1]) <= BALANCE_STEP
        other = np.flatnonzero(~alike)
        return max(since, int(edges[other[-1] + 1]) if len(other) else 0)

    @cached_property
    def ladder(self) -> Ladder | None:
        """The gap ladder, None where no GPUs are known."""
        if self.layout.placement is None:
            return None
        model = self.model
        groups = model.groups if model is not None and model.groups > 1 else 0
        return ladder(self.judged, self.layout.placement, self.deff, groups, ordered=self.loads.ordered)

    @property
    def model(self) -> times.Shape | None:
        """The model that has these layers, experts and picks."""
        return times.shape_of(self.loads.counts.shape[1], self.loads.counts.shape[2], self.loads.top_k)

    @property
    def gpus(self) -> int:
        """Expert-parallel ranks, 0 where unknown."""
        return self.layout.placement.gpus if self.layout.placement is not None else 0

    @cached_property
    def changes(self) -> list[drift.Change]:
        """Where the workload became another one."""
        return drift.changes(self.loads.counts, self.deff) if self.loads.ordered else []

    @cached_property
    def bursts(self) -> list[tuple[int, int]]:
        """Spans of places of steps with other loads than the rest."""
        if not self.loads.ordered:
            return []
        return drift.bursts(self.loads.counts, self.deff, [one.place for one in self.changes])

    @cached_property
    def drift(self) -> drift.Drift | None:
        """What changes between the windows of the ladder; None for one window or steps without order."""
        edges = window_edges(len(self.loads.steps))
        return drift.drift(self.loads.counts, edges, self.deff) if self.loads.ordered and len(edges) > 2 else None

    @cached_property
    def kept(self) -> float | None:
        """How much of its balance the recorded map has kept since it holds: newest window over first; None unknown."""
        where, loads = self.layout, self.loads
        counts = loads.counts[loads.steps >= where.since]
        if where.placement is None or not where.recorded or not loads.ordered or len(counts) < 2 * drift.REACH_STEPS:
            return None
        first, last = counts[: drift.REACH_STEPS].sum(0), counts[-drift.REACH_STEPS :].sum(0)
        return float(drift.staleness(where.placement, first, last).mean())

    @cached_property
    def experts(self) -> dict[str, metrics.Spread]:
        """Metrics of experts, over layers, of all judged steps together."""
        return metrics.level(self.judged.sum(0), self.loads.layers)

    @cached_property
    def hottest(self) -> Floats:
        """The busiest expert over the mean [L]: the median over windows, so that one burst does not count."""
        return np.asarray(np.median(metrics.overload(self._windows()), axis=0))

    @cached_property
    def even_hottest(self) -> Floats:
        """What chance alone makes of that [L]: one over the noise ceiling of experts."""
        windows = self._windows()
        return np.asarray((1.0 / noise.ceiling(windows.sum(-1), windows.shape[-1], self.deff)).mean(0))

    @cached_property
    def dead(self) -> Floats:
        """Share of experts without a token [L] in all steps together."""
        return metrics.dead(self.loads.total())

    @property
    def picks_per_step(self) -> float:
        """Tokens x top-k of a step and layer, mean."""
        return float(self.loads.counts.sum(-1).mean()) if self.loads.counts.size else 0.0

    @property
    def can_be_dead(self) -> bool:
        """Whether there are so many tokens that an expert without any is not chance."""
        experts = self.loads.counts.shape[-1]
        picks = float(self.loads.total().sum(-1).min()) / float(np.max(self.deff))
        return picks >= noise.tokens_to_judge(experts, 1)

    @cached_property
    def cost_s(self) -> float | None:
        """Seconds of a step that perfect balance would save at the peak speeds of data sheets; None where unknown."""
        return self.cost_on(self.clock.board) if self.clock is not None else None

    def cost_on(self, board: times.Hardware) -> float | None:
        """Return the same seconds if all GPUs were of one kind; None where model or GPUs are not known."""
        if self.model is None or self.layout.placement is None:
            return None
        clock = times.Clock(self.model, board, self.model.weight_bytes, passes=_passes(self.loads.phase))
        return times.imbalance_s(clock.gpu_s(self.judged, self.layout.placement))

    @cached_property
    def slots_needed(self) -> int:
        """Slots with which the replication bound is 0.98, 0 where no GPUs are known."""
        return slots_needed(self.judged.sum(0), self.gpus) if self.gpus else 0

    def _windows(self) -> NDArray[np.int64]:
        edges = window_edges(len(self.judged))
        counts = self.judged if self.loads.ordered else shuffled(self.judged, len(edges) - 1)
        return drift.summed(counts, edges)


def diagnose(tables: Tables, job: str = "", phase: str | None = None) -> list[Diagnosis]:
    """Return the diagnosis of each job and phase of the table `expert_loads`, sorted; [] where it is empty.

    The map of experts, the expert-parallel size, the GPUs' model and the length of steps come from the other tables
    where these tell. Raises UsageError for loads beyond all sense.
    """
    found = []
    for loads in of_tables(tables, job, phase):
        if loads.counts.size and loads.counts.any():
            found.append(_diagnosis(tables, loads))
    return found


def key(tables: Tables) -> str:
    """Return a name for what a diagnosis was made from beside the loads, so that it can be remembered with them."""
    return "moe " + "-".join(str(id(tables[name])) for name in TOLD_BY[1:] if name in tables)


def apart(found: list[Diagnosis]) -> float:
    """Return how far the loads of several phases are apart: the greatest divergence in bits, net, mean over layers."""
    most = 0.0
    for place, one in enumerate(found):
        for other in found[place + 1 :]:
            if one.loads.counts.shape[1:] == other.loads.counts.shape[1:] and one.loads.job == other.loads.job:
                effect = np.maximum(one.deff, other.deff)
                most = max(most, float(drift.change_since(one.loads.total(), other.loads.total(), effect).mean()))
    return most


def _diagnosis(tables: Tables, loads: Loads) -> Diagnosis:
    deff = noise.design_effect(loads.counts)
    where = layout(tables, loads)
    model = times.shape_of(loads.counts.shape[1], loads.counts.shape[2], loads.top_k)
    board = _board(tables)
    clock = None
    if model is not None and board is not None:
        clock = times.Clock(model, board, model.weight_bytes, passes=_passes(loads.phase))
    return Diagnosis(loads, where, deff, clock, _step_s(tables, loads.job))


def _passes(phase: str) -> float:
    return times.TRAINING_PASSES if phase == TRAINING else 1.0


def _board(tables: Tables) -> times.Hardware | None:
    """Return the GPU that the metrics name; None where nobody tells, or several kinds are told."""
    rows = tables.get("windows", pd.DataFrame())
    if not len(rows):
        return None
    told = rows.loc[(rows["metric"] == "skewscope_gpu_info").to_numpy(), "labels"]
    found = {times.hardware_of(str(text)) for text in told.unique()}
    return found.pop() if len(found) == 1 else None


def _step_s(tables: Tables, job: str) -> float:
    rows = tables.get("step_times", pd.DataFrame())
    if not len(rows):
        return float("nan")
    mine = rows[((rows["job"].astype(str) == job) & ~rows["planned"]).to_numpy()]
    return float(mine["duration_ns"].median()) / 1e9 if len(mine) else float("nan")
