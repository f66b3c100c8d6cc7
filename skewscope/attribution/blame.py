"""The price list of a recording made of calls: what repairing one rank, stage or cause alone would save per step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from .. import subjects
from ..frames import concat, empty, frame
from ..stats import segments
from ..stats.robust import mad, normal_confidence, sign_confidence
from ..stats.window import LASTING_STEPS, chance_of_hits, present
from .price_series import Excess, Label, PriceSeries
from .pricing import Pricer

Array = np.ndarray[Any, Any]

HEAVY_STAGE = 1.10  # conditions: a stage is out of balance from 1.1 times the median stage
CAUSE_NAMES = {"data": "input", "gc": "gc", "checkpoint": "checkpoint", "compute": "compute"}


@dataclass(frozen=True)
class Repairs:
    """Repairs to price: node durations before and after each, and `labels`, what they repair."""

    labels: list[Label] = field(default_factory=list)
    before: list[Array] = field(default_factory=list)
    after: list[Array] = field(default_factory=list)

    def add(self, before: Array, after: Array, label: Label) -> None:
        """Add one repair."""
        self.labels.append(label)
        self.before.append(before)
        self.after.append(after)


def series(pricer: Pricer, stage_of: Mapping[int, int], slow_ends: Mapping[int, Array]) -> PriceSeries:
    """Return what each repair saves in each step.

    A rank is priced in a job whose other ranks do the usual work (as the source paper adds one worker's durations to
    the ideal): what it alone costs, not what is left when chance picks the next slowest. `slow_ends` maps a rank with a
    slow network end to the factor of each transfer, were it as fast as the others.
    """
    work, now = pricer.work, pricer.graph.duration
    usual = work.peer_median(work.own_ns)
    fair = np.where(np.isfinite(usual), usual, work.own_ns)
    stages = list(_stage_repairs(pricer, stage_of))
    best = pricer.with_own(fair * np.prod([_scale(own, work.own_ns) for _, own, _ in stages], axis=0))
    repairs = Repairs()
    repairs.add(now, np.minimum(best, pricer.with_transfer(_usual_transfer(pricer))), Label("job", "ideal"))
    repairs.add(now, pricer.with_own(np.minimum(fair, work.own_ns)), Label("job", "skew"))
    repairs.add(now, pricer.with_transfer(0.0), Label("job", "transfer"))
    causes = list(_cause_excess(pricer))
    for cause, over in causes:
        if (over > 0).any():
            repairs.add(now, pricer.with_own(np.maximum(work.own_ns - over, 0)), Label("job", cause))
    excess = rank_excess(pricer, usual)
    ranks = excess.candidates(pricer.base_ns)
    _add_ranks(repairs, pricer, ranks, usual, causes, stage_of)
    for stage, own, rate in stages:
        repairs.add(now, pricer.with_own(own), Label("stage", "stage", stage=stage, rate=rate))
    for rank, scale in slow_ends.items():
        label = Label("link", "transfer", rank, stage_of.get(rank, -1))
        repairs.add(now, pricer.with_transfer(scale), label)
    before, after = np.split(pricer.lengths([*repairs.before, *repairs.after]), 2)
    saved = before - after
    begin, end = _bounds(pricer)
    peers = work.peers_count
    compared = {rank: (work.rank == rank) & np.isfinite(usual) for rank in ranks}
    few = [rank for rank in ranks if np.isfinite(excess.ns[np.searchsorted(excess.rank, rank)]).sum() < LASTING_STEPS]
    return PriceSeries(
        pricer.steps, pricer.base_ns, begin, end, repairs.labels, saved, excess,
        {rank: int(np.median(peers[mine])) for rank, mine in compared.items()},
        {rank: _within_step(pricer, rank, usual) for rank in few},
    )  # fmt: skip


def table(prices: PriceSeries, node_of: Mapping[int, str]) -> pd.DataFrame:
    """Return the `blame` table of a series of prices."""
    if not prices.labels:
        return empty("blame")
    listing = _Listing(prices, node_of)
    return concat("blame", [frame("blame", listing.row(place)) for place in range(len(prices.labels))])


def _scale(own: Array, before: Array) -> Array:
    return np.divide(own, before, out=np.ones(len(own)), where=before > 0)


def _add_ranks(
    repairs: Repairs, pricer: Pricer, ranks: list[int], usual: Array, causes: list[tuple[str, Array]],
    stage_of: Mapping[int, int],
) -> None:  # fmt: skip
    """Add the repairs of single ranks: all of its own work, then cause by cause."""
    work = pricer.work
    run_of = np.empty(len(work.rank), dtype=np.int64)
    run_of[work.order] = work.runs.of
    middle = segments.median(work.own_ns[work.order], work.runs)
    for rank in ranks:
        mine, stage = np.flatnonzero(work.rank == rank), stage_of.get(rank, -1)
        without = middle.copy()
        without[run_of[mine]] = usual[mine]
        others = without[run_of]
        others = np.where(np.isfinite(others), others, work.own_ns)
        fair = pricer.with_own(others)
        alone = pricer.changed(fair, mine, work.own_ns[mine])
        repairs.add(alone, fair, Label("rank", "own", rank, stage))
        for cause, excess in causes:
            if (excess[mine] > 0).any():
                own = np.maximum(work.own_ns[mine] - excess[mine], 0)
                repairs.add(alone, pricer.changed(fair, mine, own), Label("rank", cause, rank, stage))


def rank_excess(pricer: Pricer, usual: Array) -> Excess:
    """Return per rank [s]: own work of each step minus what its peers needed, in ns; NaN where it has no peers."""
    work = pricer.work
    known = np.isfinite(usual)
    ranks, lane = segments.levels(work.rank[known])
    cell = lane * len(pricer.steps) + np.searchsorted(pricer.steps, work.step[known])
    shape = (len(ranks), len(pricer.steps))
    sums = np.bincount(cell, (work.own_ns - usual)[known], shape[0] * shape[1])
    seen = np.bincount(cell, minlength=shape[0] * shape[1]) > 0
    own = np.bincount(cell, work.own_ns[known], shape[0] * shape[1])
    return Excess(ranks, np.where(seen, sums, np.nan).reshape(shape), own.reshape(shape))


def _cause_excess(pricer: Pricer) -> Iterator[tuple[str, Array]]:
    """Yield (cause, what of it exceeds the peers [segments]) for each recorded cause."""
    work = pricer.work
    for name, label in CAUSE_NAMES.items():
        spent = work.cause_ns.get(name)
        if spent is not None and spent.any():
            yield label, np.maximum(np.nan_to_num(spent - work.peer_median(spent)), 0)


def _stage_repairs(pricer: Pricer, stage_of: Mapping[int, int]) -> Iterator[tuple[int, Array, float]]:
    """Yield (stage, own work [segments] with its compute at the mean of all stages, its load against the others).

    Only stages that carry at least HEAVY_STAGE times the median stage.
    """
    work = pricer.work
    if not stage_of:
        return
    compute = np.minimum(work.cause_ns["compute"], work.own_ns)
    ranks, of = segments.levels(work.rank)
    stage_of_rank = np.array([stage_of.get(int(rank), -1) for rank in ranks], dtype=np.int64)
    stage = stage_of_rank[of]
    stages = [int(one) for one in np.unique(stage_of_rank) if one >= 0]
    if len(stages) < 2:
        return
    load = {one: float(compute[stage == one].sum()) / int((stage_of_rank == one).sum()) for one in stages}
    mean, middle = float(np.mean(list(load.values()))), float(np.median(list(load.values())))
    for one in stages:
        others = float(np.median([load[other] for other in stages if other != one]))
        if load[one] >= HEAVY_STAGE * max(min(middle, others), 1.0):
            repaired = np.where(stage == one, work.own_ns + compute * (mean / load[one] - 1.0), work.own_ns)
            yield one, repaired, load[one] / max(others, 1.0)


def _usual_transfer(pricer: Pricer) -> Array:
    """Return per transfer node the factor that brings it to the median of all, never above 1."""
    duration = pricer.graph.duration[pricer.graph.transfer]
    if not len(duration):
        return duration
    return np.asarray(np.minimum(1.0, np.median(duration) / np.maximum(duration, 1.0)))


class _Listing:
    """Writes the rows of `blame`: the gain per step, where it is present, how sure it is."""

    def __init__(self, prices: PriceSeries, node_of: Mapping[int, str]) -> None:
        self._prices, self._node_of = prices, node_of
        self._slow = prices.excess.slowest()
        self._slow_ranks = self._slow.sum(axis=0)  # of each step

    def row(self, place: int) -> dict[str, Any]:
        """Return the row of one repair."""
        prices, label, gain = self._prices, self._prices.labels[place], self._prices.saved_ns[place]
        first, last = present(gain, 0.01 * float(np.median(prices.base_ns)))
        inside = slice(first, last + 1) if first >= 0 else slice(0, len(gain))
        lost = max(float(gain[inside].mean()), 0.0)
        length = float(prices.base_ns[inside].mean())
        if label.kind == "rank":
            rate, peers, hits, sure = self._compare(label.rank, inside)
        else:
            peers, hits, sure = -1, np.nan, _certainty(gain[inside])
            rate = label.rate
        there = first >= 0
        return {
            "job": "job", "kind": label.kind, "subject": _subject(label, self._node_of).id, "rank": label.rank,
            "stage": label.stage, "cause": label.cause, "lost_s": lost / 1e9,
            "lost_share_ratio": lost / max(length, 1.0), "rate_ratio": rate, "steps_count": len(gain),
            "first_step": prices.steps[first] if there else -1, "last_step": prices.steps[last] if there else -1,
            "start_ns": int(prices.begin_ns[inside].min()) if there else -1,
            "end_ns": int(prices.end_ns[inside].max()) if there else -1,
            "hit_share_ratio": hits, "confidence_ratio": sure, "peers_count": peers, "model": "calls",
        }  # fmt: skip

    def _compare(self, rank: int, inside: slice) -> tuple[float, int, float, float]:
        """Return (own work against peers, peers, share of steps in which it was slowest, confidence) of one rank."""
        excess = self._prices.excess
        place = int(np.searchsorted(excess.rank, rank))
        ranks = len(excess.rank)
        rate = excess.rate(place)
        peers = self._prices.peers.get(rank, 0)
        seen = np.isfinite(excess.ns[place, inside])
        hits = self._slow[place, inside][seen]
        if len(hits) < 2:
            sure = self._prices.alone.get(rank, 0.0)
            return rate, peers, float(hits.mean()) if len(hits) else float("nan"), sure
        others = int(self._slow_ranks[inside][seen].sum()) - int(hits.sum())
        usual_share = max(1.0 / max(ranks, 2), others / ((ranks - 1) * len(hits)) if ranks > 1 else 0.5)
        chance = chance_of_hits(hits, len(self._prices.steps), usual_share, ranks)
        return rate, peers, float(hits.mean()), 1.0 - chance


def _within_step(pricer: Pricer, rank: int, usual: Array) -> float:
    """Return how sure one single step makes us: the rank's excess against the spread of all ranks' segments."""
    work = pricer.work
    excess = work.own_ns - usual
    known = np.isfinite(excess)
    mine = excess[(work.rank == rank) & known]
    spread = float(mad(excess[known])) if known.any() else 0.0
    if not len(mine) or spread <= 0:
        return 0.0
    return min(sign_confidence(mine) + 0.5, normal_confidence(float(mine.sum()), spread * np.sqrt(len(mine))))


def _certainty(gain: Array) -> float:
    """Return how sure a gain is, from its sign over the steps and its size against its spread."""
    if len(gain) < 3:
        return 0.5
    error = float(mad(gain)) / np.sqrt(len(gain))
    return min(sign_confidence(gain), normal_confidence(float(np.median(gain)), error))


def _subject(label: Label, node_of: Mapping[int, str]) -> subjects.Subject:
    if label.kind in ("rank", "link"):
        return subjects.rank("job", label.rank, node=node_of.get(label.rank, ""), stage=label.stage)
    return subjects.stage("job", label.stage) if label.kind == "stage" else subjects.job("job")


def _bounds(pricer: Pricer) -> tuple[Array, Array]:
    """Return when each step began and ended, [s]."""
    count = len(pricer.steps)
    begin, end = np.full(count, np.iinfo(np.int64).max), np.full(count, np.iinfo(np.int64).min)
    np.minimum.at(begin, pricer.step_of_event, pricer.line.from_ns)
    np.maximum.at(end, pricer.step_of_event, pricer.line.time)
    return begin, end
