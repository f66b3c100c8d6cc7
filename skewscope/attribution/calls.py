"""Which rows of different ranks are the same call, and who arrived when: collectives to `arrivals`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ..frames import empty, frame
from ..stats import segments

Array = np.ndarray[Any, Any]

TRUE_SEQUENCE = ("", "seq")  # op classes in which the recorder itself numbered the calls
SYNCHRONISING = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "barrier", "send_recv", "recv", "dispatch",
                 "combine")  # fmt: skip
CARRIED = ("job", "step", "rank", "group", "group_size", "op_class", "seq", "op", "message_bytes", "source")


@dataclass(frozen=True)
class Calls:
    """Rows of `collectives` that belong together, sorted by call.

    `row` [n] row numbers of the collectives frame; `runs` the calls; `ready`, `end` [n] int64 ns on the common clock
    (-1 unknown); `duration` [n] ns (-1 unknown).
    """

    row: Array
    runs: segments.Runs
    rank: Array
    ready: Array
    end: Array
    duration: Array

    @property
    def last_ready(self) -> Array:
        """The latest arrival of each call, shape [calls]."""
        return segments.maximum(self.ready, self.runs)


def match(collectives: pd.DataFrame) -> Calls:
    """Return the calls of `collectives`: rows with equal source, group, class and sequence number.

    Where the recorder numbers its calls, that number joins the ranks; else the k-th call of the class within the step,
    so that captures which begin at different steps still meet.
    """
    rows = _usable(collectives)
    source, group, kind = (_codes(collectives[name])[rows] for name in ("source", "group", "op_class"))
    rank, step, seq = (collectives[name].to_numpy()[rows] for name in ("rank", "step", "seq"))
    ready = collectives["ready_ns"].to_numpy()[rows]
    counted = ~_numbered(collectives)[rows] & (step >= 0)
    step_key, number = np.where(counted, step, -1), seq
    if counted.any():
        order = segments.ordered(rank, source, group, kind, step, ready, seq)
        within = np.empty(len(rows), dtype=np.int64)
        within[order] = segments.ordinal(segments.runs(*(key[order] for key in (rank, source, group, kind, step))))
        number = np.where(counted, within, seq)
    order = segments.ordered(source, group, kind, step_key, number, rank)
    over = segments.runs(*(key[order] for key in (source, group, kind, step_key, number)))
    rows = rows[order]
    end, measured = (collectives[name].to_numpy()[rows] for name in ("end_ns", "duration_ns"))
    end = np.where((collectives["source"] == "flight-recorder").to_numpy()[rows], -1, end)  # when a watchdog noticed
    duration = np.where(measured >= 0, measured, end - ready[order])
    known = (measured >= 0) | ((end >= 0) & (ready[order] >= 0))
    return Calls(rows, over, rank[order], ready[order], end, np.where(known, duration, -1))


def on_common_clock(calls: Calls, shift_ns: Array, sends: Array) -> Calls:
    """Return the calls with `shift_ns` [n] added; a send (`sends` [n] bool) is over when its receiver has the data.

    Recorders note a send's end when somebody waits for it, which may be long after.
    """
    ready = np.where(calls.ready >= 0, calls.ready + shift_ns, -1)
    end = np.where(calls.end >= 0, calls.end + shift_ns, -1)
    received = np.full(len(calls.runs.first), np.iinfo(np.int64).max)
    arrived = ~sends & (end >= 0)
    np.minimum.at(received, calls.runs.of[arrived], end[arrived])
    return replace(calls, ready=ready, end=np.where(sends & (end >= 0), np.minimum(end, received[calls.runs.of]), end))


def violations(calls: Calls, tolerance_ns: Array) -> Array:
    """Return per call whether a member ended before another arrived, which no synchronising call can do.

    `tolerance_ns` [calls] is what the clocks may be wrong by.
    """
    known = calls.end >= 0
    first_end = segments.minimum(np.where(known, calls.end, np.iinfo(np.int64).max), calls.runs)
    return np.asarray(calls.last_ready - tolerance_ns.astype(np.int64) > first_end)


def arrivals(collectives: pd.DataFrame, calls: Calls, doubt_ns: Array) -> pd.DataFrame:
    """Return the `arrivals` table; `doubt_ns` [n] is the lateness below which the clock of a row decides nothing.

    Where the arrivals of a call lie closer together than that doubt, or have no times, and all its durations are
    known, the clock is not asked: the culprit is the one that waits least.
    """
    if not len(calls.row):
        return empty("arrivals")
    over = calls.runs
    duration = np.where(calls.duration >= 0, calls.duration, np.nan).astype(float)
    ready = np.where(calls.ready >= 0, calls.ready - calls.ready.max(), np.nan).astype(float)
    spread = _largest(ready, over) + _largest(-ready, over)
    measured = segments.minimum(calls.duration, over) >= 0
    doubted = segments.maximum(doubt_ns, over) > spread
    by_wait = ((doubted & measured) | ~np.isfinite(spread))[over.of]
    arrival = np.where(by_wait, -duration, ready)
    latest = _largest(arrival, over)
    wait = latest[over.of] - arrival
    ended = np.where(calls.end >= 0, calls.end - calls.ready.max(), np.nan).astype(float)
    transfer = np.where(by_wait, duration - wait, ended - latest[over.of])
    margin = segments.minimum(np.where(wait > 0, wait, np.inf), over)[over.of]
    table = collectives.iloc[calls.row]
    return frame("arrivals", {
        **{name: table[name] for name in CARRIED}, "call": over.of, "members_count": over.size[over.of],
        "ready_ns": calls.ready, "end_ns": calls.end, "late_ns": arrival - segments.median_of_others(arrival, over),
        "wait_ns": wait, "transfer_ns": np.maximum(transfer, 0.0), "by_wait": by_wait,
        "last": (wait == 0) & (over.size[over.of] > 1) & (margin > np.where(by_wait, 0.0, doubt_ns)),
    })  # fmt: skip


def _usable(collectives: pd.DataFrame) -> Array:
    known = (collectives["ready_ns"] >= 0) | (collectives["duration_ns"] >= 0)
    return np.flatnonzero(known.to_numpy() & (collectives["op"] != "coalesced").to_numpy())


def _numbered(collectives: pd.DataFrame) -> Array:
    kind, source = collectives["op_class"], collectives["source"]
    logged = source.isin(["flight-recorder", "nccl-inspector", "nccl-profiler-plugin"])
    return np.asarray(kind.isin(TRUE_SEQUENCE) | logged)


def _codes(column: pd.Series) -> Array:
    return np.asarray(column.cat.codes).astype(np.int64)


def _largest(values: Array, over: segments.Runs) -> Array:
    return segments.maximum(np.where(np.isfinite(values), values, -np.inf), over)
