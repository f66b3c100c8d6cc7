"""Operations laid out as lattices: one row per operation of a step, one column per replica, one layer per step.

All steps and data-parallel replicas of a job repeat one structure, so that one dependency graph serves them all
(arXiv 2505.05713 uses the same symmetry). Steps whose set of operations differs get a lattice of their own; an
operation that a replica lacks is NaN and costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

Array = np.ndarray[Any, Any]

MOST_SHAPES = 16  # distinct step structures that get a graph of their own; the steps of rarer ones are left out


@dataclass(frozen=True)
class Lattice:
    """Operations of steps of one structure.

    `step` [s] step numbers; `stage`, `kind`, `turn`, `chunk`, `microbatch` [n]: `kind` indexes `kinds`, `turn` counts
    the operations of a kind and stage; `start`, `end` [n, replicas, s] in ns since `origin` [s], NaN where absent;
    `rank` [stages, replicas], -1 where there is none.
    """

    kinds: Sequence[str]
    step: Array
    origin: Array
    stage: Array
    kind: Array
    turn: Array
    chunk: Array
    microbatch: Array
    start: Array
    end: Array
    rank: Array

    def of_kind(self, *names: str) -> Array:
        """Return which operations [n] are of one of these kinds."""
        return np.isin(self.kind, [index for index, name in enumerate(self.kinds) if name in names])

    @property
    def reference(self) -> Array:
        """Starts and ends [2, n] of the lane with the most operations, gaps filled with the mean of the others."""
        present = np.isfinite(self.start).sum(axis=0)
        replica, step = np.unravel_index(int(present.argmax()), present.shape)
        found = np.stack([self.start[:, replica, step], self.end[:, replica, step]])
        absent = np.flatnonzero(~np.isfinite(found[0]))
        if len(absent):
            found[0, absent] = np.nanmean(self.start[absent], axis=(1, 2))
            found[1, absent] = np.nanmean(self.end[absent], axis=(1, 2))
        return found


@dataclass(frozen=True)
class _Rows:
    """The operations as flat arrays [rows]: stage, replica, kind, turn, dense step, and their cell's key."""

    kinds: list[str]
    steps: Array
    stage: Array
    replica: Array
    kind: Array
    turn: Array
    step: Array
    rank: Array


def lattices(ops: pd.DataFrame, ranks: pd.DataFrame) -> tuple[list[Lattice], list[str]]:
    """Return the lattices of `ops` (canonical), commonest structure first, and warnings about what was left out."""
    ops = ops[((ops["step"] >= 0) & (ops["end_ns"] >= ops["start_ns"])).to_numpy()]
    if not len(ops):
        return [], ["no operation carries a step"]
    rows = _rows(ops, ranks)
    turns = int(rows.turn.max()) + 1
    key = (rows.stage * len(rows.kinds) + rows.kind) * turns + rows.turn
    node, keys = pd.factorize(key, sort=True)
    present = np.zeros((len(keys), len(rows.steps)), dtype=bool)
    present[node, rows.step] = True
    weight = np.random.default_rng(0).integers(1, 2**62, len(keys), dtype=np.uint64)
    shape_of, shapes = pd.factorize(weight @ present)
    warnings = []
    common = np.argsort(-np.bincount(shape_of), kind="stable")
    if len(shapes) > MOST_SHAPES:
        out = int(np.isin(shape_of, common[MOST_SHAPES:]).sum())
        warnings.append(f"{out} of {len(rows.steps)} steps have a structure of their own and were not replayed")
        common = common[:MOST_SHAPES]
    found = []
    for shape in common:
        steps = np.flatnonzero(shape_of == shape)
        nodes = np.flatnonzero(present[:, steps[0]])
        found.append(_lattice(ops, rows, node, nodes, steps))
    return found, warnings


def _lattice(ops: pd.DataFrame, rows: _Rows, node: Array, nodes: Array, steps: Array) -> Lattice:
    whole = len(steps) == len(rows.steps)
    inside = slice(None) if whole else np.isin(rows.step, steps)
    node, stage, replica, step = node[inside], rows.stage[inside], rows.replica[inside], rows.step[inside]
    start, end = ops["start_ns"].to_numpy()[inside], ops["end_ns"].to_numpy()[inside]
    row = np.searchsorted(nodes, node)
    layer = np.searchsorted(steps, step)
    origin = np.full(len(steps), np.iinfo(np.int64).max)
    np.minimum.at(origin, layer, start)
    shape = (len(nodes), int(rows.replica.max()) + 1, len(steps))
    cell = np.ravel_multi_index((row, replica, layer), shape)
    times = np.full((2, int(np.prod(shape))), np.nan)
    times[0, cell] = start - origin[layer]
    times[1, cell] = end - origin[layer]
    rank = np.full((int(rows.stage.max()) + 1, shape[1]), -1)
    rank[stage, replica] = rows.rank[inside]
    facts = np.full((5, len(nodes)), -1)
    turn, kind = rows.turn[inside], rows.kind[inside]
    chunk, microbatch = ops["chunk"].to_numpy()[inside], ops["microbatch"].to_numpy()[inside]
    for line, values in enumerate((stage, kind, turn, chunk, microbatch)):
        facts[line, row] = values
    return Lattice(
        rows.kinds, rows.steps[steps], origin, facts[0], facts[1], facts[2], facts[3], facts[4],
        times[0].reshape(shape), times[1].reshape(shape), rank,
    )  # fmt: skip


def _rows(ops: pd.DataFrame, ranks: pd.DataFrame) -> _Rows:
    """Return the flat arrays: stages and replicas from `ops` and `ranks`, turns counted where `seq` does not serve."""
    rank = ops["rank"].to_numpy()
    stage, replica = _places(rank, ops["stage"].to_numpy().astype(np.int64), ranks)
    op = ops["op"].astype("category")
    used, kind = np.unique(op.cat.codes.to_numpy(), return_inverse=True)
    kinds = [str(op.cat.categories[code]) for code in used]
    step, steps = pd.factorize(ops["step"].to_numpy(), sort=True)
    turn = ops["seq"].to_numpy()
    lane = (replica * (int(stage.max()) + 1) + stage) * len(steps) + step
    track = lane.astype(np.int64) * len(kinds) + kind
    if not _unique(track, turn):
        turn = _counted(track, ops["start_ns"].to_numpy())
    return _Rows(kinds, np.asarray(steps), stage, replica, kind, turn, step, rank)


def _unique(track: Array, turn: Array) -> bool:
    """Return whether `turn` numbers the operations of each track without a gap that would waste memory."""
    if turn.min() < 0 or turn.max() > 4 * (np.bincount(track).max() + 1):
        return False
    cell = track * (int(turn.max()) + 1) + turn
    return bool(np.bincount(cell).max() <= 1) if cell.max() < 2**24 else not pd.Series(cell).duplicated().any()


def _counted(track: Array, start: Array) -> Array:
    """Return the place of each operation among those of its track, by start."""
    order = np.lexsort((start, track))
    ranked = track[order]
    first = np.flatnonzero(np.diff(ranked, prepend=-1))
    size = np.diff(np.append(first, len(ranked)))
    turn = np.empty(len(track), dtype=np.int64)
    turn[order] = np.arange(len(ranked)) - np.repeat(first, size)
    return turn


def _places(rank: Array, stage: Array, ranks: pd.DataFrame) -> tuple[Array, Array]:
    """Return (stage, replica) of each row: replicas are the lanes (dp, and tp, cp, ep where recorded) of a stage."""
    numbers, of = np.unique(rank, return_inverse=True)
    known = ranks.drop_duplicates("rank").set_index("rank").reindex(numbers)
    declared = known["pp"].fillna(-1).to_numpy().astype(np.int64)
    seen = np.full(len(numbers), -1, dtype=np.int64)
    np.maximum.at(seen, of, stage)
    own_stage = np.where(seen >= 0, seen, np.maximum(declared, 0))
    lanes = known[["dp", "tp", "cp", "ep"]].fillna(-1).astype(np.int64)
    lane = lanes.groupby(["dp", "tp", "cp", "ep"]).ngroup().to_numpy()
    if pd.DataFrame({"stage": own_stage, "lane": lane}).duplicated().any():
        lane = pd.Series(numbers).groupby(own_stage).cumcount().to_numpy()
    return own_stage[of], lane[of]
