"""What made each moment of a recording wait: host calls and device work with the one thing before that held each back.

Nodes are the start and the end of every runtime call of the host and of all device work; `before` names the node that a
node had to wait for last, which in a recording is the one that came latest:

- the end of device work waits for its start;
- its start waits for its launch (the start of the launch call), the work before it on its stream, or, behind a wait
  for an event, the work of another stream that ended last before it: whichever was latest;
- the end of a host call waits for its start, but a call that blocks (a synchronisation, a copy that is complete when
  the call returns) waits for the device work that it blocked on;
- where work or a call begins before the one ahead of it has ended, it waits for the start of that one;
- the start of a host call waits for the call before it on its thread; after a pause of the thread, for the call of
  another thread of the rank that returned last within the pause (the backward pass has a thread of its own);
- across ranks the end of a collective waits for the start on the rank that arrived last.

Following `before` from the last node gives the critical path: its pieces lie end to end, so no longer path exists
(HolisticTraceAnalysis builds the same kinds of edges and searches for the longest path).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ..stats import intervals, segments
from . import _calls, _device_rows

Array = np.ndarray[Any, Any]

PAUSE_NS = 50_000  # a thread that recorded nothing for this long waited for somebody
UNEXPLAINED_NS = 20_000  # free work that begins later than this waited for something else: an event of another stream
SLACK_NS = 1_000  # a host clock and a device clock may disagree by this much


@dataclass(frozen=True)
class Graph:
    """Nodes [2 x (calls + works)]: start of thing i is 2i, its end 2i + 1; host calls come first, then device work.

    `time` [nodes] in ns, `before` [nodes] the node it waited for last, -1 for none, `ahead` [nodes] what was taken off
    the recorded times. `call_row` [calls] are rows of
    the forest, `work` the device rows, `lane` [calls] the thread of each call, `by_launch` [works] whether its launch
    was what work waited for.
    """

    time: Array
    before: Array
    rank: Array
    call_row: Array
    lane: Array
    work: pd.DataFrame
    by_launch: Array
    ahead: Array

    @cached_property
    def lists(self) -> tuple[list[int], list[int]]:
        """Return `before` and `time` as lists: following them costs 50 ns a step instead of 200."""
        return self.before.tolist(), self.time.tolist()

    @property
    def calls(self) -> int:
        """Return the number of host calls."""
        return len(self.call_row)


@dataclass(frozen=True)
class _Things:
    """Runtime calls by thread and start, device work by stream and start, and which call launched which work."""

    row: Array
    lane: Array
    rank: Array
    start: Array
    end: Array
    work: pd.DataFrame
    launcher: Array  # [works] the call, -1 unknown

    @property
    def work_rank(self) -> Array:
        return self.work["rank"].to_numpy().astype(np.int64)


def graph(forest: _calls.Calls, work: pd.DataFrame, waits: pd.DataFrame) -> Graph:
    """Return the graph of all ranks, which are not joined yet; `waits` are the device rows of kind wait."""
    things = _things(forest, work)
    calls, works = len(things.row), len(work)
    time = np.empty(2 * (calls + works), dtype=np.int64)
    time[: 2 * calls : 2], time[1 : 2 * calls : 2] = things.start, things.end
    time[2 * calls :: 2], time[2 * calls + 1 :: 2] = work["start_ns"].to_numpy(), work["end_ns"].to_numpy()
    before = np.arange(len(time)) - 1  # the end of a thing waits for its start
    device, by_launch = _device_before(things, waits)
    before[2 * calls :: 2] = device
    before[: 2 * calls : 2] = _host_before(forest, things)
    blocked = _blocked_on(forest, things, waits)
    stuck = np.flatnonzero(blocked >= 0)
    before[2 * stuck + 1] = 2 * (calls + blocked[stuck]) + 1
    rank = np.repeat(np.concatenate([things.rank, things.work_rank]), 2)
    before = np.where((before >= 0) & (time[before] <= time + SLACK_NS), before, -1)
    return Graph(time, before, rank, things.row, things.lane, work, by_launch, np.zeros(len(time), dtype=np.int64))


def _things(forest: _calls.Calls, work: pd.DataFrame) -> _Things:
    row = np.flatnonzero(forest.of_kind("runtime", "wait"))
    lane = forest.lane[row]
    row = row[segments.ordered(lane, forest.start[row], row)]
    lane = forest.lane[row]
    rank = forest.frame["rank"].to_numpy().astype(np.int64)[row]
    correlation = forest.frame["correlation"].to_numpy()[row]
    wide = int(max(correlation.max(initial=0), work["correlation"].max())) + 2
    key = rank * wide + correlation
    order = np.argsort(key, kind="stable")
    asked = work["rank"].to_numpy().astype(np.int64) * wide + work["correlation"].to_numpy()
    launcher = _calls._find(key[order], order, asked, work["correlation"].to_numpy())
    return _Things(row, lane, rank, forest.start[row], forest.end[row], work, launcher)


def _device_before(things: _Things, waits: pd.DataFrame) -> tuple[Array, Array]:
    """Return, for the start of each work, the node it waited for last, and whether that was its launch."""
    work, calls = things.work, len(things.row)
    lane = _device_rows.lane(work)
    start, end = work["start_ns"].to_numpy(), work["end_ns"].to_numpy()
    same = np.append(False, lane[1:] == lane[:-1])
    source = np.where(same, np.arange(len(work)) - 1, -1)
    freed = np.where(same, np.minimum(np.append(0, end[:-1]), start), np.iinfo(np.int64).min)
    launched = np.where(things.launcher >= 0, things.start[things.launcher] if calls else 0, np.iinfo(np.int64).min)
    other = _event_source(things, waits, lane, np.maximum(freed, launched))
    later = (other >= 0) & (end[other] > freed)
    source, freed = np.where(later, other, source), np.where(later, end[other], freed)
    by_launch = (things.launcher >= 0) & (launched >= freed)
    overlapping = same & (source == np.arange(len(work)) - 1) & (np.append(0, end[:-1]) > start)
    node = np.where(source >= 0, 2 * (calls + source) + np.where(overlapping, 0, 1), -1)
    return np.where(by_launch, 2 * things.launcher, node), by_launch


def _event_source(things: _Things, waits: pd.DataFrame, lane: Array, held: Array) -> Array:
    """Return the work of another stream that ended last before each work that had to wait for an event; -1 for others.

    That is work launched right behind a wait for an event; and, as many profilers do not record such waits, work that
    its own stream and launch kept back no longer (`held` [works] is when they let go) but that began as other work
    ended.
    """
    work = things.work
    start, end = work["start_ns"].to_numpy(), work["end_ns"].to_numpy()
    known = np.zeros(len(work), dtype=bool)
    known[_behind_waits(work, waits)] = True
    hit = np.flatnonzero(known | (start - held > UNEXPLAINED_NS))
    found = np.full(len(work), -1)
    rank = things.work_rank
    by_end = np.lexsort((end, rank))
    last = intervals.position(rank[by_end], end[by_end], rank[hit], start[hit], side="right") - 1
    source = by_end[np.maximum(last, 0)]
    good = (last >= 0) & (rank[source] == rank[hit]) & (lane[source] != lane[hit])
    good &= known[hit] | (start[hit] - end[source] <= UNEXPLAINED_NS)
    found[hit[good]] = source[good]
    return found


def _behind_waits(work: pd.DataFrame, waits: pd.DataFrame) -> Array:
    """Return the rows of work that are the first ones launched on their stream after a recorded wait for an event."""
    named = waits["name"].astype(str).str.contains("Wait Event", regex=False).to_numpy()
    events = waits[named]
    events = events[(events["launch_ns"] >= 0).to_numpy()]
    if not len(events):
        return np.zeros(0, dtype=np.int64)
    both = pd.concat([part[["rank", "device", "stream"]] for part in (work, events)])
    lanes = segments.numbered(*(both[name].to_numpy() for name in both.columns))
    mine, theirs = lanes[: len(work)], lanes[len(work) :]
    launch = work["launch_ns"].to_numpy()
    order = np.lexsort((launch, mine))
    place = intervals.position(mine[order], launch[order], theirs, events["launch_ns"].to_numpy())
    row = order[np.minimum(place, len(work) - 1)]
    return np.asarray(row[(place < len(work)) & (mine[row] == theirs)])


def _host_before(forest: _calls.Calls, things: _Things) -> Array:
    """Return, for the start of each host call, the end of the call before it, perhaps of another thread."""
    count = len(things.row)
    same = np.append(False, things.lane[1:] == things.lane[:-1]) if count else np.zeros(0, dtype=bool)
    nested = np.append(0, things.end[:-1]) > things.start if count else same
    before = np.where(same, 2 * (np.arange(count) - 1) + np.where(nested, 0, 1), -1)
    pauses = _pauses(forest)
    if not count or not len(pauses.lane):
        return before
    place = intervals.position(pauses.lane, pauses.end, things.lane, things.start, side="right") - 1
    safe = np.maximum(place, 0)
    begin, stop = pauses.start[safe], pauses.end[safe]
    paused = (place >= 0) & (pauses.lane[safe] == things.lane)
    previous = np.where(same, np.append(0, things.end[:-1]), np.iinfo(np.int64).min)
    paused &= begin >= previous
    by_end = np.lexsort((things.end, things.rank))
    last = intervals.position(things.rank[by_end], things.end[by_end], things.rank, stop, side="right") - 1
    source = by_end[np.maximum(last, 0)]
    good = paused & (last >= 0) & (things.rank[source] == things.rank) & (things.lane[source] != things.lane)
    good &= things.end[source] > begin
    return np.where(good, 2 * source + 1, before)


def _pauses(forest: _calls.Calls) -> intervals.Spans:
    """Return when each thread recorded no operator and no runtime call for a while: before its first call, too."""
    busy = np.flatnonzero(forest.of_kind("operator", "runtime"))
    if not len(busy):
        nothing = np.zeros(0, dtype=np.int64)
        return intervals.Spans(nothing, nothing, nothing)
    spans = intervals.union(forest.lane[busy], forest.start[busy], forest.end[busy], join_ns=PAUSE_NS)
    first = segments.runs(spans.lane).first
    early = np.full(len(first), int(spans.start.min()) - 1)
    holes = intervals.gaps(spans)
    lane = np.concatenate([spans.lane[first], holes.lane])
    start, end = np.concatenate([early, holes.start]), np.concatenate([spans.start[first], holes.end])
    order = np.lexsort((start, lane))
    return intervals.Spans(lane[order], start[order], end[order])


def _blocked_on(forest: _calls.Calls, things: _Things, waits: pd.DataFrame) -> Array:
    """Return, for each host call, the work that it blocked on; -1 for calls that did not wait."""
    count, work = len(things.row), things.work
    found = np.full(count, -1)
    if not count:
        return found
    rank, end = things.work_rank, work["end_ns"].to_numpy()
    names = forest.frame["name"].array
    syncs = np.array(["synchronize" in name.lower() for name in names.categories] + [False])[names.codes[things.row]]
    call = np.flatnonzero(syncs)
    stream = _synced_stream(forest, things, waits)[call]
    key = segments.numbered(
        np.concatenate([rank, things.rank[call]]), np.concatenate([work["stream"].to_numpy(), stream])
    )
    whole = stream == -1
    for of, asked, chosen in ((rank, things.rank[call], whole), (key[: len(work)], key[len(work) :], ~whole)):
        source = _last_before(of, end, asked[chosen], things.end[call[chosen]])
        found[call[chosen]] = source
    copies = np.flatnonzero((things.launcher >= 0) & (work["kind"] == "memcpy").to_numpy())
    copies = copies[end[copies] <= things.end[things.launcher[copies]]]
    found[things.launcher[copies]] = copies
    waited = (found >= 0) & (end[found] > things.start)
    return np.where(waited, found, -1)


def _synced_stream(forest: _calls.Calls, things: _Things, waits: pd.DataFrame) -> Array:
    """Return the stream that each host call synchronised with, -1 where it is the whole device or not known."""
    stream = np.full(len(things.row), -1)
    of = waits[(waits["stream"] >= 0).to_numpy()] if len(waits) else waits
    if not len(of):
        return stream
    key = {(rank, number): at for rank, number, at in zip(of["rank"], of["correlation"], of["stream"], strict=True)}
    numbers = forest.frame["correlation"].to_numpy()[things.row]
    pairs = zip(things.rank.tolist(), numbers.tolist(), strict=True)
    return np.array([key.get(pair, -1) for pair in pairs], dtype=np.int64)


def _last_before(of: Array, end: Array, asked: Array, moment: Array) -> Array:
    """Return the row of group `asked` that ended last before `moment`, -1 for none."""
    order = np.lexsort((end, of))
    place = intervals.position(of[order], end[order], asked, moment + SLACK_NS, side="right") - 1
    row = order[np.maximum(place, 0)]
    return np.where((place >= 0) & (of[row] == asked), row, -1)
