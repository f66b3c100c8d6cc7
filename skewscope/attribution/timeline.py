"""Each rank's own story between calls: arrivals, the points where it is held up, and its own work in between.

A rank's timeline is cut at two kinds of events. It *arrives* at a call (calls a collective, or the kernel starts); it
is *held* where it does nothing until a call that it had arrived at earlier completes. What lies between two events
and is not held is its own work. No framework has to say where it waits: a hole in the rank's activity that ends with
the completion of a pending call is a wait for that call. A recording without activity (a flight recorder) leaves it
open whether a rank waited or worked after an arrival; there the steadier story is believed (`waited_by_rhythm`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ..stats import intervals, segments
from .calls import Calls
from .clocks import Alignment

Array = np.ndarray[Any, Any]

WAKE_NS = 300_000  # a thread may resume this long before the recorder notes the completion,
WAKE_SHARE = 0.05  # or this share of the wait where the host is busy,
WAKE_MOST_NS = 3_000_000  # but never longer than this
KINDS = {"data": ("data",), "gc": ("gc",), "checkpoint": ("checkpoint", "eval"), "compute": ("cpu", "kernel")}
HOST_WORK = ("cpu", "kernel", "memcpy", "memset", "data", "gc", "checkpoint", "eval")


@dataclass(frozen=True)
class Timeline:
    """Events of all ranks, sorted by rank, then time; arrays of shape [events].

    `held` is True for a hold (False: arrival); `row` is the row of `Calls` it belongs to; `own_ns` the own work before
    it; `from_ns` where that work began, `until_ns` where it ended; `held_ns` how long the hold lasted.
    """

    rank: Array
    time: Array
    held: Array
    row: Array
    from_ns: Array
    until_ns: Array

    @cached_property
    def own_ns(self) -> Array:
        """Own work before each event, float ns."""
        return np.asarray(np.maximum(self.until_ns - self.from_ns, 0), dtype=float)

    @property
    def held_ns(self) -> Array:
        """Time that each hold lasted, 0 for arrivals, float ns."""
        return np.where(self.held, np.maximum(self.time - self.until_ns, 0), 0).astype(float)


@dataclass(frozen=True)
class Activity:
    """What ranks did: `busy` all recorded own activity, and `of` each kind ("data", "gc", ...), disjoint per rank."""

    busy: intervals.Spans
    of: dict[str, intervals.Spans]


def activity(ops: pd.DataFrame, alignment: Alignment) -> Activity:
    """Return the activity of all ranks on the common clock."""
    rank = ops["rank"].to_numpy()
    moved = alignment.shift(rank, ops["start_ns"].to_numpy())
    start, end = ops["start_ns"].to_numpy() + moved, ops["end_ns"].to_numpy() + moved
    order = intervals.order(rank, start)  # once for all kinds
    rank, start, end, ops = rank[order], start[order], end[order], ops[["op"]].take(order)
    kinds = {name: ops["op"].isin(ops_of).to_numpy() for name, ops_of in KINDS.items()}
    own = ops["op"].isin(HOST_WORK).to_numpy()
    found = {name: intervals.union(rank[pick], start[pick], end[pick]) for name, pick in kinds.items()}
    busy = intervals.union(rank[own], start[own], end[own])
    return Activity(busy, {**found, "busy": busy})


def waited_by_rhythm(calls: Calls, step: Array) -> Array:
    """Return for each row whether its rank waited for everybody before it went on, judged by rhythm alone; bool [n].

    Ranks that waited for a call leave it together: their next arrivals lie close. Ranks that did not wait go on at
    their own distance from their own arrival. For each position in the step, the story with the smaller spread between
    the members of a call, over all calls, is believed.
    """
    order = segments.ordered(calls.rank, step, calls.ready)
    rank, ready = calls.rank[order], calls.ready[order]
    place = segments.ordinal(segments.runs(rank, step[order]))
    follows = np.append(rank[1:] == rank[:-1], False)
    following, position, last = (
        np.zeros(len(order)),
        np.zeros(len(order), dtype=np.int64),
        np.zeros(len(order), dtype=bool),
    )
    following[order] = np.append(ready[1:] - ready[:-1], 0)
    position[order], last[order] = place, ~follows
    apart = np.where(last, np.nan, following)
    together = apart + (calls.ready - calls.last_ready[calls.runs.of])
    spread = [_variances(values, calls.runs) for values in (together, apart)]
    known = np.isfinite(spread[0]) & np.isfinite(spread[1])
    at = position[calls.runs.first]
    sums = [np.bincount(at[known], values[known], position.max() + 1) for values in spread]
    return np.asarray(sums[0] <= sums[1])[position]


def _variances(values: Array, over: segments.Runs) -> Array:
    """Return the variance of each run, NaN where a value is missing."""
    mean = segments.total(values, over) / over.size
    return segments.total((values - mean[over.of]) ** 2, over) / over.size


def timeline(calls: Calls, busy: intervals.Spans, may_hold: Array) -> Timeline:
    """Return the events of all ranks; `calls` must be on the common clock, `busy` disjoint spans per rank.

    `may_hold` [n] marks rows whose completion somebody may have waited for.
    """
    known = np.flatnonzero(calls.ready >= 0)
    rank, ready = calls.rank[known], calls.ready[known]
    everybody = calls.last_ready[calls.runs.of[known]]
    end = np.where(calls.end[known] >= 0, calls.end[known], everybody)
    holds = may_hold[known] & (
        end >= everybody - WAKE_NS
    )  # a completion before somebody's arrival (a buffered send) holds nobody
    hole = _holes(busy, rank, ready, end)
    held_by = _holds(hole, rank[holds], ready[holds], end[holds], known[holds])
    hold_rank, hold_start, hold_row, hold_end = held_by
    event_rank = np.concatenate([rank, hold_rank])
    time = np.concatenate([ready, hold_end])
    held = np.concatenate([np.zeros(len(rank), dtype=bool), np.ones(len(hold_rank), dtype=bool)])
    row = np.concatenate([known, hold_row])
    until = np.concatenate([ready, hold_start])
    order = segments.ordered(event_rank, time, ~held)  # what begins as a wait ends comes after it
    event_rank, time, held, row, until = (part[order] for part in (event_rank, time, held, row, until))
    since = np.empty_like(time)
    since[1:] = time[:-1]
    first = segments.runs(event_rank).first
    since[first] = _first_activity(busy, event_rank[first], time[first])
    return Timeline(event_rank, time, held, row, since, np.maximum(np.minimum(until, time), since))


def _holes(busy: intervals.Spans, rank: Array, ready: Array, done: Array) -> intervals.Spans:
    """Return the times in which a rank did nothing, cut at its arrivals; all of the time where no activity is known.

    A rank's story ends with its last completion: it stays until then.
    """
    by_rank = segments.ordered(rank, done)
    final = by_rank[np.append(np.flatnonzero(np.diff(rank[by_rank])), len(rank) - 1)] if len(rank) else by_rank
    lane = np.concatenate([busy.lane, rank, rank[final]])
    start = np.concatenate([busy.start, ready, done[final]])
    end = np.concatenate([busy.end, ready, done[final]])
    order = segments.ordered(lane, start, end)
    lane, start, end = lane[order], start[order], end[order]
    if not len(lane):
        return intervals.Spans(lane, start, end)
    merged = intervals.union(lane, start, end)
    return intervals.gaps(merged)


def _holds(hole: intervals.Spans, rank: Array, ready: Array, end: Array, row: Array) -> tuple[Array, ...]:
    """Return (rank, start, row, end) of the holes that the completion of a pending call ends or shortens."""
    order = segments.ordered(rank, end)
    lanes, ends = rank[order], end[order]
    early = np.clip(((hole.end - hole.start) * WAKE_SHARE).astype(np.int64), WAKE_NS, WAKE_MOST_NS)
    if not len(lanes):
        return hole.lane[:0], hole.start[:0], row[:0], end[:0]
    pick, valid = np.zeros(len(hole.lane), dtype=np.int64), np.zeros(len(hole.lane), dtype=bool)
    # Of the completions within the tolerance the last may be of a call that began after the hole.
    for later in (early, WAKE_NS, 0, -1):
        left = np.flatnonzero(~valid)
        lane, start = hole.lane[left], hole.start[left]
        until = hole.end[left] + (later[left] if isinstance(later, np.ndarray) else later)
        place = intervals.position(lanes, ends, lane, until, side="right") - 1
        inside = np.maximum(place, 0)
        good = (place >= 0) & (lanes[inside] == lane) & (ends[inside] > start) & (ready[order[inside]] <= start)
        pick[left[good]], valid[left[good]] = order[inside[good]], True
    valid[1:] &= (pick[1:] != pick[:-1]) | ~valid[:-1]  # holes that end just before one completion are one wait
    return hole.lane[valid], hole.start[valid], row[pick[valid]], end[pick[valid]]


def _first_activity(busy: intervals.Spans, rank: Array, time: Array) -> Array:
    """Return where each rank's recorded activity begins, at most `time`."""
    if not len(busy.lane):
        return time
    place = np.minimum(np.searchsorted(busy.lane, rank), len(busy.lane) - 1)
    return np.where(busy.lane[place] == rank, np.minimum(busy.start[place], time), time)
