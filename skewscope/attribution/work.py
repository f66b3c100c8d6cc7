"""Own work between arrivals, made comparable across ranks: the unit in which ranks are judged and repaired."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..stats import intervals, segments
from .calls import Calls
from .timeline import Activity, Timeline

Array = np.ndarray[Any, Any]

CAUSES = ("data", "gc", "checkpoint")
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Work:
    """One segment per arrival: what its rank did since the arrival before, holds taken out. Arrays of shape [segments].

    `of_event` [events] the segment of each event (-1: after the rank's last arrival); `own_ns` float; `cause_ns` maps
    "data", "gc", "checkpoint", "compute" to float ns; `peers` sorts segments so that comparable ones lie together:
    `order` and `runs` over the ordered segments.
    """

    rank: Array
    step: Array
    ordinal: Array
    until_ns: Array
    own_ns: Array
    cause_ns: dict[str, Array]
    of_event: Array
    order: Array
    runs: segments.Runs

    def peer_median(self, values: Array) -> Array:
        """Return for each segment the median of `values` over the comparable segments of the other ranks; else NaN."""
        out = np.full(len(values), np.nan)
        out[self.order] = segments.median_of_others(values[self.order], self.runs)
        return out

    @property
    def peers_count(self) -> Array:
        """Number of comparable segments of other ranks."""
        out = np.zeros(len(self.rank), dtype=np.int64)
        out[self.order] = self.runs.size[self.runs.of] - 1
        return out


def work(collectives: pd.DataFrame, calls: Calls, line: Timeline, act: Activity, stage_of: dict[int, int]) -> Work:
    """Return the segments of own work; peers are ranks of one stage with the same sequence of calls in the step."""
    arrival = np.flatnonzero(~line.held)
    of_event = _next_arrival(line, arrival)
    count = len(arrival)
    inside = np.flatnonzero(of_event >= 0)
    of = of_event[inside]
    lane, start, end = (part[inside] for part in (line.rank, line.from_ns, line.until_ns))
    cause = {
        name: np.bincount(of, intervals.covered(spans, lane, start, end), count) if len(spans.lane) else np.zeros(count)
        for name, spans in act.of.items()
    }
    own = np.bincount(of, line.own_ns[inside], count)
    row = calls.row[line.row[arrival]]
    step = collectives["step"].to_numpy()[row]
    rank = line.rank[arrival]
    lanes = segments.runs(rank, step)
    ordinal = segments.ordinal(lanes)
    kind = _kinds(collectives, row)
    ranks, of_rank = segments.levels(rank)
    stage = np.array([stage_of.get(int(one), -1) for one in ranks], dtype=np.int64)[of_rank]
    shape = _shapes(kind, stage, ordinal, lanes)
    order = segments.ordered(step, shape, ordinal, rank)
    runs = segments.runs(step[order], shape[order], ordinal[order])
    return Work(rank, step, ordinal, line.time[arrival], own, cause, of_event, order, runs)


def _next_arrival(line: Timeline, arrival: Array) -> Array:
    """Return for each event the number of its rank's next arrival (itself, for arrivals), -1 where none is left."""
    number = np.cumsum(~line.held) - (~line.held)
    if not len(arrival):
        return np.full(len(line.rank), -1)
    reached = np.minimum(number, len(arrival) - 1)
    return np.where((number < len(arrival)) & (line.rank[arrival[reached]] == line.rank), number, -1)


def _kinds(collectives: pd.DataFrame, row: Array) -> Array:
    """Return a number per row for what kind of call it is: operation and class, whichever the group."""
    op = np.asarray(collectives["op"].cat.codes)[row].astype(np.uint64)
    point = np.asarray(collectives["op"].isin(["send", "recv"]))[row]
    kind = np.asarray(collectives["op_class"].cat.codes)[row].astype(np.uint64)
    return op * np.uint64(4096) + np.where(point, np.uint64(0), kind + np.uint64(1))


def _shapes(kind: Array, stage: Array, ordinal: Array, lanes: segments.Runs) -> Array:
    """Return per segment a number for the whole sequence of calls of its rank and step, by a hash of it."""
    mixed = (kind * np.uint64(2) + np.uint64(1)) * (ordinal.astype(np.uint64) * _MIX + np.uint64(12345))
    mixed ^= mixed >> np.uint64(29)
    mixed *= _MIX
    summed = segments.total(mixed, lanes) + lanes.size.astype(np.uint64)
    summed += (stage[lanes.first] + 1).astype(np.uint64) * np.uint64(1_000_003)  # a rank has one stage
    return np.unique(summed, return_inverse=True)[1][lanes.of]
