"""The one door to the placements of `skewscope.moe`, for what was asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..moe import affinity, bounds, planner
from ..moe.placement import Floats, Placement
from ..moe.split import free_split
from ._moe_made import Counts, Given, Wanted

WORTH_SHARE = 0.01  # of the pairs
TRIED_RATIO = 0.1  # of the time for exact search, for each plan that is only compared with


def place(series: Sequence[Counts], given: Given, wanted: Wanted, budget_s: float) -> planner.Result:
    """Return the placement for steps [T, L, E] of each workload, with the fewest copies from what runs.

    With pairs GPUs are named for locality where that keeps more of them, and with a limit on load that comes first.
    """
    made = planner.plan(
        series[0], slots=wanted.slots, gpus=wanted.gpus, nodes=wanted.nodes, groups=wanted.groups,
        current=given.current, max_moves=None if wanted.max_moves < 0 else wanted.max_moves,
        workloads=series[1:] or None, budget_s=budget_s,
    )  # fmt: skip
    if given.pairs is None or wanted.max_moves >= 0:
        return made
    placed = affinity.renamed_for_affinity(made.placement, given.pairs)
    few, many = (affinity.local_shares(given.pairs, one)[0] for one in (made.placement, placed))
    if many - few < WORTH_SHARE:  # not worth the copies of other names
        placed = made.placement
    if wanted.load_limit:
        total = np.sum([one.sum(0) for one in series], axis=0)
        placed = affinity.place(given.pairs, total, wanted.gpus, wanted.nodes, wanted.load_limit)
    return replace(made, placement=placed, optimal=made.optimal & (not wanted.load_limit))


def afresh(series: Sequence[Counts], slots: int, wanted: Wanted, groups: int | None = None) -> Placement:
    """Return a placement on so many slots, whatever runs now; `groups` None is what was asked for."""
    kept = wanted.groups if groups is None else groups
    return planner.plan(
        series[0], slots=slots, gpus=wanted.gpus, nodes=wanted.nodes, groups=kept, workloads=series[1:] or None,
        budget_s=TRIED_RATIO * wanted.budget_s,
    ).placement  # fmt: skip


def few(series: Sequence[Counts], current: Placement, wanted: Wanted, most: int) -> Placement:
    """Return a placement with at most `most` copies per layer from another one."""
    return planner.plan(
        series[0], slots=wanted.slots, gpus=wanted.gpus, nodes=wanted.nodes, groups=wanted.groups,
        current=current, max_moves=most, budget_s=TRIED_RATIO * wanted.budget_s,
    ).placement  # fmt: skip


def limits(counts: Counts, slots: int, wanted: Wanted, groups: int = 0) -> bounds.Bounds:
    """Return what no placement of tokens [L, E] on so many slots can pass."""
    return bounds.bounds(counts, slots, wanted.gpus, wanted.nodes, groups)


def split(counts: NDArray[Any], placement: Placement, layers: Sequence[int]) -> Floats:
    """Return the balance of some layers of one step [L, E] with tokens split freely over replicas."""
    some = list(layers)
    part = Placement(placement.slots[some], placement.gpus, placement.experts, placement.nodes)
    return free_split(np.asarray(counts)[some], part).balance
