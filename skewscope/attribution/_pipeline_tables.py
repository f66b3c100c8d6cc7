"""The derived tables of an operation-level trace: step times, each rank's step split up, arrivals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..contracts import Coded
from ..frames import concat, frame
from ..stats import intervals, segments
from . import _pipeline_links as links
from ._pipeline_bench import COMMUNICATION, Bench
from .pipeline_graph import Pipeline

Array = np.ndarray[Any, Any]


def step_times(bench: Bench, base_ns: Array, replay_ns: Array, ideal_ns: Array, source: str) -> pd.DataFrame:
    """Return the `step_times` table; lengths are [S] in ns."""
    start = np.zeros(len(bench.steps), dtype=np.int64)
    ranks = np.zeros(len(bench.steps), dtype=np.int64)
    for pipeline, columns in zip(bench.pipelines, bench.columns, strict=True):
        lattice = pipeline.lattice
        start[columns] = lattice.origin
        for stage in range(lattice.rank.shape[0]):
            ranks[columns] += np.isfinite(lattice.start[lattice.stage == stage]).any(axis=0).sum(axis=0)
    return frame("step_times", {
        "job": "job", "step": bench.steps, "start_ns": start, "duration_ns": base_ns, "replay_ns": replay_ns,
        "ideal_ns": ideal_ns, "planned": False, "ranks_count": ranks, "source": source,
    })  # fmt: skip


def rank_steps(pipelines: Sequence[Pipeline], ranks: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return the `rank_steps` table: own work, transfers that nothing hid, waiting for others, idle."""
    node_of = dict(zip(ranks["rank"].tolist(), ranks["node"].astype(str).tolist(), strict=True))
    parts = [_rank_steps(pipeline, node_of, source) for pipeline in pipelines]
    table = concat("rank_steps", parts)
    order = np.lexsort((table["rank"].to_numpy(), table["step"].to_numpy()))
    return table.iloc[order].reset_index(drop=True)


def _rank_steps(pipeline: Pipeline, node_of: dict[int, str], source: str) -> pd.DataFrame:
    lattice = pipeline.lattice
    steps = len(lattice.step)
    lanes = lattice.rank.size * steps
    node, replica, step = np.nonzero(np.isfinite(lattice.start))
    lane = (lattice.stage[node] * lattice.rank.shape[1] + replica) * steps + step
    begin = lattice.start[node, replica, step].astype(np.int64)
    end = lattice.end[node, replica, step].astype(np.int64)
    talks = lattice.of_kind(*COMMUNICATION)[node]
    own = intervals.union(lane[~talks], begin[~talks], end[~talks])
    comm = intervals.union(lane[talks], begin[talks], end[talks])
    ready = _ready(pipeline, node, replica, step, begin)
    moving = talks & (ready < end)
    moved = intervals.union(lane[moving], ready[moving], end[moving])
    exposed, transfer = _uncovered(comm, own, lanes), _uncovered(moved, own, lanes)
    length = np.full(lattice.rank.shape + (steps,), np.nanmax(lattice.end, axis=(0, 1))).ravel()
    present = np.bincount(lane, minlength=lanes) > 0
    busy = _total(own, lanes)
    place = np.flatnonzero(present)
    rank = lattice.rank.ravel()[place // steps]
    start = lattice.origin[place % steps]
    phase = {kind: _kind_total(pipeline, kind) for kind in (*links.COMPUTE, "gc")}
    return frame("rank_steps", {
        "job": "job", "step": lattice.step[place % steps], "rank": rank,
        "node": [node_of.get(one, "") for one in rank.tolist()], "stage": place // steps // lattice.rank.shape[1],
        "start_ns": start, "end_ns": start + length[place].astype(np.int64), "work_ns": busy[place],
        "own_ns": busy[place], "compute_ns": (busy - phase["gc"])[place], "input_ns": 0.0,
        "gc_ns": phase["gc"][place], "checkpoint_ns": 0.0,
        "transfer_ns": transfer[place], "wait_ns": np.maximum(exposed - transfer, 0.0)[place],
        "idle_ns": np.maximum(length - busy - exposed, 0.0)[place], "comm_ns": _total(comm, lanes)[place],
        "wait_for_rank": _waited_for(pipeline).ravel()[place],
        "forward_ns": phase["forward_compute"][place], "backward_ns": phase["backward_compute"][place],
        "source": source,
    })  # fmt: skip


def _ready(pipeline: Pipeline, node: Array, replica: Array, step: Array, begin: Array) -> Array:
    """Return when everybody had arrived at each operation, [rows] in ns; its own start where it met nobody."""
    meeting = pipeline.meeting[node]
    met = meeting >= 0
    ready = begin.copy()
    ready[met] = np.maximum(pipeline.begun[meeting[met], replica[met], step[met]].astype(np.int64), begin[met])
    return ready


def _uncovered(spans: intervals.Spans, by: intervals.Spans, lanes: int) -> Array:
    """Return per lane the time of `spans` that `by` does not cover, in ns."""
    open_ns = spans.end - spans.start - intervals.covered(by, spans.lane, spans.start, spans.end)
    return np.bincount(spans.lane, open_ns, lanes)


def _total(spans: intervals.Spans, lanes: int) -> Array:
    return np.bincount(spans.lane, spans.end - spans.start, lanes)


def _kind_total(pipeline: Pipeline, kind: str) -> Array:
    """Return per rank and step, [stages * replicas * s], the time of the operations of one kind, in ns."""
    lattice = pipeline.lattice
    total = np.zeros((lattice.rank.shape[0], *lattice.start.shape[1:]))
    for stage in range(len(total)):
        rows = lattice.of_kind(kind) & (lattice.stage == stage)
        if rows.any():
            total[stage] = np.nansum(lattice.end[rows] - lattice.start[rows], axis=0)
    return total.ravel()


def _waited_for(pipeline: Pipeline) -> Array:
    """Return the last rank to arrive at each rank's longest wait, [stages, replicas, s]; -1 where it never waited."""
    lattice, meeting = pipeline.lattice, pipeline.meeting
    found = np.full((lattice.rank.shape[0], *lattice.start.shape[1:]), -1)
    last = _last_rank(pipeline)
    for stage in range(len(found)):
        rows = np.flatnonzero((lattice.stage == stage) & (meeting >= 0))
        if not len(rows):
            continue
        wait = np.nan_to_num(pipeline.begun[meeting[rows]] - lattice.start[rows])
        longest = wait.argmax(axis=0)[None]
        whom = np.take_along_axis(last[meeting[rows]], longest, axis=0)[0]
        found[stage] = np.where(np.take_along_axis(wait, longest, axis=0)[0] > 0, whom, -1)
    return found


def _last_rank(pipeline: Pipeline) -> Array:
    """Return which rank arrived last at each meeting, [meetings, replicas, s], -1 where nobody did."""
    lattice, meeting = pipeline.lattice, pipeline.meeting
    last = np.full(pipeline.begun.shape, -1)
    for row in np.argsort(meeting, kind="stable")[np.count_nonzero(meeting < 0) :]:
        at = meeting[row]
        first = lattice.start[row] >= pipeline.begun[at]
        if pipeline.shared[at]:
            who = np.where(first, lattice.rank[lattice.stage[row]][:, None], -1).max(axis=0)
            last[at] = np.where(who >= 0, who, last[at])
        else:
            last[at] = np.where(first, lattice.rank[lattice.stage[row]][:, None], last[at])
    return last


def arrivals(bench: Bench, source: str) -> pd.DataFrame:
    """Return the `arrivals` table of the operations at which ranks meet."""
    parts: list[pd.DataFrame] = []
    calls = 0
    turns = 1 + max(int(one.lattice.turn.max(initial=0)) for one in bench.pipelines)
    for pipeline, columns in zip(bench.pipelines, bench.columns, strict=True):
        parts.append(_arrivals(pipeline, columns * turns, source, calls))
        calls += pipeline.begun.size
    return concat("arrivals", parts)


def _arrivals(pipeline: Pipeline, first_seq: Array, source: str, calls: int) -> pd.DataFrame:
    """Return the arrivals of one pipeline; `first_seq` [s] is where the numbers of each step's calls begin."""
    lattice, meeting = pipeline.lattice, pipeline.meeting
    met = np.flatnonzero(meeting >= 0)
    row, replica, step = np.nonzero(np.isfinite(lattice.start[met]))
    node = met[row]
    of = meeting[node]
    home = np.where(pipeline.shared[of], 0, replica)
    steps = len(lattice.step)
    call = (of * lattice.start.shape[1] + home) * steps + step
    order = np.argsort(call, kind="stable")
    node, replica, step, of, home, call = (one[order] for one in (node, replica, step, of, home, call))
    over = segments.runs(call)
    begin = lattice.start[node, replica, step]
    wait = pipeline.begun[of, replica, step] - begin
    many = over.size[over.of] > 1
    group, op_class = _groups(pipeline)
    kind = lattice.kind[node]
    table = {
        "job": "job", "step": lattice.step[step], "rank": lattice.rank[lattice.stage[node], replica],
        "group": Coded(group.codes[of, home], group.values), "op_class": Coded(op_class.codes[of], op_class.values),
        "seq": first_seq[step] + _turns(pipeline)[of], "op": Coded(kind, lattice.kinds), "call": calls + call,
        "members_count": over.size[over.of], "ready_ns": lattice.origin[step] + begin.astype(np.int64),
        "end_ns": lattice.origin[step] + lattice.end[node, replica, step].astype(np.int64),
        "late_ns": begin - segments.median_of_others(begin, over), "wait_ns": wait,
        "transfer_ns": np.maximum(pipeline.work[node, replica, step], 0.0), "last": (wait <= 0) & many,
        "by_wait": False, "source": source,
    }  # fmt: skip
    return frame("arrivals", {name: _kept(values, many) for name, values in table.items()})


def _kept(values: Any, rows: Array) -> Any:  # noqa: ANN401 - columns of any type
    if isinstance(values, Coded):
        return Coded(values.codes[rows], values.values)
    return values[rows] if isinstance(values, np.ndarray) else values


def _turns(pipeline: Pipeline) -> Array:
    """Return the turn of each meeting: the smallest of its members' turns, [meetings]."""
    met = pipeline.meeting >= 0
    turn = np.full(len(pipeline.shared), np.iinfo(np.int64).max)
    np.minimum.at(turn, pipeline.meeting[met], pipeline.lattice.turn[met])
    return turn


def _groups(pipeline: Pipeline) -> tuple[Coded, Coded]:
    """Return the communicator of each meeting and replica [meetings, replicas], and its class of calls [meetings]."""
    lattice, meeting = pipeline.lattice, pipeline.meeting
    replicas = lattice.rank.shape[1]
    group: dict[str, int] = {}
    kinds: dict[str, int] = {}
    codes = np.zeros((len(pipeline.shared), replicas), dtype=np.int64)
    classes = np.zeros(len(pipeline.shared), dtype=np.int64)
    order = np.argsort(meeting, kind="stable")
    order = order[meeting[order] >= 0]
    over = segments.runs(meeting[order])
    for first, size in zip(over.first.tolist(), over.size.tolist(), strict=True):
        members = order[first : first + size]
        at = int(meeting[members[0]])
        name = lattice.kinds[int(lattice.kind[members[0]])]
        classes[at] = kinds.setdefault(name.replace("_send", "").replace("_recv", ""), len(kinds))
        codes[at] = [group.setdefault(label, len(group)) for label in _labels(pipeline, members, name, at)]
    return Coded(codes, list(group)), Coded(classes, list(kinds))


def _labels(pipeline: Pipeline, members: Array, name: str, at: int) -> list[str]:
    """Return what to call a communicator in each replica: 'p2p:SRC-DST', or who its members are."""
    lattice = pipeline.lattice
    stages = np.unique(lattice.stage[members])
    replicas = range(lattice.rank.shape[1])
    if name in links.TRAFFIC:
        ends = sorted(members.tolist(), key=lambda one: "recv" in lattice.kinds[int(lattice.kind[one])])
        src, dst = int(lattice.stage[ends[0]]), int(lattice.stage[ends[-1]])
        return [f"p2p:{lattice.rank[src, one]}-{lattice.rank[dst, one]}" for one in replicas]
    if pipeline.shared[at]:
        return ["stages" if len(stages) > 1 else f"stage{stages[0]}:dp"] * len(replicas)
    return [f"embedding:dp{one}" for one in replicas]
