"""The gap ladder of each layer: from the balance of today up to what no plan can pass, and which limit binds.

now -> (keep one plan) -> plan held out -> plan on its own window -> group bound -> replication bound -> 1; and beside
them the noise ceiling, which a perfect placement would show on these few tokens. What a step of the ladder loses has a
name: placement, drift, noise, packing, groups, replication. The largest loss binds: only mending that one helps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import bounds, drift, noise, planner
from .placement import Floats, Placement, balancedness

MOST_WINDOWS = 4
WINDOW_STEPS, LEAST_STEPS = 8, 2  # of one window; with fewer steps two halves, with fewer than two no held-out score
NEAR_RATIO = 0.95  # of the noise ceiling: then chance, not the placement, is what is seen
LIMITS = ("placement", "drift", "noise", "packing", "groups", "replication")


@dataclass(frozen=True)
class Ladder:
    """All [L], means over windows of steps unless told otherwise; NaN where it cannot be known.

    `now` and `now_step` are the running placement on windows and on single steps; `ceiling` and `ceiling_step` what
    noise leaves of 1 there; `bound` is the replication bound, `group_bound` the one with groups kept on nodes; `plan`
    is scored on the window it was made for, `held_out` on the next one and `held_out_step` on its steps. `kept` and
    `replanned` compare, over the second half of the windows, one plan of all of the first half with plans made anew
    for each window of the one before.
    """

    now: Floats
    now_step: Floats
    ceiling: Floats
    ceiling_step: Floats
    bound: Floats
    group_bound: Floats
    plan: Floats
    held_out: Floats
    held_out_step: Floats
    kept: Floats
    replanned: Floats
    slots: int
    gpus: int
    nodes: int
    windows: int
    steps_per_window: float

    def losses(self) -> dict[str, Floats]:
        """Return what each limit takes [L], in balance; together they are about 1 - now."""
        plan, held = self.plan, np.where(np.isnan(self.held_out), self.plan, self.held_out)
        groups = np.where(np.isnan(self.group_bound), self.bound, self.group_bound)
        later = np.maximum(plan - held, 0.0)
        chance = np.minimum(later, 1.0 - self.ceiling)
        found = (held - self.now, later - chance, chance, groups - plan, self.bound - groups, 1.0 - self.bound)
        return {name: np.maximum(one, 0.0) for name, one in zip(LIMITS, found, strict=True)}

    def binding(self) -> list[str]:
        """Return the limit that binds in each layer; "noise" where today's balance is at the noise ceiling."""
        losses = self.losses()
        worst = np.stack([losses[name] for name in LIMITS]).argmax(0)
        near = self.now >= NEAR_RATIO * self.ceiling
        return ["noise" if at_ceiling else LIMITS[place] for place, at_ceiling in zip(worst, near, strict=True)]

    @property
    def limit(self) -> str:
        """Return the limit that binds over all layers."""
        if float(self.now.mean()) >= NEAR_RATIO * float(self.ceiling.mean()):
            return "noise"
        losses = {name: float(one.mean()) for name, one in self.losses().items()}
        return max(losses, key=lambda name: losses[name])


def window_edges(steps: int) -> NDArray[np.int64]:
    """Return the edges of the windows that a series of steps is judged in: at most four, of eight steps or more.

    >>> window_edges(32).tolist(), window_edges(5).tolist(), window_edges(1).tolist()
    ([0, 8, 16, 24, 32], [0, 2, 5], [0, 1])
    """
    if steps >= 2 * WINDOW_STEPS:
        return drift.cut(steps, min(MOST_WINDOWS, steps // WINDOW_STEPS))
    return drift.cut(steps, 2 if steps >= 2 * LEAST_STEPS else 1)


def shuffled(counts: NDArray[Any], windows: int) -> NDArray[Any]:
    """Return steps without an order of time dealt out to windows in turn, so that all windows are of one mix."""
    place = np.arange(len(counts)) % windows
    return counts[np.argsort(place, kind="stable")]


def ladder(counts: NDArray[Any], placement: Placement, deff: Floats | float = 1.0, groups: int = 0, *,
           ordered: bool = True) -> Ladder:  # fmt: skip
    """Return the ladder of loads [T, L, E] under a running placement; `groups` are router groups kept on a node.

    Plans have the slots, GPUs and nodes of the running placement. Raises UsageError where loads and placement do not
    fit each other.
    """
    x = np.asarray(counts, np.int64)
    edges = window_edges(len(x))
    if not ordered:
        x = shuffled(x, len(edges) - 1)
    windows = drift.summed(x, edges)
    slots, gpus, nodes = int(placement.slots.shape[1]), placement.gpus, placement.nodes
    hierarchical = groups if nodes > 1 and groups and groups % nodes == 0 else 0
    plans = [_planned(x[a:b], slots, gpus) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    now, step = balancedness(placement.gpu_loads(windows)), balancedness(placement.gpu_loads(x))
    later = [(plans[at], edges[at + 1], edges[at + 2]) for at in range(len(plans) - 1)]
    nothing = np.full(x.shape[1], np.nan)
    once = _planned(x[: edges[len(plans) // 2]], slots, gpus) if len(later) > 1 else None
    kept, replanned = _once_or_often(windows, plans, once) if once is not None else (nothing, nothing)
    return Ladder(
        now=now.mean(0), now_step=step.mean(0), ceiling=noise.ceiling(windows.sum(-1), gpus, deff).mean(0),
        ceiling_step=noise.ceiling(x.sum(-1), gpus, deff).mean(0),
        bound=np.mean([bounds.replication(one, slots, gpus) for one in windows], axis=0),
        group_bound=np.mean([bounds.grouped(one, slots, gpus, nodes, hierarchical) for one in windows], axis=0)
        if hierarchical else nothing,
        plan=np.mean([_score(plan, one) for plan, one in zip(plans, windows, strict=True)], axis=0),
        held_out=np.mean([_score(plan, x[a:b].sum(0)) for plan, a, b in later], axis=0) if later else nothing,
        held_out_step=np.mean([_score(plan, x[a:b]).mean(0) for plan, a, b in later], axis=0) if later else nothing,
        kept=kept, replanned=replanned,
        slots=slots, gpus=gpus, nodes=nodes, windows=len(plans), steps_per_window=len(x) / len(plans),
    )  # fmt: skip


def slots_needed(counts: NDArray[Any], gpus: int, target: float = 0.98, most_per_gpu: int = 0) -> int:
    """Return the fewest slots, a multiple of the GPUs, with a replication bound of `target`, mean of loads [L, E].

    At most twice the experts (`most_per_gpu` 0), beyond which nobody has the memory.

    >>> slots_needed(np.array([[6, 1, 1, 0]]), 2)
    6
    """
    experts = int(np.asarray(counts).shape[-1])
    first = -(-experts // gpus)
    most = max(first, most_per_gpu or -(-2 * experts // gpus))
    for per_gpu in range(first, most + 1):
        if float(np.mean(bounds.replication(counts, per_gpu * gpus, gpus))) >= target:
            return per_gpu * gpus
    return most * gpus


def _once_or_often(windows: NDArray[np.int64], plans: list[Placement], once: Placement) -> tuple[Floats, Floats]:
    """Return balance [L] over the second half of the windows: of one plan, and of the newest plan before each."""
    later = range(len(windows) // 2, len(windows))
    kept = np.mean([_score(once, windows[at]) for at in later], axis=0)
    return kept, np.mean([_score(plans[at - 1], windows[at]) for at in later], axis=0)


def _score(plan: Placement, counts: NDArray[Any]) -> Floats:
    return balancedness(plan.gpu_loads(counts))


def _planned(steps: NDArray[Any], slots: int, gpus: int) -> Placement:
    """Return a plan of steps [T, L, E]; no time for exact search of few experts, so that a report is quick."""
    return planner.plan(steps, slots=slots, gpus=gpus, budget_s=0.0).placement
