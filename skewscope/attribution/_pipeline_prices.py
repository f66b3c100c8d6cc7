"""The price list of an operation-level trace: what repairing one cause alone would save per step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .. import subjects
from ..frames import frame
from ..stats.robust import binomial_tail, mad, normal_confidence, sign_confidence
from ._pipeline_bench import COMMUNICATION, Bench, Repair, Scenario
from ._pipeline_links import COMPUTE
from ._pipeline_verdict import Limits, Verdict, hits, window, worker_repairs
from ._pipeline_work import Work, pass_ratios

Array = np.ndarray[Any, Any]

CANDIDATES = 16  # workers and replicas priced one by one; the others' compute is nowhere near theirs
NOISE_SHARE = 0.01  # of the step: a gain below it is not an effect


@dataclass(frozen=True)
class _Item:
    """One line of the price list: the gain is the length under `before` minus that under `after`."""

    kind: str
    cause: str
    before: Scenario
    after: Scenario
    stage: int = -1
    replica: int = -1


@dataclass(frozen=True)
class Priced:
    """What the rows need: the bench, the spread of work, the verdict, limits, measured lengths [S] in ns."""

    bench: Bench
    work: Work
    verdict: Verdict
    limits: Limits
    base_ns: Array
    loss_ns: Array


def blame(given: Priced) -> pd.DataFrame:
    """Return the `blame` table: job, kinds of operation, stages, replicas and workers.

    Each is repaired alone, with three exceptions. A worker is priced with the other slow workers repaired (of two
    equally slow ones neither saves anything alone). The spread between microbatches ("sequence", or "skew" where it is
    not that) is priced with the slow workers repaired, and a heavy stage ("stage", all stages brought to their mean
    load) with the spread repaired too, which would hide it. "rest" is the part of the loss that these, the transfers
    and garbage collection do not explain; "ideal" is the whole loss.
    """
    items = _items(given)
    scenarios = list(dict.fromkeys(scenario for item in items for scenario in (item.before, item.after)))
    length = dict(zip(scenarios, given.bench.lengths(scenarios), strict=True))
    gains = [length[item.before] - length[item.after] for item in items]
    rows = [_row(given, item, gain) for item, gain in zip(items, gains, strict=True)]
    main = [gain for item, gain in zip(items, gains, strict=True) if _counts(given.verdict, item)]
    fixed = length[Scenario()] - length[Scenario(worker_repairs(given.verdict.slow))]
    explained = sum((np.maximum(gain, 0.0).mean() for gain in main), start=max(float(fixed.mean()), 0.0))
    rest = np.full(len(given.loss_ns), max(float(given.loss_ns.mean()) - explained, 0.0))
    still = Scenario()
    rows.append(_row(given, _Item("job", "rest", still, still), rest))
    rows.append(_row(given, _Item("job", "ideal", still, still), given.loss_ns))
    rows += [{**row, "cause": "own"} for row in rows if row["kind"] == "rank"]
    return frame("blame", {name: [row[name] for row in rows] for name in rows[0]})


def _counts(verdict: Verdict, item: _Item) -> bool:
    """Return whether the gain of an item is one of the causes that together explain the loss."""
    if item.kind == "op":
        return item.cause in COMMUNICATION
    if item.cause == "stage":
        return verdict.heavy_stage >= 0
    return item.cause in ("sequence", "skew", "gc")


def _items(given: Priced) -> list[_Item]:
    verdict, now = given.verdict, Scenario()
    mended = worker_repairs(verdict.slow)
    fixed = Scenario(mended)
    kinds = given.bench.pipelines[0].lattice.kinds
    items = [_Item("op", kind, now, Scenario((Repair("ideal", (kind,)),))) for kind in kinds if kind != "gc"]
    items.append(_Item("job", "compute", now, Scenario((Repair("ideal", COMPUTE),))))
    if "gc" in kinds:
        items.append(_Item("job", "gc", now, Scenario((Repair("none", ("gc",)),))))
    spread = "sequence" if verdict.sequence else "skew"
    items.append(_Item("job", spread, fixed, Scenario((Repair("even", COMPUTE), *mended))))
    stages, replicas = given.work.rank.shape
    if stages > 1:
        items += [_Item("stage", "compute", now, Scenario((Repair("ideal", stage=one),)), one) for one in range(stages)]
    if verdict.heaviest_stage >= 0 and stages > 1:
        evened = Scenario((Repair("even", COMPUTE), *mended))
        balanced = Scenario((Repair("balanced", COMPUTE), *mended))
        items.append(_Item("stage", "stage", evened, balanced, verdict.heaviest_stage))
    if replicas > 1:
        items += [
            _Item("replica", "compute", now, Scenario((Repair("ideal", replica=one),)), replica=one)
            for one in _largest(np.nanmean(given.work.compute_ns, axis=(0, 2)))
        ]
    for stage, replica in _workers(given):
        others = worker_repairs([one for one in verdict.slow if one != (stage, replica)])
        after = Scenario((*others, *worker_repairs([(stage, replica)])))
        items.append(_Item("rank", "compute", Scenario(others), after, stage, replica))
    return items


def _workers(given: Priced) -> list[tuple[int, int]]:
    """Return the workers to price: the slow ones, and those whose compute exceeds their peers' most."""
    ratio = given.work.ratio
    seen = np.isfinite(ratio)
    excess = np.where(seen, (1.0 - 1.0 / np.where(seen, ratio, 1.0)) * np.nan_to_num(given.work.compute_ns), 0.0)
    mean = np.where((given.work.rank >= 0), excess.mean(axis=2), -np.inf)
    if given.work.rank.shape[1] == 1:
        return []
    order = [np.unravel_index(one, mean.shape) for one in _largest(mean.ravel()) if np.isfinite(mean.ravel()[one])]
    chosen = [(int(stage), int(replica)) for stage, replica in order]
    return list(dict.fromkeys([*given.verdict.slow, *chosen]))


def _largest(values: Array) -> list[int]:
    """Return the places of the largest values, at most CANDIDATES, largest first."""
    order = np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")
    return [int(one) for one in order[:CANDIDATES]]


def _row(given: Priced, item: _Item, gain: Array) -> dict[str, Any]:
    """Return one row of `blame`: the gain per step, where it is present, how sure it is."""
    noise = NOISE_SHARE * float(np.median(given.base_ns))
    inside = window(gain, noise, given.limits)
    there = float(gain.max(initial=0.0)) > noise
    steps = given.bench.steps[inside]
    lost = max(float(gain[inside].mean()), 0.0)
    start, end = _bounds(given, steps) if there else (-1, -1)
    rate, peers, hit, sure = _compared(given, item, gain, inside)
    subject = _subject(given, item)
    return {
        "job": "job", "kind": "group" if item.kind == "replica" else item.kind, "subject": subject.id,
        "rank": subject.rank, "stage": item.stage, "cause": item.cause, "lost_s": lost / 1e9,
        "lost_share_ratio": lost / max(float(given.base_ns[inside].mean()), 1.0), "rate_ratio": rate,
        "steps_count": len(gain), "first_step": int(steps[0]) if there else -1,
        "last_step": int(steps[-1]) if there else -1, "start_ns": start, "end_ns": end, "hit_share_ratio": hit,
        "confidence_ratio": sure, "peers_count": peers, "model": "ops",
    }  # fmt: skip


def _compared(given: Priced, item: _Item, gain: Array, inside: slice) -> tuple[float, int, float, float]:
    """Return (work against peers, peers, share of steps in which it was the slowest, confidence) of a row."""
    nan, sure = float("nan"), certainty(gain[inside])
    verdict = given.verdict
    if item.kind == "rank":
        return _worker(given, item, inside)
    if item.kind == "stage":
        rate = float(verdict.stage_rate_ratio[item.stage]) if verdict.heaviest_stage >= 0 else nan
        sure = min(sure, verdict.stage_confidence_ratio) if item.cause == "stage" else sure
        return rate, given.work.rank.shape[0] - 1, nan, sure
    if item.kind == "replica":
        level = np.nansum(given.work.compute_ns[:, :, inside], axis=(0, 2))
        others = float(np.median(np.delete(level, item.replica)))
        return float(level[item.replica]) / max(others, 1.0), len(level) - 1, nan, sure
    if item.cause == "sequence":
        return nan, given.work.rank.shape[1] - 1, verdict.top_share_ratio, min(sure, verdict.sequence_confidence_ratio)
    return nan, -1, nan, sure


def _worker(given: Priced, item: _Item, inside: slice) -> tuple[float, int, float, float]:
    work = given.work
    ratio = work.ratio[item.stage, item.replica, inside]
    ratio = ratio[np.isfinite(ratio)]
    peers = int(work.peers[item.stage])
    if not len(ratio) or peers < 1:
        return float("nan"), peers, float("nan"), 0.0
    hit = hits(work, item.stage, item.replica, given.verdict.slow)[inside]
    workers = int((work.rank >= 0).sum())
    if len(ratio) < given.limits.fewest_steps_count:
        passes = np.log(pass_ratios(given.bench, item.stage, item.replica, given.verdict.slow))
        sure = max(1.0 - (1.0 - certainty(passes)) * workers, 0.0)
        return float(np.median(ratio)), peers, float(hit.mean()), sure
    chance = binomial_tail(int(hit.sum()), len(hit), 1.0 / (peers + 1)) * workers
    excess = np.log(ratio)
    spread = float(mad(excess)) / float(np.sqrt(len(excess)))
    sure = min(max(1.0 - chance, 0.0), normal_confidence(float(np.median(excess)), spread))
    return float(np.median(ratio)), peers, float(hit.mean()), sure


def certainty(gain: Array) -> float:
    """Return how sure it is that a gain [S] is above zero: its sign over the steps, its size against its spread.

    >>> certainty(np.array([3.0, 3.1, 2.9, 3.0, 3.2])) > 0.9
    True
    """
    if len(gain) < 3:
        return 0.5 if gain.any() else 0.0
    error = float(mad(gain)) / float(np.sqrt(len(gain)))
    return min(sign_confidence(gain), normal_confidence(float(np.median(gain)), error))


def _subject(given: Priced, item: _Item) -> subjects.Subject:
    if item.kind == "rank":
        return subjects.rank("job", int(given.work.rank[item.stage, item.replica]), stage=item.stage)
    if item.kind == "stage":
        ranks = given.work.rank[item.stage]
        alone = int(ranks.max()) if (ranks >= 0).sum() == 1 else -1
        return subjects.stage("job", item.stage, rank=alone)
    if item.kind == "replica":
        return subjects.group("job", f"dp{item.replica}")
    return subjects.job("job")


def _bounds(given: Priced, steps: Array) -> tuple[int, int]:
    """Return when the first of `steps` began and the last one ended, Unix epoch in ns."""
    first, last = [], []
    for pipeline in given.bench.pipelines:
        lattice = pipeline.lattice
        inside = (lattice.step >= steps[0]) & (lattice.step <= steps[-1])
        if inside.any():
            first.append(int(lattice.origin[inside].min()))
            ends = lattice.origin[inside] + np.nanmax(lattice.end[:, :, inside], axis=(0, 1))
            last.append(int(ends.max()))
    return min(first), max(last)
