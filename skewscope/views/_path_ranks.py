"""Ranks joined at collectives: who arrived last, on the common clock, and on whose kernel the others waited."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ..contracts import Frames
from ..stats import segments
from ._path_graph import Graph

Array = np.ndarray[Any, Any]


def joined(graph: Graph, work: pd.DataFrame, tables: Frames) -> tuple[Graph | None, int]:
    """Return the graph on the common clock with collectives that wait for their last arrival, and how many do.

    (None, 0) where no collective of two ranks was matched to its kernels.
    """
    call, row = _members(work, tables)
    if not len(call):
        return None, 0
    ahead = np.rint(_offsets(graph, tables)).astype(np.int64)
    moved = graph.time - ahead
    start = moved[2 * (graph.calls + row)]
    order = np.lexsort((start, call))
    call, row, start = call[order], row[order], start[order]
    over = segments.runs(call)
    last = (over.first + over.size - 1)[over.of]
    waiting = np.flatnonzero((over.size[over.of] >= 2) & (start < start[last]))
    if not len(waiting):
        return None, 0
    before = graph.before.copy()
    node = 2 * (graph.calls + row[waiting]) + 1
    source = 2 * (graph.calls + row[last[waiting]])
    late = moved[source] <= moved[node]  # a kernel that ended before the last one began did not wait for it
    before[node[late]] = source[late]
    return replace(graph, time=moved, ahead=ahead, before=_kept(before, moved)), len(np.unique(call[waiting][late]))


def _kept(before: Array, time: Array) -> Array:
    """Return `before` without what clocks put after the node itself."""
    return np.where((before >= 0) & (time[np.maximum(before, 0)] <= time + 1000), before, -1)


def _members(work: pd.DataFrame, tables: Frames) -> tuple[Array, Array]:
    """Return (matched call, row of work) of every kernel that belongs to a collective of `arrivals`."""
    nothing = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    arrivals, collectives = tables.get("arrivals"), tables.get("collectives")
    if arrivals is None or collectives is None or not len(arrivals) or not len(collectives):
        return nothing
    keys = ["job", "group", "op_class", "seq", "rank"]
    parts = [frame[[*keys, *more]].astype({"job": object, "group": object, "op_class": object})
             for frame, more in ((arrivals, ["call"]), (collectives, ["start_ns"]))]  # fmt: skip
    found = parts[0].merge(parts[1], on=keys)
    mine = pd.DataFrame({"rank": work["rank"], "start_ns": work["start_ns"], "row": np.arange(len(work)),
                         "communication": (work["kind"] == "communication").to_numpy()})  # fmt: skip
    found = found.merge(mine[mine["communication"]], on=["rank", "start_ns"]).drop_duplicates(["call", "rank"])
    return found["call"].to_numpy(), found["row"].to_numpy()


def _offsets(graph: Graph, tables: Frames) -> Array:
    """Return what the clock of each node's rank is ahead of the common one, in ns; 0 where that is not known."""
    clocks, ranks = tables.get("clocks"), tables.get("ranks")
    if clocks is None or ranks is None or not len(clocks):
        return np.zeros(len(graph.time))
    ahead = {str(node): offset for node, offset, aligned in zip(clocks["node"], clocks["offset_ns"], clocks["aligned"],
                                                               strict=True) if aligned}  # fmt: skip
    of = {int(rank): ahead.get(str(node), 0.0) for rank, node in zip(ranks["rank"], ranks["node"], strict=True)}
    each, place = np.unique(graph.rank, return_inverse=True)
    return np.array([of.get(int(rank), 0.0) for rank in each])[place]
