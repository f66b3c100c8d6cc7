"""The price list of a recording made of calls: what repairing one rank, stage or cause alone would save per step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .. import subjects
from ..frames import concat, empty, frame
from ..stats.robust import mad, normal_confidence, sign_confidence
from ..stats.window import chance_of_hits, present
from .pricing import Pricer
from .timeline import Timeline

Array = np.ndarray[Any, Any]

NEAR_RATIO = 0.8  # two ranks of one slow host are slow together: the second must not hide behind the first
CANDIDATES = 8  # ranks priced one by one; the others' own work is nowhere near theirs
HEAVY_STAGE = 1.10  # conditions: a stage is out of balance from 1.1 times the median stage
SCREEN_SHARE = 0.01  # ranks whose own work exceeds their peers' by less than this share of the step are not priced
CAUSE_NAMES = {"data": "input", "gc": "gc", "checkpoint": "checkpoint", "compute": "compute"}


@dataclass(frozen=True)
class Repairs:
    """Repairs to price: node durations before and after each, and `labels`, its columns of `blame`."""

    labels: list[dict[str, Any]]
    before: list[Array]
    after: list[Array]

    def add(self, before: Array, after: Array, kind: str, cause: str, rank: int = -1, stage: int = -1,
            rate: float = float("nan")) -> None:  # fmt: skip
        """Add one repair."""
        self.labels.append({"kind": kind, "cause": cause, "rank": rank, "stage": stage, "rate": rate})
        self.before.append(before)
        self.after.append(after)


def price(
    pricer: Pricer, stage_of: Mapping[int, int], node_of: Mapping[int, str], slow_ends: Mapping[int, Array]
) -> tuple[pd.DataFrame, Array]:
    """Return the `blame` table and the ideal step lengths [s] in ns.

    A rank is priced in a job whose other ranks do the usual work (as the source paper adds one worker's durations to
    the ideal): what it alone costs, not what is left when chance picks the next slowest. `slow_ends` maps a rank with a
    slow network end to the factor of each transfer, were it as fast as the others.
    """
    work, now = pricer.work, pricer.graph.duration
    if not len(work.rank):
        return empty("blame"), np.zeros(0)
    usual = work.peer_median(work.own_ns)
    fair = np.where(np.isfinite(usual), usual, work.own_ns)
    stages = {stage: own for stage, own, _ in _stage_repairs(pricer, stage_of)}
    best = pricer.with_own(fair * np.prod([_scale(own, work.own_ns) for own in stages.values()], axis=0))
    repairs = Repairs([], [], [])
    repairs.add(now, np.minimum(best, pricer.with_transfer(_usual_transfer(pricer))), "job", "ideal")
    repairs.add(now, pricer.with_own(np.minimum(fair, work.own_ns)), "job", "skew")
    repairs.add(now, pricer.with_transfer(0.0), "job", "transfer")
    everyone = np.ones(len(work.rank), dtype=bool)
    for cause, own in _cause_repairs(pricer, everyone):
        repairs.add(now, pricer.with_own(own), "job", cause)
    for rank in _candidates(pricer, usual):
        mine, stage = work.rank == rank, stage_of.get(rank, -1)
        others = work.median_without(work.own_ns, rank)
        others = np.where(np.isfinite(others), others, work.own_ns)
        alone = pricer.with_own(np.where(mine, work.own_ns, others))
        repairs.add(alone, pricer.with_own(others), "rank", "own", rank, stage)
        for cause, own in _cause_repairs(pricer, mine):
            repairs.add(alone, pricer.with_own(np.where(mine, own, others)), "rank", cause, rank, stage)
    for stage, own, rate in _stage_repairs(pricer, stage_of):
        repairs.add(now, pricer.with_own(own), "stage", "stage", stage=stage, rate=rate)
    for rank, scale in slow_ends.items():
        repairs.add(now, pricer.with_transfer(scale), "link", "transfer", rank, stage_of.get(rank, -1))
    saved = pricer.lengths(repairs.before) - pricer.lengths(repairs.after)
    rows = [_row(pricer, label, gain, usual, node_of) for label, gain in zip(repairs.labels, saved, strict=True)]
    return concat("blame", [frame("blame", row) for row in rows]), pricer.base_ns - saved[0]


def _scale(own: Array, before: Array) -> Array:
    return np.divide(own, before, out=np.ones(len(own)), where=before > 0)


def _candidates(pricer: Pricer, usual: Array) -> list[int]:
    """Return the ranks worth pricing: those whose own work exceeds their peers' most, in the median step."""
    excess = rank_excess(pricer, usual)
    floor = SCREEN_SHARE * float(np.median(pricer.base_ns))
    typical = {rank: float(np.nanquantile(series, 0.75)) for rank, series in excess.items()}
    worst = sorted((rank for rank in typical if typical[rank] > floor), key=lambda rank: -typical[rank])
    return worst[:CANDIDATES]


def rank_excess(pricer: Pricer, usual: Array) -> dict[int, Array]:
    """Return per rank [s]: own work of each step minus what its peers needed, in ns; NaN where it has no peers."""
    work = pricer.work
    step = np.searchsorted(pricer.steps, work.step)
    known = np.isfinite(usual)
    ranks, lane = np.unique(work.rank, return_inverse=True)
    shape = (len(ranks), len(pricer.steps))
    sums = np.zeros(shape)
    np.add.at(sums, (lane[known], step[known]), (work.own_ns - usual)[known])
    seen = np.zeros(shape, dtype=bool)
    seen[lane[known], step[known]] = True
    return {int(rank): np.where(seen[row], sums[row], np.nan) for row, rank in enumerate(ranks) if seen[row].any()}


def _cause_repairs(pricer: Pricer, who: Array) -> Iterator[tuple[str, Array]]:
    """Yield (cause, own work [segments] with that cause's excess over the peers taken out) for the segments `who`."""
    work = pricer.work
    for name, label in CAUSE_NAMES.items():
        spent = work.cause_ns.get(name)
        if spent is None or not spent[who].any():
            continue
        excess = np.nan_to_num(spent - work.peer_median(spent))
        if (excess[who] > 0).any():
            yield label, np.where(who, np.maximum(work.own_ns - np.maximum(excess, 0), 0), work.own_ns)


def _stage_repairs(pricer: Pricer, stage_of: Mapping[int, int]) -> Iterator[tuple[int, Array, float]]:
    """Yield (stage, own work [segments] with its compute at the mean of all stages, its load against the others).

    Only stages that carry at least HEAVY_STAGE times the median stage.
    """
    work = pricer.work
    if not stage_of:
        return
    compute = np.minimum(work.cause_ns["compute"], work.own_ns)
    ranks, of = np.unique(work.rank, return_inverse=True)
    stage = np.array([stage_of.get(int(rank), -1) for rank in ranks])[of]
    stages = [int(one) for one in np.unique(stage) if one >= 0]
    if len(stages) < 2:
        return
    load = {one: float(compute[stage == one].sum()) / len(np.unique(work.rank[stage == one])) for one in stages}
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


def _row(
    pricer: Pricer, label: dict[str, Any], gain: Array, usual: Array, node_of: Mapping[int, str]
) -> dict[str, Any]:
    """Return one row of `blame`: the gain per step, where it is present, how sure it is."""
    rank = label["rank"]
    first, last = present(gain, 0.01 * float(np.median(pricer.base_ns)))
    inside = slice(first, last + 1) if first >= 0 else slice(0, len(gain))
    lost = max(float(gain[inside].mean()), 0.0)
    length = float(pricer.base_ns[inside].mean())
    if label["kind"] == "rank":
        rate, peers, hits, sure = _compare(pricer, rank, usual, inside)
    else:
        peers, hits, sure = -1, np.nan, _certainty(gain[inside])
        rate = label["rate"]
    start, end = _bounds(pricer.line, pricer, first, last)
    return {
        "job": "job", "kind": label["kind"], "subject": _subject(label, node_of).id, "rank": rank,
        "stage": label["stage"], "cause": label["cause"], "lost_s": lost / 1e9,
        "lost_share_ratio": lost / max(length, 1.0), "rate_ratio": rate, "steps_count": len(gain),
        "first_step": pricer.steps[first] if first >= 0 else -1,
        "last_step": pricer.steps[last] if first >= 0 else -1, "start_ns": start, "end_ns": end,
        "hit_share_ratio": hits, "confidence_ratio": sure, "peers_count": peers, "model": "calls",
    }  # fmt: skip


def _compare(pricer: Pricer, rank: int, usual: Array, inside: slice) -> tuple[float, int, float, float]:
    """Return (own work against peers, peers, share of steps in which it was slowest, confidence) of one rank."""
    work = pricer.work
    mine = (work.rank == rank) & np.isfinite(usual)
    excess = rank_excess(pricer, usual)
    if not mine.any() or rank not in excess:
        return float("nan"), 0, float("nan"), 0.0
    rate = float(work.own_ns[mine].sum() / max(usual[mine].sum(), 1.0))
    peers = int(np.median(work.peers_count[mine]))
    table = np.array(list(excess.values()))[:, inside]
    own = table[list(excess).index(rank)]
    seen = np.isfinite(own)
    slow = among_slowest(table[:, seen])
    place = list(excess).index(rank)
    hits = slow[place]
    if len(hits) < 2:
        return rate, peers, float(hits.mean()) if len(hits) else float("nan"), _within_step(pricer, rank, usual)
    usual_share = max(1.0 / max(len(excess), 2), float(np.delete(slow, place, axis=0).mean()) if len(slow) > 1 else 0.5)
    chance = chance_of_hits(hits, len(pricer.steps), usual_share, len(excess))
    return rate, peers, float(hits.mean()), 1.0 - chance


def among_slowest(excess: Array) -> Array:
    """Return which of [ranks, steps] stand within NEAR_RATIO of the step's largest excess: a slow rank, or a slow pair.

    >>> among_slowest(np.array([[50.0, 1.0], [48.0, -2.0], [2.0, 9.0]])).tolist()
    [[True, False], [True, False], [False, True]]
    """
    most = np.nanmax(excess, axis=0, initial=0.0)
    return np.asarray((excess >= NEAR_RATIO * most) & (excess > 0))


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


def _subject(label: dict[str, Any], node_of: Mapping[int, str]) -> subjects.Subject:
    rank, stage = label["rank"], label["stage"]
    if label["kind"] in ("rank", "link"):
        return subjects.rank("job", rank, node=node_of.get(rank, ""), stage=stage)
    return subjects.stage("job", stage) if label["kind"] == "stage" else subjects.job("job")


def _bounds(line: Timeline, pricer: Pricer, first: int, last: int) -> tuple[int, int]:
    """Return when the steps from `first` to `last` (places) began and ended."""
    if first < 0:
        return -1, -1
    inside = (pricer.step_of_event >= first) & (pricer.step_of_event <= last)
    return int(line.from_ns[inside].min()), int(line.time[inside].max())
