"""The dependency graph of a recording made of calls: own work, arrivals, joins, transfers, holds.

Nodes, with their duration: one *work* node per event (own work before it); one *release* node per hold (0); one *join*
per call (0), after the arrivals of all members seen; one *transfer* node per member that something waits for (its
completion minus the join). Edges follow each rank's own order; a hold's release needs both its own work and the
transfer. A call that queued behind an earlier call of the same rank depends on that one's completion too.
Replaying the graph with the recorded durations gives the recorded times back; replaying it with one cause repaired
prices that cause (the what-if idea of arXiv 2505.05713, on calls instead of on framework operations).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..stats import intervals, segments
from . import replay
from .calls import Calls
from .timeline import Timeline

Array = np.ndarray[Any, Any]

QUEUE_NS = 1_000_000  # a call whose work begins within this of another's completion was queued behind it


@dataclass(frozen=True)
class EventGraph:
    """The plan to replay, its recorded durations [nodes] in ns, and where things are.

    `work` [events] node of each event's own work; `after` [events] node that ends each event; `transfer_row` the row of
    `Calls` of each transfer node, `transfer` those nodes. Time zero is where the first event begins.
    """

    plan: replay.Plan
    duration: Array
    work: Array
    after: Array
    transfer: Array
    transfer_row: Array


def build(calls: Calls, start_ns: Array, line: Timeline) -> EventGraph:
    """Return the graph; `start_ns` [rows of calls] is when work on the call began on the common clock, -1 unknown."""
    events, count = len(line.rank), len(calls.runs.first)
    release = np.cumsum(line.held) - 1
    after = np.where(line.held, events + release, np.arange(events))
    joins = events + int(line.held.sum())
    queued_row, queued_behind = _queues(calls, start_ns)
    waited_for = np.zeros(len(calls.row), dtype=bool)
    waited_for[line.row[line.held]] = waited_for[queued_behind] = True
    needed = np.flatnonzero(waited_for)
    transfers = joins + count
    transfer_of = np.full(len(calls.row), -1)
    transfer_of[needed] = transfers + np.arange(len(needed))
    previous = np.flatnonzero(line.rank[1:] == line.rank[:-1])
    hold = np.flatnonzero(line.held)
    arrival = np.flatnonzero(~line.held)
    call_of = calls.runs.of
    src = [after[previous], hold, transfer_of[line.row[hold]], arrival, joins + call_of[needed],
           transfer_of[queued_behind]]  # fmt: skip
    dst = [previous + 1, after[hold], after[hold], joins + call_of[line.row[arrival]], transfer_of[needed],
           joins + call_of[queued_row]]  # fmt: skip
    nodes = transfers + len(needed)
    join_time = _join_times(calls, queued_row, queued_behind)
    origin = int(line.from_ns.min()) if events else 0
    duration = np.zeros(nodes)
    duration[:events] = line.own_ns
    first = segments.runs(line.rank).first
    duration[first] += line.from_ns[first] - origin
    ended = np.where(calls.end[needed] >= 0, calls.end[needed], join_time[call_of[needed]])
    duration[transfer_of[needed]] = np.maximum(ended - join_time[call_of[needed]], 0)
    graph = replay.Graph(np.concatenate(src), np.concatenate(dst), nodes)
    return EventGraph(replay.plan(graph), duration, np.arange(events), after, transfer_of[needed], needed)


def _join_times(calls: Calls, queued_row: Array, queued_behind: Array) -> Array:
    """Return when each call could begin: everybody there and the queue before it drained."""
    begin = calls.last_ready.copy()
    np.maximum.at(begin, calls.runs.of[queued_row], calls.end[queued_behind])
    return begin


def _queues(calls: Calls, start_ns: Array) -> tuple[Array, Array]:
    """Return (row, row it queued behind) for calls whose work began as an earlier call of their rank completed."""
    waited = np.flatnonzero((start_ns > calls.ready + QUEUE_NS) & (calls.end >= 0) & (calls.ready >= 0))
    ended = np.flatnonzero(calls.end >= 0)
    if not len(waited) or not len(ended):
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing
    order = ended[segments.ordered(calls.rank[ended], calls.end[ended])]
    place = intervals.position(calls.rank[order], calls.end[order], calls.rank[waited], start_ns[waited] + 1) - 1
    behind = order[np.maximum(place, 0)]
    good = (place >= 0) & (calls.rank[behind] == calls.rank[waited])
    good &= start_ns[waited] - calls.end[behind] < QUEUE_NS
    good &= (calls.ready[behind] <= calls.ready[waited]) & (calls.runs.of[behind] != calls.runs.of[waited])
    good &= calls.last_ready[calls.runs.of[behind]] <= calls.end[behind]
    return waited[good], behind[good]
