"""The dependency graph of an operation-level trace: forward, backward, sends, receives, gradient exchange, optimizer.

Works for 1F1B and interleaved pipelines, with and without data parallelism, with gradients overlapped or not. The
graph is inferred from one replica of one step and serves all lanes; a dependency that the recording contradicts in
most lanes is dropped, so that a schedule unlike the expected one is still replayed as it ran.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..errors import SkewscopeError
from . import _pipeline_links as links
from . import replay
from ._pipeline_lattice import Lattice, lattices

Array = np.ndarray[Any, Any]

IMPOSSIBLE_NS = -1e7  # a transfer that ends this long before its last member began was stamped wrongly: taken as 0
TESTED_LANES = 64  # lanes in which inferred dependencies are compared with the recording


@dataclass(frozen=True)
class Pipeline:
    """A lattice with its graph.

    `node` [n] is the place (in plan order) of each operation, `nodes` the number of places (meetings included);
    `meeting` [n] the meeting of each operation, -1 alone; `shared` [meetings]; `begun` [meetings, replicas, s] when
    everybody was there (ns); `work` [n, replicas, s] what each operation takes by itself: own duration, or transfer.
    """

    lattice: Lattice
    plan: replay.Plan
    node: Array
    nodes: int
    meeting: Array
    shared: Array
    begun: Array
    work: Array

    def spread(self, values: Array) -> Array:
        """Return `values` [n, ...] of operations as an array in plan order, 0 at meetings."""
        placed = np.zeros((self.nodes, *values.shape[1:]))
        placed[self.node] = values
        return placed


def pipelines(ops: pd.DataFrame, ranks: pd.DataFrame) -> tuple[list[Pipeline], list[str]]:
    """Return one pipeline per step structure, commonest first, and warnings about what could not be used."""
    found, warnings = lattices(ops, ranks)
    made = []
    for lattice in found:
        try:
            made.append(build(lattice))
        except SkewscopeError as error:
            warnings.append(f"{len(lattice.step)} steps were not replayed: {error}")
    return made, warnings


def build(lattice: Lattice) -> Pipeline:
    """Return the pipeline of one lattice; raises SkewscopeError where its dependencies form a cycle."""
    src, dst = links.in_rank(lattice)
    keep = _agrees(lattice, src, dst)
    src, dst = src[keep], dst[keep]
    meeting, shared = links.meetings(lattice)
    count, joined = len(meeting), meeting >= 0
    members = np.flatnonzero(joined)
    entry = np.where(joined, count + meeting, np.arange(count))
    nodes = count + len(shared)
    graph = replay.Graph(
        np.concatenate([src, count + meeting[members]]), np.concatenate([entry[dst], members]), nodes
    )  # fmt: skip
    plan = replay.plan(graph, np.concatenate([np.zeros(count, dtype=bool), shared]), _names(lattice, len(shared)))
    place = np.empty(nodes, dtype=np.int64)
    place[plan.order] = np.arange(nodes)
    begun = _begun(lattice, meeting, shared)
    work = lattice.end - lattice.start
    work[members] = lattice.end[members] - begun[meeting[members]]
    work[members] = np.where(work[members] <= IMPOSSIBLE_NS, 0.0, work[members])
    return Pipeline(lattice, plan, place[:count], nodes, meeting, shared, begun, work)


def _begun(lattice: Lattice, meeting: Array, shared: Array) -> Array:
    """Return when the last member of each meeting began, [meetings, replicas, s] in ns; NaN where nobody did."""
    members = np.flatnonzero(meeting >= 0)
    if not len(members):
        return np.zeros((0, *lattice.start.shape[1:]))
    members = members[np.argsort(meeting[members], kind="stable")]
    first = np.flatnonzero(np.diff(meeting[members], prepend=-1))
    begun = np.asarray(np.fmax.reduceat(lattice.start[members], first, axis=0))
    begun[shared] = np.fmax.reduce(begun[shared], axis=1, keepdims=True)
    return begun


def _agrees(lattice: Lattice, src: Array, dst: Array) -> Array:
    """Return which inferred dependencies [e] the recording does not contradict in most of the tested lanes."""
    lanes = lattice.start.shape[1] * lattice.start.shape[2]
    some = np.linspace(0, lanes - 1, min(lanes, TESTED_LANES)).astype(int)
    start = lattice.start.reshape(-1, lanes)[:, some]
    end = lattice.end.reshape(-1, lanes)[:, some]
    early = (start[dst] - end[src] < -links.slack_ns(lattice)).sum(axis=1)
    both = np.isfinite(start[dst] + end[src]).sum(axis=1)
    return np.asarray(2 * early <= both)


def _names(lattice: Lattice, meetings: int) -> list[str]:
    """Return what to call each node in a message."""
    facts = zip(lattice.kind.tolist(), lattice.turn.tolist(), lattice.stage.tolist(), strict=True)
    return [f"{lattice.kinds[kind]} {turn} of stage {stage}" for kind, turn, stage in facts] + ["meeting"] * meetings
