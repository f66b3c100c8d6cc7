"""One door to placements of experts: it picks the method that fits the sizes, and is never worse than what runs.

Few experts are searched exactly; two slots per GPU have counts and pairs chosen together; all else gets the highest
averages, packing and exchanges. Router groups stay on nodes where that is asked for; several workloads get one robust
placement; a limit on copies changes the running placement step by step.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from . import exact, flat
from . import groups as grouping
from .bounds import Bounds, bounds
from .hierarchical import place_in_nodes, split
from .incremental import Change, few_moves
from .migration import migration
from .pack import Held
from .placement import Floats, Placement, balancedness, start_layout
from .renaming import renamed
from .robust import robust, scaled

OPTIMAL_RATIO, NEAR_RATIO = 1e-6, 1e-3  # from the bound: as good as it; hardly worth another try


@dataclass(frozen=True, eq=False)
class Result:
    """A placement and what it is worth, by layer [L].

    `before` and `after` are balancedness of the running placement (the start-up layout where none was given) and of
    the plan, on the loads the plan was made for; with several workloads, the mean over them. `bound` is what no
    placement can pass and `binding` the limit that sets it. `moves` are experts that GPUs must receive. `optimal`
    tells where nothing better exists, as the bound is met or all placements were tried. `method` and `status` say in
    words what was done.
    """

    placement: Placement
    before: Floats
    after: Floats
    bound: Floats
    binding: tuple[str, ...]
    moves: NDArray[np.int64]
    optimal: NDArray[np.bool_]
    method: str
    status: str


def plan(counts: NDArray[Any], *, slots: int, gpus: int, nodes: int = 1, groups: int = 0,
         current: Placement | None = None, max_moves: int | None = None,
         workloads: Sequence[NDArray[Any]] | None = None, weights: Sequence[float] | None = None,
         worst: bool = False, least_gain: float = 0.0, budget_s: float | None = None) -> Result:  # fmt: skip
    """Return the placement for tokens per expert [L, E], or for the steps of a window [T, L, E], and its worth.

    With the steps known the plan also holds better on later windows. `groups` > 1 router groups stay on one of the
    `nodes`. `current` is the running placement: GPUs are renamed to keep experts in place, layers that would not gain
    stay as they are unless they break groups, and with `max_moves` at most so many experts per layer are copied, each
    for at least `least_gain` of the mean GPU off the hottest. `workloads` are loads of further workloads, [L, E] or
    [T, L, E] each: then one placement serves all, `weights` being the shares of traffic (`counts` first), or the worst
    of them with `worst`. `budget_s` ends exact search of few experts early. Raises UsageError where sizes do not fit.

    >>> made = plan(np.array([[60, 30, 20, 10]]), slots=6, gpus=3)
    >>> made.before.round(3).tolist(), made.after.tolist(), made.bound.tolist(), made.binding
    ([0.889], [1.0], [1.0], ('even',))
    >>> made.placement.slots.tolist()
    [[0, 2, 0, 2, 1, 3]]
    """
    loads = _checked([counts, *(workloads or ())])
    shares = _shares(weights, len(loads))
    _check_sizes(loads[0].shape[2], slots, gpus, nodes, groups)
    in_groups = groups if groups > 1 and nodes > 1 else 0
    running = current if current is not None else start_layout(loads[0].shape[2], slots, gpus, loads[0].shape[1], nodes)
    _check_current(running, loads[0].shape[1:], max_moves, given=current is not None)
    totals = np.stack([_none_empty(one.sum(0)) for one in loads])
    wanted = _Wanted(totals, shares, flat.parts_of(loads[0]), slots, gpus, nodes, in_groups, worst)
    limits = _limits(wanted)
    deadline = np.inf if budget_s is None else time.monotonic() + budget_s
    held, proven, method = _placed(wanted, limits, deadline)
    made = renamed(running, wanted.placement(held)) if current is not None else wanted.placement(held)
    if max_moves is not None:
        change = Change(max_moves, least_gain, nodes if in_groups else 1)
        made, method = _few_moves(wanted, running, made, change), f"at most {max_moves} copies per layer"
        proven = np.zeros_like(proven)
    return _judged(wanted, limits, running, made, proven, method)


@dataclass(frozen=True, eq=False)
class _Wanted:
    """What was asked for: tokens of all workloads [K, L, E] and their shares [K], parts of the window, sizes."""

    loads: Floats
    weights: Floats
    parts: Floats
    slots: int
    gpus: int
    nodes: int
    groups: int
    worst: bool

    def placement(self, held: Held) -> Placement:
        layers, experts = self.loads.shape[1:]
        return Placement(held.reshape(layers, self.slots), self.gpus, experts, self.nodes)

    def worth(self, placement: Placement) -> Floats:
        """Return balancedness [L]: the mean over workloads, or the worst."""
        each = balancedness(placement.gpu_loads(self.loads))
        worth: Floats = each.min(0) if self.worst else self.weights @ each
        return worth


def _checked(loads: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return loads as steps [T, L, E] each; raises UsageError where they do not fit each other or are no tokens."""
    each = [np.asarray(one) for one in loads]
    shape = each[0].shape[-2:]
    for one in each:
        if one.ndim not in (2, 3) or one.shape[-2:] != shape or not one.size:
            raise UsageError(f"loads: tokens [layers, experts] or [steps, layers, experts] are wanted, the same layers "
                             f"and experts for all workloads, not {list(one.shape)}")  # fmt: skip
        if not np.isfinite(one).all() or one.min() < 0:
            raise UsageError("loads: tokens are finite numbers from 0 on; some are not")
    return [one if one.ndim == 3 else one[None] for one in each]


def _shares(weights: Sequence[float] | None, number: int) -> Floats:
    shares = np.ones(number) if weights is None else np.asarray(weights, np.float64)
    if shares.shape != (number,) or shares.min() < 0 or not shares.sum() > 0:
        raise UsageError(f"weights: one share from 0 on for each of {number} workloads is wanted")
    total: Floats = shares / shares.sum()
    return total


def _check_sizes(experts: int, slots: int, gpus: int, nodes: int, groups: int) -> None:
    if slots < experts:
        raise UsageError(f"{slots} slots cannot hold {experts} experts; give at least one slot to each")
    grouping.check(experts, max(groups, 1) if nodes > 1 else 1, 1, slots, gpus)
    if gpus % nodes:
        raise UsageError(f"{gpus} GPUs do not spread evenly over {nodes} nodes")
    if nodes > 1 and groups > 1 and groups % nodes:
        raise UsageError(f"{groups} router groups do not spread evenly over {nodes} nodes; leave groups out for a plan "
                         "over all GPUs")  # fmt: skip


def _check_current(running: Placement, shape: tuple[int, ...], max_moves: int | None, given: bool) -> None:
    if (running.layers, running.experts) != shape:
        raise UsageError(f"the running placement has {running.layers} layers of {running.experts} experts, the loads "
                         f"have {shape[0]} of {shape[1]}")  # fmt: skip
    if max_moves is not None and (not given or max_moves < 0):
        raise UsageError("a limit on copies is a number from 0 on, and wants the running placement")


def _none_empty(loads: NDArray[Any]) -> Floats:
    """Return tokens [L, E] with layers that got none made even, so that they are placed as well."""
    tokens = loads.astype(np.float64)
    tokens[tokens.sum(1) == 0] = 1.0
    return tokens


def _limits(wanted: _Wanted) -> list[Bounds]:
    return [bounds(one, wanted.slots, wanted.gpus, wanted.nodes, wanted.groups) for one in wanted.loads]


def _placed(wanted: _Wanted, limits: list[Bounds], deadline: float) -> tuple[Held, NDArray[np.bool_], str]:
    """Return a placement [L, G, S], where it is proven best [L], and the name of the method."""
    loads, slots, gpus = wanted.loads, wanted.slots, wanted.gpus
    unproven = np.zeros(loads.shape[1], bool)
    if len(loads) > 1:
        return _for_all(wanted), unproven, f"one placement for {len(loads)} workloads"
    task = flat.Task(loads[0], slots, gpus, limits[0].least, wanted.parts)
    if wanted.groups:
        return place_in_nodes(task, wanted.nodes, wanted.groups), unproven, f"groups on {wanted.nodes} nodes, exchanges"
    held = flat.place(task)
    found = exact.small(loads[0], slots, gpus, deadline)
    if found is not None:
        tried = np.where(found[0][:, :1, :1] >= 0, found[0], held)  # -1 throughout where time was out
        first, second = (wanted.worth(wanted.placement(one)) for one in (tried, held))
        better: NDArray[np.bool_] = first >= second
        return np.where(better[:, None, None], tried, held), found[1] & better, "all placements tried"
    return held, unproven, "counts and pairs together" if slots == 2 * gpus else "highest averages, exchanges"


def _for_all(wanted: _Wanted) -> Held:
    """Return one placement [L, G, S] for all workloads."""
    units = scaled(wanted.loads, wanted.gpus)
    if not wanted.groups:
        return robust(units, wanted.slots, wanted.gpus, wanted.weights, wanted.worst)
    pooled = np.tensordot(wanted.weights, units, 1)
    by_node = split(pooled, wanted.groups, wanted.nodes, wanted.slots, wanted.gpus)
    rows = by_node.rows(units)
    slots, gpus = wanted.slots // wanted.nodes, wanted.gpus // wanted.nodes
    return by_node.joined(robust(rows, slots, gpus, wanted.weights, wanted.worst))


def _few_moves(wanted: _Wanted, running: Placement, full: Placement, change: Change) -> Placement:
    """Return the running placement after few copies per layer, or the full plan where that takes no more."""
    if running.slots.shape[1] != wanted.slots or running.gpus != wanted.gpus:
        raise UsageError(f"a limit on copies wants the running placement's sizes: {running.slots.shape[1]} slots on "
                         f"{running.gpus} GPUs, not {wanted.slots} on {wanted.gpus}")  # fmt: skip
    loads, weights = wanted.loads, wanted.weights
    if len(loads) == 1 and len(wanted.parts):
        loads = np.concatenate([loads, wanted.parts])
        weights = np.concatenate([[1.0], np.full(len(wanted.parts), 1 / len(wanted.parts))])
    units = np.moveaxis(scaled(loads, wanted.gpus), 0, -1)
    few = wanted.placement(few_moves(running.by_gpu(), units, weights, change))
    cheap = (migration(running, full).copies <= change.copies) & (wanted.worth(full) > wanted.worth(few))
    return wanted.placement(np.where(cheap[:, None], full.slots, few.slots))


def _judged(wanted: _Wanted, limits: list[Bounds], running: Placement, made: Placement, proven: NDArray[np.bool_],
            method: str) -> Result:  # fmt: skip
    """Return the result; layers that a plan does not better keep what runs."""
    before, after = wanted.worth(running), wanted.worth(made)
    if running.slots.shape == made.slots.shape and running.gpus == made.gpus:
        kept = after <= before
        if wanted.groups:
            kept &= grouping.on_one_node(running.slots, running.experts, wanted.groups, wanted.nodes)
        made = wanted.placement(np.where(kept[:, None], running.slots, made.slots))
        after, proven = wanted.worth(made), proven & ~kept
    each = np.stack([one.balance for one in limits])
    bound = each.min(0) if wanted.worst else wanted.weights @ each
    optimal = proven | (after >= bound * (1 - OPTIMAL_RATIO))
    moves = migration(running, made).copies if running.gpus == made.gpus else np.full(made.layers, wanted.slots)
    status = (f"{method}; balance {before.mean():.3f} -> {after.mean():.3f}, bound {bound.mean():.3f}, "
              f"{int((after >= bound * (1 - NEAR_RATIO)).sum())} of {made.layers} layers within "
              f"{100 * NEAR_RATIO:g} % of it")  # fmt: skip
    return Result(made, before, after, np.maximum(bound, after), limits[0].binding, moves, optimal, method, status)
