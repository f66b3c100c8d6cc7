"""Pictures of a plan of experts: the ladder, layers, GPU loads before and after, copies, pay-back, memory, what-ifs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..moe import drift, noise
from ..moe.placement import Floats, Placement
from ..plans import Picture
from ._moe_made import Made

BALANCE = "balance: mean over busiest GPU (1)"
BREAK_EVEN_SPAN = 3.0  # of the pay-back time: how far its picture goes


def pictures(made: Made) -> list[Picture]:
    """Return all pictures of a plan that can be drawn."""
    found = [ladder(made), layers(made), loads(made), *copies(made), replicas(made), *drifting(made), *budgets(made)]
    return [*found, *pay_back(made), *redundancy(made), *whatifs(made), *locality(made), *served(made), *systems(made)]


def ladder(made: Made) -> Picture:
    """Return the gap ladder, mean over layers and worst layer."""
    rungs = made.rungs()
    names = [name for name, _ in rungs]
    series = {"mean over layers": (names, [float(one.mean()) for _, one in rungs]),
              "worst layer": (names, [float(one.min()) for _, one in rungs])}  # fmt: skip
    last = f"and {made.held.mean:.3f} on loads it was not made from" if made.held else "; later loads are unknown"
    text = (
        f"GPUs are balanced to {made.now.mean():.3f} now; the plan reaches {made.planned.mean():.3f} of at most "
        f"{made.best.mean():.3f} {last}."
    )
    return Picture("bars", "Gap ladder", text, "rung", BALANCE, series)


def layers(made: Made) -> Picture:
    """Return the balance of each layer."""
    at = made.layers
    series = {"bound": made.best, "now": made.now, "plan": made.planned}
    if made.held:
        series["plan, held out"] = made.held.layers
    worst = int(made.planned.argmin())
    text = (
        f"Layer {at[worst]} stays worst: {made.now[worst]:.3f} now, {made.planned[worst]:.3f} planned, at most "
        f"{made.best[worst]:.3f}."
    )
    return Picture("lines", "Balance of each layer", text, "layer", BALANCE,
                   {name: (at, one) for name, one in series.items()})  # fmt: skip


def loads(made: Made) -> Picture:
    """Return the load of each GPU in each layer over its mean, before and after."""
    total = made.given.loads.total()
    now, planned = (over_mean(one, total) for one in (made.given.current, made.proposed))
    text = (
        f"The busiest GPU of a layer has {now.max():.2f} times its mean now and {planned.max():.2f} times planned; "
        "layers are counted from the first MoE layer."
    )
    return Picture("heatmap", "Load of GPUs, before and after", text, "GPU", "MoE layer",
                   {"now": now, "planned": planned}, "load over mean (1)", 1.0)  # fmt: skip


def over_mean(placement: Placement, counts: NDArray[np.int64]) -> Floats:
    """Return the load of each GPU over the mean of its layer [L, G]; 1 where a layer has no tokens."""
    found = placement.gpu_loads(counts)
    mean = found.mean(-1, keepdims=True)
    return np.where(mean > 0, found / np.where(mean > 0, mean, 1.0), 1.0)


def copies(made: Made) -> list[Picture]:
    """Return the copies per layer."""
    each, slots = made.moved.copies, made.proposed.slots.shape[1]
    if not each.any():
        return []
    text = (
        f"{int(each.sum()):,} of {each.size * slots:,} slots get an expert that their GPU does not hold yet, "
        f"{each.mean():.1f} of {slots} in a layer."
    )
    series = {"copies": (made.layers, each.tolist())}
    return [Picture("bars", "Copies of each layer", text, "layer", "experts to copy (1)", series)]


def replicas(made: Made) -> Picture:
    """Return how many replicas each expert has."""
    held = made.proposed.replicas()
    layer, expert = (int(one) for one in np.unravel_index(int(held.argmax()), held.shape))
    text = (
        f"{int((held > 1).sum()):,} of {held.size:,} experts have more than one replica; expert {expert} of layer "
        f"{made.layers[layer]} has most, {held.max()}."
    )
    return Picture("heatmap", "Replicas of experts", text, "expert", "MoE layer", {"planned": held}, "replicas (1)")


def drifting(made: Made) -> list[Picture]:
    """Return how the popularity of experts changes between windows."""
    loads, steps = made.given.loads, made.given.loads.steps
    if not loads.ordered or len(steps) < 3:
        return []
    edges = drift.cut(len(steps), 16)
    moved = drift.drift(loads.counts, edges, noise.design_effect(loads.counts))
    at = steps[edges[1:-1]].tolist()
    mean = moved.bits.mean(1)
    series = {"mean over layers": (at, mean), "worst layer": (at, moved.bits.max(1)),
              "another workload": (at, [drift.ALARM_BITS] * len(at))}  # fmt: skip
    text = (
        f"Between neighbouring windows {mean.max():.4f} bits at most; {drift.ALARM_BITS:g} and more mean another "
        "workload, for which this plan was not made."
    )
    return [Picture("lines", "Drift of popularity", text, "step", "change (bits)", series)]


def budgets(made: Made) -> list[Picture]:
    """Return what fewer copies would reach."""
    if len(made.budgets) < 2:
        return []
    x = [one.copies for one in made.budgets]
    series = {"same windows": (x, [one.same for one in made.budgets]),
              "later windows": (x, [one.later for one in made.budgets])}  # fmt: skip
    first, few, last = made.budgets[0], _enough([one.later for one in made.budgets]), made.budgets[-1]
    some = made.budgets[few]
    text = (
        f"On later windows {some.copies:.1f} copies per layer reach {some.later:.3f}, {last.copies:.1f} copies "
        f"{last.later:.3f}, none {first.later:.3f}."
    )
    return [Picture("lines", "Balance against copies", text, "copies per layer (1)", BALANCE, series)]


def _enough(values: Sequence[float], share: float = 0.8) -> int:
    """Return the first place that has `share` of what the last gains over the first.

    >>> _enough([0.5, 0.6, 0.95, 1.0])
    2
    """
    wanted = values[0] + share * (values[-1] - values[0])
    return next((place for place, value in enumerate(values) if value >= wanted), len(values) - 1)


def pay_back(made: Made) -> list[Picture]:
    """Return seconds saved less seconds of copying, over the steps that follow."""
    back = made.pay_back
    if back is None or not np.isfinite(back.steps) or back.copy_s <= 0:
        return []
    steps = np.linspace(0.0, BREAK_EVEN_SPAN * back.steps, 61)
    series = {"net": (steps, back.gain_s * steps - back.copy_s), "even": (steps[[0, -1]], [0.0, 0.0])}
    text = (
        f"Copying takes {back.copy_s:.3g} s and each step is {back.gain_s * 1e3:.3g} ms shorter ({back.measured}): "
        f"paid back after {back.steps:,.0f} steps."
    )
    return [Picture("lines", "Pay-back of copying", text, "steps after the change", "net seconds won (s)", series)]


def redundancy(made: Made) -> list[Picture]:
    """Return balance against slots, and what their memory is."""
    found = made.redundancy
    if len(found) < 2:
        return []
    known = all(np.isfinite(one.gib) for one in found)
    x = [one.gib for one in found] if known else [float(one.slots) for one in found]
    series = {"bound": (x, [one.bound for one in found]), "plan": (x, [one.same for one in found]),
              "plan, later": (x, [one.later for one in found])}  # fmt: skip
    few = found[_enough([one.same if np.isnan(one.later) else one.later for one in found])]
    memory = f", {few.gib:.2g} GiB per GPU" if known else ""
    text = (
        f"{few.slots} slots ({few.slots - made.proposed.experts} redundant{memory}) give most of what memory can give."
    )
    unit = "redundant experts (GiB per GPU)" if known else "slots (1)"
    return [Picture("lines", "Balance against redundancy", text, unit, BALANCE, series)]


def whatifs(made: Made) -> list[Picture]:
    """Return what would change without some of the limits."""
    if not made.whatifs:
        return []
    names = [one.name for one in made.whatifs]
    series = {"as planned": (names, [one.without for one in made.whatifs]),
              "changed": (names, [one.having for one in made.whatifs])}  # fmt: skip
    text = " ".join(one.text for one in made.whatifs)
    return [Picture("bars", "What if", text, "change", BALANCE, series)]


def locality(made: Made) -> list[Picture]:
    """Return the frontier of locality against load."""
    points = [one for one in made.frontier if np.isfinite(one.limit)]
    if not points:
        return []
    even = next((one for one in made.frontier if np.isnan(one.limit)), points[0])
    x, most = [one.hottest_ratio for one in points], points[-1]
    series = {"on one GPU": (x, [one.local_share for one in points])}
    if made.wanted.nodes > 1:
        series["on one node"] = (x, [one.node_share for one in points])
    series["this plan, on one GPU"] = ([even.hottest_ratio], [even.local_share])
    text = (
        f"This plan keeps {even.local_share:.3f} of the pairs of neighbouring layers on a GPU, its busiest at "
        f"{even.hottest_ratio:.2f} times the mean; without replicas {most.local_share:.3f} can be kept, at "
        f"{most.hottest_ratio:.2f} times. It saves only where tokens stay at an expert's GPU between layers."
    )
    return [Picture("lines", "Locality against load", text, "busiest GPU over mean (1)", "share of pairs (1)", series)]


def served(made: Made) -> list[Picture]:
    """Return the balance of each of several workloads, with one plan for all and with one for each."""
    if not made.served:
        return []
    names = [one.name for one in made.served]
    series = {"now": (names, [one.now for one in made.served]),
              "one plan for all": (names, [one.planned for one in made.served]),
              "a plan of its own": (names, [one.alone for one in made.served])}  # fmt: skip
    least = min(made.served, key=lambda one: one.planned)
    text = (
        f"One plan for all gives {np.mean([one.planned for one in made.served]):.3f} of balance on average, least "
        f"{least.planned:.3f} for {least.name}, which alone could have {least.alone:.3f}."
    )
    return [Picture("bars", "Workloads", text, "workload", BALANCE, series)]


def systems(made: Made) -> list[Picture]:
    """Return what other systems would make of it, over what the plan has; units differ, so shares are drawn."""
    known = [one for one in made.systems if one.planned > 0]
    if not known:
        return []
    names = [one.name for one in known]
    said = [f"{one.name}: {one.planned:.3g} becomes {one.then:.3g} {one.unit}" for one in known]
    text = f"{'; '.join(said)}. What each of them assumes stands below, and in the JSON."
    series = {"share of the plan's": (names, [one.then / one.planned for one in known])}
    return [Picture("bars", "Other systems on these loads", text, "system", "share of the plan's (1)", series)]
