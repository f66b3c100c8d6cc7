"""One clock for all ranks: offsets and drifts estimated from collectives, whose members end together.

A synchronising collective completes on all members within a transfer's tail, so the differences of their end times are
clock differences plus noise. Medians over many calls give the offset, their spread its uncertainty. An offset that
does not stand out from that noise, or from the tail of the transfers themselves (a ring over a slow link ends at
different times too), is not applied: it becomes the uncertainty of the clock instead.
Ranks that only exchange messages, as in a pipeline, are timed both ways instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ..frames import frame
from ..stats import segments
from ..stats.robust import MAD_TO_SIGMA
from .calls import SYNCHRONISING, Calls

Array = np.ndarray[Any, Any]

SIGNIFICANT = 5.0  # offsets below this many standard errors are noise
BEYOND_NOISE = 3.0  # and below this many spreads of one end time they are how the algorithm ends, not the clock
FEWEST_CALLS = 5
FEWEST_FOR_DRIFT = 30
ROUNDS = 12
MESSAGE_DOUBTS = 3.0  # an offset from messages must exceed so many of its error bounds
LEAST_MESSAGE_NS = 1e6
ASSUMED_NS = 1e6  # hosts without evidence: what NTP keeps on a quiet network


@dataclass(frozen=True)
class Alignment:
    """Per rank (sorted `rank` [r]): `offset_ns`, `drift` (ns per ns) about `pivot_ns`, `uncertainty_ns`, `aligned`."""

    rank: Array
    offset_ns: Array
    drift: Array
    uncertainty_ns: Array
    aligned: Array
    pairs: Array
    pivot_ns: int

    def shift(self, rank: Array, time_ns: Array) -> Array:
        """Return what to add to `time_ns` of `rank` (both [n]) to be on the common clock, int64 ns."""
        place = np.clip(np.searchsorted(self.rank, rank), 0, max(len(self.rank) - 1, 0))
        known = self.rank[place] == rank if len(self.rank) else np.zeros(len(rank), dtype=bool)
        if not known.any():
            return np.zeros(len(rank), dtype=np.int64)
        late = self.offset_ns[place] + self.drift[place] * (time_ns - self.pivot_ns)
        return np.where(known & self.aligned[place], -np.rint(late), 0).astype(np.int64)

    def uncertainty_of(self, rank: Array) -> Array:
        """Return the clock uncertainty in ns for each rank of [n]; ASSUMED_NS where nothing is known."""
        if not len(self.rank):
            return np.full(len(rank), ASSUMED_NS)
        place = np.clip(np.searchsorted(self.rank, rank), 0, len(self.rank) - 1)
        known = (self.rank[place] == rank) & np.isfinite(self.uncertainty_ns[place])
        return np.where(known, self.uncertainty_ns[place], ASSUMED_NS)


def align(collectives: pd.DataFrame, calls: Calls, node_of: dict[int, str]) -> Alignment:
    """Return the alignment of the ranks' clocks from the end times of `calls`; `node_of` maps rank to host."""
    ranks = np.unique(calls.rank)
    found = _from_collectives(collectives, calls, ranks, node_of)
    if (found.pairs > 0).all():
        return found
    return _from_messages(collectives, calls, found)


def _from_collectives(collectives: pd.DataFrame, calls: Calls, ranks: Array, node_of: dict[int, str]) -> Alignment:
    """Return the alignment from calls whose members end together; ranks without any keep offset 0, unknown."""
    use = (calls.end >= 0) & np.asarray(collectives["op"].isin(SYNCHRONISING))[calls.row]
    enough = segments.total(use.astype(np.int64), calls.runs)[calls.runs.of] > 1 if len(calls.row) else use
    rows = np.flatnonzero(use & enough)
    pivot = int(np.median(calls.end[rows])) if len(rows) else 0
    if not len(rows):
        unknown = np.full(len(ranks), np.nan)
        none = np.zeros(len(ranks))
        return Alignment(ranks, none, none, unknown, none.astype(bool), none.astype(np.int64), pivot)
    over = segments.runs(calls.runs.of[rows])
    dense = np.searchsorted(ranks, calls.rank[rows])
    offset, spread = _offsets(calls.end[rows] - pivot, dense, over, len(ranks))
    offset = _same_on_a_node(offset, spread, [node_of.get(int(rank), "") for rank in ranks])
    drift = _drifts(calls.end[rows] - pivot, dense, over, offset)
    pairs = np.bincount(dense, minlength=len(ranks))
    error = MAD_TO_SIGMA * spread / np.sqrt(np.maximum(pairs, 1))
    size = np.abs(offset)
    clear = (size > SIGNIFICANT * error) & (size > BEYOND_NOISE * spread) & (pairs >= FEWEST_CALLS)
    clear &= size > _tail(calls, rows)
    return Alignment(ranks, offset, np.where(clear, drift, 0.0), np.where(clear, error, size), clear, pairs, pivot)


def _from_messages(collectives: pd.DataFrame, calls: Calls, found: Alignment) -> Alignment:
    """Return the alignment with ranks that only exchange messages added: two-way timing, as network time does it.

    The fastest message each way takes the latency plus or minus the offset; half their difference is the offset, half
    their sum bounds its error. Ranks are chained from a known one (else the lowest) along the most certain pairs.
    """
    messages = _fastest(collectives, calls)
    offset = dict(zip(found.rank.tolist(), found.offset_ns.tolist(), strict=True))
    known = {int(rank): 0.0 for rank in found.rank[found.pairs > 0]}
    if not known and len(messages):
        known = {int(messages["src"].min()): 0.0}
    back = messages.rename(columns={"src": "dst", "dst": "src", "delay": "back"})[["src", "dst", "back"]]
    both = messages.merge(back, on=["src", "dst"]).assign(error=lambda pair: (pair["delay"] + pair["back"]) / 2)
    counted = dict.fromkeys(known, 0)
    ordered = sorted(both.to_dict("records"), key=lambda pair: pair["error"])
    reached = -1
    while reached < len(known) < len(found.rank):
        reached = len(known)
        for pair in ordered:
            src, dst = int(pair["src"]), int(pair["dst"])
            if src in known and dst not in known:
                offset[dst] = offset[src] + (pair["delay"] - pair["back"]) / 2
                known[dst], counted[dst] = known[src] + abs(pair["error"]), int(pair["count"])
    added = np.array([found.pairs[at] == 0 and int(rank) in known for at, rank in enumerate(found.rank)])
    moved = np.array([offset[int(rank)] for rank in found.rank])
    doubt = np.array([known.get(int(rank), np.nan) for rank in found.rank])
    clear = added & (np.abs(moved) > MESSAGE_DOUBTS * doubt) & (np.abs(moved) > LEAST_MESSAGE_NS)
    return replace(
        found, offset_ns=np.where(added, moved, found.offset_ns), aligned=found.aligned | clear,
        uncertainty_ns=np.where(added, np.where(clear, doubt, np.maximum(doubt, np.abs(moved))), found.uncertainty_ns),
        pairs=np.where(added, [counted.get(int(rank), 0) for rank in found.rank], found.pairs),
    )  # fmt: skip


def _fastest(collectives: pd.DataFrame, calls: Calls) -> pd.DataFrame:
    """Return per ordered pair of ranks the shortest time from send to received, ns, and the number of messages."""
    sent, got = (np.flatnonzero(np.asarray(collectives["op"] == op)[calls.row]) for op in ("send", "recv"))
    got = got[calls.end[got] >= 0]
    begin = pd.DataFrame({"call": calls.runs.of[sent], "src": calls.rank[sent], "sent": calls.ready[sent]})
    finish = pd.DataFrame({"call": calls.runs.of[got], "dst": calls.rank[got], "got": calls.end[got]})
    joined = begin.merge(finish, on="call")
    joined["delay"] = (joined["got"] - joined["sent"]).astype(float)
    fastest = joined.groupby(["src", "dst"], as_index=False).agg(delay=("delay", "min"), count=("delay", "size"))
    return pd.DataFrame(fastest)


def table(alignment: Alignment, node_of: dict[int, str]) -> pd.DataFrame:
    """Return the `clocks` table: one row per node, or per rank where the node is not known."""
    names = [node_of.get(int(rank), "") or f"rank{rank}" for rank in alignment.rank]
    first = {name: index for index, name in reversed(list(enumerate(names)))}
    keep = sorted(first.values())
    return frame("clocks", {
        "job": "job", "node": [names[index] for index in keep], "offset_ns": alignment.offset_ns[keep],
        "drift_ppm": alignment.drift[keep] * 1e6, "uncertainty_ns": alignment.uncertainty_ns[keep],
        "pairs_count": alignment.pairs[keep], "aligned": alignment.aligned[keep],
    })  # fmt: skip


def _tail(calls: Calls, rows: Array) -> float:
    """Return how far apart members may end for want of bandwidth: half of the usual shortest stay in a call, ns."""
    stay = calls.duration[rows].astype(float)
    stay = stay[stay >= 0]
    if not len(stay):
        return 0.0
    over = segments.runs(calls.runs.of[rows][calls.duration[rows] >= 0])
    return float(np.median(segments.minimum(stay, over))) / 2


def _offsets(end: Array, rank: Array, over: segments.Runs, ranks: int) -> tuple[Array, Array]:
    """Return per rank the median deviation of its end times from its calls' medians, and the spread around it.

    The step is repeated, because ranks that never meet in one call (pipelines) are tied only through others.
    """
    by_rank = np.argsort(rank, kind="stable")
    lanes = segments.runs(rank[by_rank])
    offset = np.zeros(ranks)
    left = end.astype(float)
    for _ in range(ROUNDS):
        left = end - offset[rank]
        off_call = left - segments.median(left, over)[over.of]
        step = segments.median(off_call[by_rank], lanes)
        offset[rank[by_rank][lanes.first]] += step
        if np.abs(step).max() < 1.0:
            break
    left = end - offset[rank]
    off_call = np.abs(left - segments.median(left, over)[over.of])
    spread = np.full(ranks, np.nan)
    spread[rank[by_rank][lanes.first]] = segments.median(off_call[by_rank], lanes)
    return offset, spread


def _same_on_a_node(offset: Array, spread: Array, nodes: list[str]) -> Array:
    """Return offsets with the ranks of one host pooled, unless they contradict each other."""
    pooled = offset.copy()
    codes, names = pd.factorize(np.array(nodes, dtype=object))
    for mine in np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes, minlength=len(names)))[:-1]):
        if not len(mine) or not nodes[mine[0]]:
            continue
        middle = float(np.median(offset[mine]))
        if np.all(np.abs(offset[mine] - middle) <= SIGNIFICANT * np.nan_to_num(spread[mine])):
            pooled[mine] = middle
    return pooled


def _drifts(end: Array, rank: Array, over: segments.Runs, offset: Array) -> Array:
    """Return per rank the slope of its deviation over time: medians of the first and last third, compared."""
    left = end - offset[rank]
    off_call = left - segments.median(left, over)[over.of]
    drift = np.zeros(len(offset))
    low, high = np.quantile(end, [1 / 3, 2 / 3])
    early, late = (_middles(rank, off_call, end, picked) for picked in (end <= low, end >= high))
    both = np.intersect1d(early.rank, late.rank)
    early, late = early.of(both), late.of(both)
    change = late.off - early.off
    clear = (early.count * 3 >= FEWEST_FOR_DRIFT) & (late.count * 3 >= FEWEST_FOR_DRIFT)
    clear &= np.abs(change) > SIGNIFICANT * MAD_TO_SIGMA * late.spread / np.sqrt(late.count)
    drift[both[clear]] = (change / np.where(clear, late.end - early.end, 1.0))[clear]
    return drift


@dataclass(frozen=True)
class _Middles:
    """Medians of a third of the recording, per rank: deviation, its spread, time, and rows."""

    rank: Array
    off: Array
    spread: Array
    end: Array
    count: Array

    def of(self, ranks: Array) -> _Middles:
        """Return those of some ranks, which must be there."""
        place = np.searchsorted(self.rank, ranks)
        return _Middles(ranks, self.off[place], self.spread[place], self.end[place], self.count[place])


def _middles(rank: Array, off_call: Array, end: Array, picked: Array) -> _Middles:
    rows = np.flatnonzero(picked)
    rows = rows[np.argsort(rank[rows], kind="stable")]
    lanes = segments.runs(rank[rows])
    off = segments.median(off_call[rows], lanes)
    spread = segments.median(np.abs(off_call[rows] - off[lanes.of]), lanes)
    return _Middles(rank[rows][lanes.first], off, spread, segments.median(end[rows].astype(float), lanes), lanes.size)
