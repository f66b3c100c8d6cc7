"""Works out a plan of experts and everything that is said beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..moe import affinity, heldout, migration, noise, planner
from ..moe.placement import Floats, Placement, balancedness
from . import _moe_placing as placing
from ._moe_made import Budget, Counts, Given, Made, PayBack, Redundancy, Served, Wanted
from ._moe_systems import systems
from ._moe_whatif import whatifs

GIB = 2.0**30
MOST_STEPS = 16  # on which seconds are worked out
BUDGETS = (2, 8, 16, 32)  # copies per layer that are tried beside none and all
MORE_SLOTS = (0, 1, 2, 3, 8)  # redundant slots per GPU that are tried


def worked(given: Given, wanted: Wanted) -> Made:
    """Return the plan with its bounds, held-out score, costs and alternatives; raises UsageError where none can be."""

    def place(series: Sequence[Counts]) -> Placement:
        return placing.place(series, given, wanted, placing.TRIED_RATIO * wanted.budget_s).placement

    began = time.perf_counter()
    found = placing.place(given.series, given, wanted, wanted.budget_s)
    solved = time.perf_counter() - began
    totals = given.totals
    held = heldout.heldout(
        given.series, place, given.current, windows=max(heldout.WINDOWS, wanted.horizon + 1),
        horizon=max(wanted.horizon, 1), ordered=given.ordered,
    )  # fmt: skip
    moved = migration.migration(given.current, found.placement)
    deff = np.mean([noise.design_effect(one) for one in given.series], axis=0)
    free = [placing.limits(one, wanted.slots, wanted) for one in totals]
    tied = [placing.limits(one, wanted.slots, wanted, wanted.groups) for one in totals] if wanted.groups else free
    made = Made(
        given, wanted, found.placement, bound=_proved(_mean([one.balance for one in free]), found, totals, wanted),
        ceiling=noise.ceiling(totals.sum(-1), wanted.gpus, deff).mean(0), moved=moved, solve_s=solved,
        group_bound=_mean([one.balance for one in tied]) if wanted.groups else None, held=held, binding=tied[0].binding,
        pay_back=_pay_back(given, found.placement, held, moved), proven=found.optimal,
    )  # fmt: skip
    before, after = _parts(given, held)
    return replace(
        made, budgets=_budgets(made, before, after), redundancy=_redundancy(made, before, after),
        whatifs=whatifs(made, before, after), frontier=_frontier(made), served=_served(made),
        systems=systems(made),
    )  # fmt: skip


def _proved(bound: Floats, found: planner.Result, totals: Counts, wanted: Wanted) -> Floats:
    """Return the bound [L], lowered to the plan where it is proved that nothing better exists."""
    free = wanted.max_moves < 0 and not wanted.groups
    after = balancedness(found.placement.gpu_loads(totals)).mean(0)  # of no tokens it is 1, which the search places for
    return np.where(found.optimal & free, np.minimum(bound, after), bound)


def _mean(found: Sequence[Floats]) -> Floats:
    return np.asarray(np.mean(found, axis=0))


def _parts(given: Given, held: heldout.Heldout | None) -> tuple[list[Counts], list[Counts]]:
    """Return steps to plan on and later ones to score on, per workload; the same ones where there are no later ones."""
    if held is None:
        return given.series, given.series
    if not held.ordered:
        return [one[0::2] for one in given.series], [one[1::2] for one in given.series]
    share = held.place / len(given.loads.steps)
    cuts = [max(1, min(len(one) - 1, round(share * len(one)))) for one in given.series]
    return ([one[:at] for one, at in zip(given.series, cuts, strict=True)],
            [one[at:] for one, at in zip(given.series, cuts, strict=True)])  # fmt: skip


def scored(placement: Placement, series: Sequence[Counts]) -> float:
    """Return the balance on the sum of the steps, mean over layers and workloads."""
    return float(np.mean([balancedness(placement.gpu_loads(one.sum(0))).mean() for one in series]))


def _pay_back(
    given: Given, proposed: Placement, held: heldout.Heldout | None, moved: migration.Migration
) -> PayBack | None:  # fmt: skip
    clock = given.clock
    if clock is None:
        return None
    plan, steps, measured = proposed, given.loads.counts, "on the same steps"
    if held is not None and held.ordered:
        plan, steps, measured = held.last, steps[held.place :], "on later steps"
    elif held is not None:
        plan, steps, measured = held.last, steps[0::2], "on the other half of the steps"  # planned on the odd ones
    steps = steps[:MOST_STEPS]
    now, later = (clock.gpu_s(steps, one).max(-1).sum(-1).mean() for one in (given.current, plan))
    size = clock.model.expert_bytes(clock.weight_bytes)
    most = float(moved.gpu_bytes(size).max(initial=0.0)) / GIB
    return PayBack(moved.seconds(size, clock.board), float(now - later), float(now), most, measured)


def _budgets(made: Made, before: Sequence[Counts], after: Sequence[Counts]) -> list[Budget]:
    """Return what few copies reach, none first, all last; each step of the way begins where the last one ended."""
    current, wanted = made.given.current, made.wanted
    if made.held is None or current.slots.shape[1] != wanted.slots or len(made.given.workloads) > 1:
        return []
    tried, placed, spent = [current], current, 0
    for most in BUDGETS:
        if wanted.max_moves < 0 or most < wanted.max_moves:
            placed = placing.few(before, placed, wanted, most - spent)
            tried, spent = [*tried, placed], most
    found = [
        Budget(float(migration.migration(current, one).copies.mean()), scored(one, before), scored(one, after))
        for one in (*tried, made.held.last)
    ]
    return [*(one for one in found[:-1] if one.copies < found[-1].copies), found[-1]]


def _served(made: Made) -> list[Served]:
    """Return what each of several workloads gets of the one plan, and what a plan of its own would give."""
    given = made.given
    if len(given.workloads) < 2:
        return []
    return [
        Served(
            "/".join(part for part in (one.job, one.phase) if part) or f"workload {at}",
            scored(given.current, [one.counts]), scored(made.proposed, [one.counts]),
            scored(placing.afresh([one.counts], made.wanted.slots, made.wanted), [one.counts]),
        )
        for at, one in enumerate(given.workloads, 1)
    ]  # fmt: skip


def _frontier(made: Made) -> list[affinity.Point]:
    """Return placements from even load to most locality; none where experts do not spread evenly without replicas."""
    wanted, pairs = made.wanted, made.given.pairs
    if pairs is None or made.proposed.experts % wanted.gpus:
        return []
    total = made.given.totals.sum(0)
    return affinity.frontier(pairs, total, wanted.gpus, wanted.nodes, even=made.proposed)


def _redundancy(made: Made, before: Sequence[Counts], after: Sequence[Counts]) -> list[Redundancy]:
    """Return balance and memory of other numbers of slots."""
    wanted, clock, experts = made.wanted, made.given.clock, made.proposed.experts
    least = -(-experts // wanted.gpus)
    sizes = {(least + more) * wanted.gpus for more in MORE_SLOTS if more < 4 or least >= more} | {wanted.slots}
    per_slot = clock.model.expert_bytes(clock.weight_bytes) * len(made.layers) / GIB if clock else float("nan")
    found = []
    for slots in sorted(sizes):
        placed = placing.afresh(before, slots, wanted)
        bound = _mean([placing.limits(one.sum(0), slots, wanted).balance for one in before])
        later = scored(placed, after) if made.held is not None else float("nan")
        found.append(Redundancy(slots, (slots - experts) / wanted.gpus * per_slot, float(bound.mean()),
                                scored(placed, before), later))  # fmt: skip
    return found
