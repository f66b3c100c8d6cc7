"""Counts of routed tokens to rows of `expert_loads`, maps of slots to rows of `expert_placements`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..contracts import Columns
from ..errors import Unreadable

Array = np.ndarray[Any, Any]
Batch = tuple[str, Columns]

MOST_ROWS = 1 << 22  # of one file; beyond it neighbouring steps are summed
MOST_EXPERTS = 1 << 14  # experts of a layer; the widest models have 2,048
MOST_LAYERS = 1 << 12
MOST_STEP = 1 << 53
MOST_TOKENS = 2**53


def loads(
    tokens: Any,  # noqa: ANN401 - whatever numpy takes
    steps: Sequence[int] | Array,
    layers: Sequence[int] | Array,
    *,
    source: str,
    job: str = "job",
    rank: int = -1,
    experts: Array | None = None,
    phase: str = "",
    top_k: int = -1,
    unordered: bool = False,
) -> tuple[list[Batch], list[str]]:
    """Return batches of `expert_loads` for `tokens` [T, L, X], and warnings.

    X are logical experts, or slots where `experts` [L, X] or [T, L, X] says which expert each holds (-1: none). Layers
    without any token are dense and left out, and so are empty steps of a ring buffer. Raises Unreadable where the
    numbers cannot be counts.

    >>> batches, told = loads([[[3, 1], [0, 0]]], [7], [0, 1], source="x")
    >>> batches[0][1]["routed_tokens"].tolist(), batches[0][1]["layer"].tolist(), told
    ([3, 1], [0, 0], ['1 of 2 layers have no tokens: dense layers, left out'])
    """
    counts, when, which = _sound(tokens, steps, layers)
    told = []
    if experts is not None and experts.ndim == 2:
        experts = np.broadcast_to(experts, counts.shape)
    busy: Array = np.asarray(counts.any(axis=2))
    sparse: Array = np.asarray(busy.any(axis=0))
    if sparse.any() and not sparse.all():
        told.append(f"{int((~sparse).sum())} of {len(sparse)} layers have no tokens: dense layers, left out")
        counts, which = counts[:, sparse], which[sparse]
        experts = None if experts is None else experts[:, sparse]
    kept: Array = np.asarray(busy.any(axis=1))
    if unordered and kept.any():
        counts, when = counts[kept], when[kept]
        experts = None if experts is None else experts[kept]
    if counts.size > MOST_ROWS:
        counts, when, experts, more = _windows(counts, when, experts)
        told += more
    rows = _rows(counts, when, which, experts)
    if experts is not None:
        rows, more = _without_empty(rows)
        told += more
    rows |= {"job": job, "rank": rank, "phase": phase, "top_k": top_k, "unordered": unordered, "source": source}
    return [("expert_loads", rows)], told


def _sound(tokens: Any, steps: Any, layers: Any) -> tuple[Array, Array, Array]:  # noqa: ANN401 - whatever numpy takes
    try:
        counts, when, which = np.asarray(tokens), np.asarray(steps), np.asarray(layers)
    except (ValueError, OverflowError) as error:
        raise Unreadable(f"the counts are no even table of numbers: {error}"[:300]) from None
    if counts.ndim != 3 or counts.dtype.kind not in "iufb" or not counts.size:
        raise Unreadable(f"counts want numbers [steps, layers, experts], not {counts.dtype} {counts.shape}")
    if counts.shape[2] > MOST_EXPERTS or counts.shape[1] > MOST_LAYERS:
        raise Unreadable(f"{counts.shape[1]} layers of {counts.shape[2]} experts cannot be meant")
    counts = whole(counts)
    for what, numbers, most in (("step", when, MOST_STEP), ("layer", which, 1 << 31)):
        if numbers.dtype.kind not in "iu" or len(numbers) and not 0 <= numbers.min() <= numbers.max() < most:
            raise Unreadable(f"{what} numbers are none or beyond all sense")
    return counts, when.astype(np.int64), which.astype(np.int64)


def whole(counts: Array) -> Array:
    """Return counts as whole numbers; raises Unreadable for negative, endless and fractional ones.

    >>> whole(np.array([2.0, 3.0])).tolist()
    [2, 3]
    """
    if counts.dtype.kind == "f" and not np.isfinite(counts).all():
        raise Unreadable("counts that are not finite")
    low, high = counts.min(initial=0), counts.max(initial=0)
    if low < 0 or high >= MOST_TOKENS:
        raise Unreadable(f"counts from {low:.6g} to {high:.6g} cannot be tokens")
    if counts.dtype.kind != "f":
        return counts.astype(np.int32 if high < 2**31 else np.int64, copy=False)
    if 0 < high <= 1 and (counts % 1).any():
        raise Unreadable("these are shares of tokens, not counts", "multiply them by the tokens routed")
    return np.rint(counts).astype(np.int64)


def _windows(counts: Array, steps: Array, experts: Array | None) -> tuple[Array, Array, Array | None, list[str]]:
    """Return counts summed over windows of steps (powers of two, the same for every rank), so that rows stay few."""
    width = 1
    while len(np.unique(steps // width)) * counts[0].size > MOST_ROWS and width < 1 << 40:
        width *= 2
    changing = experts is not None and len(experts) > 1 and (experts[1:] != experts[:-1]).any()
    if changing:
        counts, experts = _folded(counts, experts), None
    order = np.argsort(steps, kind="stable")
    window, first = np.unique(steps[order] // width, return_index=True)
    summed = np.add.reduceat(counts[order], first, axis=0, dtype=np.int64)
    told = [f"{len(steps):,} steps are summed in windows of {width}, to keep the table small"]
    kept = None if experts is None else np.broadcast_to(experts[0], summed.shape)
    return summed, window * width, kept, told


def _folded(counts: Array, experts: Array | None) -> Array:
    """Return counts of logical experts, each step folded by its own map; what lies in an empty slot is lost."""
    if experts is None:
        return counts
    width = int(experts.max(initial=0)) + 1
    made = np.zeros((*counts.shape[:2], width), dtype=np.int64)
    step, layer = (grid[..., None] for grid in np.indices(counts.shape[:2]))
    held = experts >= 0
    np.add.at(made, (np.broadcast_to(step, held.shape)[held], np.broadcast_to(layer, held.shape)[held], experts[held]),
              counts[held])  # fmt: skip
    return made


def _rows(counts: Array, steps: Array, layers: Array, experts: Array | None) -> dict[str, Any]:
    times, depth, width = counts.shape
    small = np.int32 if not len(steps) or steps.max() < 2**31 else np.int64
    every = np.tile(np.arange(width, dtype=np.int16), times * depth)
    rows = {
        "step": np.repeat(steps.astype(small), depth * width),
        "layer": np.tile(np.repeat(layers.astype(np.int32), width), times),
        "expert": every if experts is None else np.ascontiguousarray(experts, dtype=np.int16).ravel(),
        "routed_tokens": np.ascontiguousarray(counts).ravel(),
    }
    return rows if experts is None else rows | {"slot": every}


def _without_empty(rows: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    empty = rows["expert"] < 0
    if not empty.any():
        return rows, []
    lost = int(rows["routed_tokens"][empty].sum())
    told = [f"{lost:,} tokens went to slots that hold no expert: left out"] if lost else []
    return {name: column[~empty] for name, column in rows.items()}, told


def placements(
    experts: Array, layers: Sequence[int] | Array, *, source: str, job: str = "job", step: int = 0, ranks: int = 0
) -> Batch:
    """Return rows of `expert_placements` for a map `experts` [L, P] of slots that lie evenly on `ranks` (0: unknown).

    Raises Unreadable where the map names what cannot be experts or cannot be cut into ranks.
    """
    which = np.asarray(layers)
    if experts.ndim != 2 or experts.dtype.kind not in "iu" or not experts.size or len(which) != len(experts):
        raise Unreadable(f"a map wants whole numbers [layers, slots], not {experts.dtype} {experts.shape}")
    slots = experts.shape[1]
    if experts.min() < -1 or max(experts.max(), slots) > MOST_EXPERTS or which.min() < 0 or which.max() >= 1 << 31:
        raise Unreadable(f"a map of {slots} slots with experts {experts.min()} to {experts.max()} cannot be meant")
    if ranks > 0 and slots % ranks:
        raise Unreadable(f"{slots} slots do not lie evenly on {ranks} ranks")
    slot = np.tile(np.arange(slots), len(which))
    return "expert_placements", {
        "job": job, "step": step, "layer": np.repeat(which.astype(np.int64), slots), "slot": slot,
        "expert": experts.ravel().astype(np.int64), "rank": slot // (slots // ranks) if ranks > 0 else -1,
        "source": source,
    }  # fmt: skip


def length(columns: Columns) -> int:
    """Return how many rows columns stand for.

    >>> length({"job": "job", "step": [1, 2]})
    2
    """
    sizes = [len(value) for value in columns.values() if hasattr(value, "__len__") and not isinstance(value, str)]
    return max(sizes, default=1)
