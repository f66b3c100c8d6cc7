"""Splits each rank's step into own work, exposed transfer, waiting for others (and for whom) and idle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..contracts import Coded
from ..frames import empty, frame
from ..stats import intervals, segments
from .calls import Calls
from .clocks import Alignment
from .timeline import Activity, Timeline
from .work import Work

Array = np.ndarray[Any, Any]

TABLE_RATIO = 8  # a place for each step and rank that may be is looked up sooner than searched for, if they are so few


def rank_steps(
    steps: pd.DataFrame, calls: Calls, line: Timeline, work: Work, act: Activity, alignment: Alignment,
    step_of_event: Array, node_of: dict[int, str], stage_of: dict[int, int], source: str,
) -> pd.DataFrame:  # fmt: skip
    """Return the `rank_steps` table: one row per step and rank that has events or a recorded step."""
    marks = _marks(steps, alignment)
    if not len(work.rank):
        return empty("rank_steps")
    order = segments.ordered(work.step, work.rank)
    first = order[segments.runs(work.step[order], work.rank[order]).first]
    step, rank = work.step[first], work.rank[first]
    place = _finder(step, rank)
    of_segment = place(work.step, work.rank)
    rows = len(step)
    sums = {name: np.bincount(of_segment, ns, rows) for name, ns in {**work.cause_ns, "own": work.own_ns}.items()}
    of_event = place(step_of_event, line.rank)
    inside = of_event >= 0
    wait, transfer = _hold_parts(calls, line)
    waited = np.bincount(of_event[inside], wait[inside], rows)
    moved = np.bincount(of_event[inside], transfer[inside], rows)
    start, end, tokens = _bounds(marks, step, rank, work, of_segment)
    phase = {name: _phase_work(steps, name, act, alignment, place, rows) for name in ("forward", "backward")}
    comm, hidden = _communication(calls, act, start, end, rank)
    of_rank, ranks = pd.factorize(rank)
    nodes = Coded(of_rank, [node_of.get(one, "") for one in ranks.tolist()])
    busy = np.minimum(sums["busy"], sums["own"]) if len(act.busy.lane) else sums["own"]
    return frame("rank_steps", {
        "job": "job", "step": step, "rank": rank, "node": nodes,
        "stage": np.array([stage_of.get(one, -1) for one in ranks.tolist()])[of_rank], "start_ns": start, "end_ns": end,
        "work_ns": sums["own"], "own_ns": busy, "compute_ns": np.minimum(sums["compute"], busy),
        "input_ns": sums["data"], "gc_ns": sums["gc"], "checkpoint_ns": sums["checkpoint"], "transfer_ns": moved,
        "wait_ns": waited, "idle_ns": sums["own"] - busy, "comm_ns": comm, "hidden_ns": hidden,
        "wait_for_rank": _waited_for(calls, line, wait, of_event, rows), "forward_ns": phase["forward"],
        "backward_ns": phase["backward"], "work_tokens": tokens, "source": source,
    })  # fmt: skip


def _hold_parts(calls: Calls, line: Timeline) -> tuple[Array, Array]:
    """Return (waiting for others, transfer) of each event in ns; both 0 for arrivals."""
    everybody = calls.last_ready[calls.runs.of[line.row]]
    wait = np.clip(np.minimum(line.time, everybody) - line.until_ns, 0, None)
    wait = np.where(line.held, wait, 0).astype(float)
    return wait, line.held_ns - wait


def _waited_for(calls: Calls, line: Timeline, wait: Array, of_event: Array, rows: int) -> Array:
    """Return for each row the rank whose arrival ended its longest wait, -1 where it never waited."""
    over = calls.runs
    is_last = calls.ready == calls.last_ready[over.of]
    late_rank = np.full(len(over.first), -1, dtype=np.int64)
    late_rank[over.of[is_last]] = calls.rank[is_last]
    picked = np.flatnonzero((wait > 0) & (of_event >= 0))
    order = picked[np.argsort(wait[picked], kind="stable")]
    found = np.full(rows, -1, dtype=np.int64)
    found[of_event[order]] = late_rank[over.of[line.row[order]]]
    return found


def _marks(steps: pd.DataFrame, alignment: Alignment) -> pd.DataFrame:
    """Return recorded whole steps on the common clock, one row per step and rank."""
    whole = steps[(steps["phase"] == "step").to_numpy()]
    moved = alignment.shift(whole["rank"].to_numpy(), whole["start_ns"].to_numpy())
    table = pd.DataFrame({
        "step": whole["step"].to_numpy(), "rank": whole["rank"].to_numpy(),
        "start": whole["start_ns"].to_numpy() + moved, "end": whole["end_ns"].to_numpy() + moved,
        "tokens": whole["work_tokens"].to_numpy(),
    })  # fmt: skip
    return table.sort_values("tokens", kind="stable").drop_duplicates(["step", "rank"], keep="last")


def _finder(step: Array, rank: Array) -> Any:  # noqa: ANN401 - a closure over two sorted arrays
    """Return a function that maps (step, rank) arrays to row numbers of the sorted pairs, -1 where absent."""
    span = np.int64(rank.max() + 2)
    keys = step * span + rank
    low, size = keys[0], int(keys[-1] - keys[0]) + 1
    table = np.zeros(0, dtype=np.int64)
    if size <= TABLE_RATIO * len(keys):
        table = np.full(size, -1)
        table[keys - low] = np.arange(len(keys))

    def place(of_step: Array, of_rank: Array) -> Array:
        wanted = np.asarray(of_step) * span + of_rank
        known = (of_rank < span - 1) & (wanted >= low) & (wanted <= keys[-1])
        if len(table):
            return np.where(known, table[np.where(known, wanted - low, 0)], -1)
        found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(known & (keys[found] == wanted), found, -1)

    return place


def _bounds(marks: pd.DataFrame, step: Array, rank: Array, work: Work, of_segment: Array) -> tuple[Array, Array, Array]:
    """Return start, end and tokens of each row: as recorded, else from the last arrival before it to its own last."""
    start = np.full(len(step), np.iinfo(np.int64).max)
    end = np.zeros(len(step), dtype=np.int64)
    np.minimum.at(start, of_segment, work.until_ns)
    np.maximum.at(end, of_segment, work.until_ns)
    tokens = np.full(len(step), -1, dtype=np.int64)
    lanes = segments.ordered(rank, step)
    follows = (np.diff(rank[lanes]) == 0) & (np.diff(step[lanes]) == 1)
    start[lanes[1:][follows]] = end[lanes[:-1][follows]]
    if len(marks):
        row = _finder(step, rank)(marks["step"].to_numpy(), marks["rank"].to_numpy())
        seen = row >= 0
        start[row[seen]], end[row[seen]] = marks["start"].to_numpy()[seen], marks["end"].to_numpy()[seen]
        tokens[row[seen]] = marks["tokens"].to_numpy()[seen]
    return start, end, tokens


def _phase_work(
    steps: pd.DataFrame, phase: str, act: Activity, alignment: Alignment, place: Any, rows: int  # noqa: ANN401
) -> Array:  # fmt: skip
    """Return the rank's own activity inside a phase, summed per row, in ns; NaN where the phase is not recorded."""
    part = steps[(steps["phase"] == phase).to_numpy()]
    if not len(part) or not len(act.busy.lane):
        return np.full(rows, np.nan)
    rank = part["rank"].to_numpy()
    moved = alignment.shift(rank, part["start_ns"].to_numpy())
    done = intervals.covered(act.busy, rank, part["start_ns"].to_numpy() + moved, part["end_ns"].to_numpy() + moved)
    row = place(part["step"].to_numpy(), rank)
    seen = row >= 0
    total = np.bincount(row[seen], done[seen], rows)
    return np.where(np.bincount(row[seen], minlength=rows) > 0, total, np.nan)


def _communication(calls: Calls, act: Activity, start: Array, end: Array, rank: Array) -> tuple[Array, Array]:
    """Return (how long any call of the rank was in flight, how long of it the rank computed) during each row, in ns."""
    known = (calls.ready >= 0) & (calls.end >= calls.ready)
    flight = intervals.union(calls.rank[known], calls.ready[known], calls.end[known])
    compute = act.of["compute"]
    lane, begin, until = (np.concatenate(pair) for pair in zip(flight, compute, strict=True))
    either = intervals.union(lane, begin, until)
    stop = np.maximum(end, start)
    comm, busy, any_of = (intervals.covered(spans, rank, start, stop) for spans in (flight, compute, either))
    return comm.astype(float), np.maximum(comm + busy - any_of, 0).astype(float)


def step_times(table: pd.DataFrame, steps: Array, replay_ns: Array, ideal_ns: Array, source: str) -> pd.DataFrame:
    """Return the `step_times` table from `rank_steps` and the replayed lengths of `steps` (all [s], ns)."""
    order = segments.ordered(table["step"].to_numpy(), table["start_ns"].to_numpy())
    number = table["step"].to_numpy()[order]
    over = segments.runs(number)
    if not len(number):
        return empty("step_times")
    start = segments.minimum(table["start_ns"].to_numpy()[order], over)
    length = segments.median((table["end_ns"] - table["start_ns"]).to_numpy()[order].astype(float), over)
    rows = np.minimum(np.searchsorted(steps, number[over.first]), max(len(steps) - 1, 0))
    known = steps[rows] == number[over.first] if len(steps) else np.zeros(len(rows), dtype=bool)
    planned = segments.total(table["checkpoint_ns"].to_numpy()[order], over) > 0.05 * length
    return frame("step_times", {
        "job": "job", "step": number[over.first], "start_ns": start, "duration_ns": length,
        "replay_ns": np.where(known, replay_ns[rows], np.nan), "ideal_ns": np.where(known, ideal_ns[rows], np.nan),
        "planned": planned, "ranks_count": over.size, "source": source,
    })  # fmt: skip
