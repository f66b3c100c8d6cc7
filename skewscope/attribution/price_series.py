"""Prices step by step: what each repair saves in each step, and how far each rank is from its peers.

This is all that the price list is written from, so a recording may be priced in parts, range of steps by range of
steps, and the parts joined: the list is the one that the whole recording gives. Ranks are priced one by one only where
they stand out; a rank that stands out in some parts is worth in the others what its excess was worth where it was
priced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..stats.robust import mad

Array = np.ndarray[Any, Any]

CANDIDATES = 8  # ranks priced one by one; the others' own work is nowhere near theirs
SCREEN_SHARE = 0.01  # ranks whose own work exceeds their peers' by less than this share of the step are not priced
MANY_RANKS = 64  # from here on chance alone makes some ranks exceed the others by so much,
APART_SIGMA = 5.0  # and a candidate must stand apart from them by this many robust deviations
NEAR_RATIO = 0.8  # two ranks of one slow host are slow together: the second must not hide behind the first
KINDS = ("job", "rank", "stage", "link")
CAUSES = ("ideal", "skew", "transfer", "own", "input", "gc", "checkpoint", "compute", "stage")


@dataclass(frozen=True)
class Label:
    """What a repair is of; `rate` is a stage's load against the others."""

    kind: str
    cause: str
    rank: int = -1
    stage: int = -1
    rate: float = float("nan")

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What makes it the same repair in another part."""
        return self.kind, self.cause, self.rank, self.stage


@dataclass(frozen=True)
class Excess:
    """Own work of each step minus what the peers needed: `ns` [ranks, steps], NaN where a rank has no peers then.

    `own_ns` [ranks, steps] is the own work that was compared.
    """

    rank: Array
    ns: Array
    own_ns: Array

    def rate(self, place: int) -> float:
        """Return the own work of one rank over what its peers needed."""
        own = float(self.own_ns[place].sum(dtype=float))
        return own / max(own - float(np.nansum(self.ns[place], dtype=float)), 1.0)

    def only(self, steps: Array) -> Excess:
        """Return the same of some steps, a mask [steps]."""
        return Excess(self.rank, self.ns[:, steps], self.own_ns[:, steps])

    def narrow(self) -> Excess:
        """Return the same in 4 bytes a number."""
        return Excess(self.rank, self.ns.astype(np.float32), self.own_ns.astype(np.float32))

    def candidates(self, base_ns: Array) -> list[int]:
        """Return the ranks worth pricing: those whose own work exceeds their peers' most, in the median step.

        Among many ranks they must stand apart from the spread of all.

        >>> many = np.repeat(np.linspace(-1.0, 1.0, 100)[:, None], 4, axis=1) * 1e6
        >>> many[7] = 9e6
        >>> Excess(np.arange(100), many, many).candidates(np.full(4, 1e7))
        [7]
        """
        if not len(self.rank):
            return []
        floor = SCREEN_SHARE * float(np.median(base_ns))
        whole = not np.isnan(self.ns).any()
        typical = (np.quantile if whole else np.nanquantile)(self.ns, 0.75, axis=1)
        if len(typical) >= MANY_RANKS:
            floor = max(floor, float(np.median(typical)) + APART_SIGMA * float(mad(typical)))
        worst = np.lexsort((np.arange(len(typical)), -typical))
        return [int(self.rank[place]) for place in worst[:CANDIDATES] if typical[place] > floor]

    def slowest(self) -> Array:
        """Return which of [ranks, steps] stand within NEAR_RATIO of the step's largest excess.

        >>> two = np.array([[50.0, 1.0], [48.0, -2.0], [2.0, 9.0]])
        >>> Excess(np.arange(3), two, two).slowest().tolist()
        [[True, False], [True, False], [False, True]]
        """
        most = np.nanmax(self.ns, axis=0, initial=0.0)
        return np.asarray((self.ns >= NEAR_RATIO * most) & (self.ns > 0))


@dataclass(frozen=True)
class PriceSeries:
    """`steps`, their replayed lengths `base_ns`, when they began and ended, all [s]; `saved_ns` [labels, s].

    `peers` and `alone` map priced ranks to their number of peers and to how sure one single step makes us.
    """

    steps: Array
    base_ns: Array
    begin_ns: Array
    end_ns: Array
    labels: list[Label]
    saved_ns: Array
    excess: Excess
    peers: dict[int, int] = field(default_factory=dict)
    alone: dict[int, float] = field(default_factory=dict)

    @property
    def ideal_ns(self) -> Array:
        """Lengths of the steps with every cause repaired, [s]."""
        for label, saved in zip(self.labels, self.saved_ns, strict=True):
            if label.cause == "ideal":
                return np.asarray(self.base_ns - saved)
        return np.zeros(0)

    def only(self, first: int, last: int) -> PriceSeries:
        """Return the series of the steps `first` to `last` alone."""
        kept = (self.steps >= first) & (self.steps <= last)
        if kept.all():
            return self
        return PriceSeries(
            self.steps[kept], self.base_ns[kept], self.begin_ns[kept], self.end_ns[kept], self.labels,
            self.saved_ns[:, kept], self.excess.only(kept), self.peers, self.alone,
        )  # fmt: skip


def joined(parts: Sequence[PriceSeries]) -> PriceSeries:
    """Return the series of a recording from those of its ranges of steps, which must not overlap.

    The order of `parts` does not matter.
    """
    ordered = sorted((part for part in parts if len(part.steps)), key=lambda part: int(part.steps[0]))
    if len(ordered) == 1:
        return ordered[0]
    steps, base, begin, end = (
        np.concatenate([getattr(part, name) for part in ordered]) if ordered else np.zeros(0)
        for name in ("steps", "base_ns", "begin_ns", "end_ns")
    )
    excess = _joined_excess([part.excess for part in ordered], [len(part.steps) for part in ordered])
    candidates = excess.candidates(base) if len(steps) else []
    labels = _labels(ordered, candidates)
    saved = np.zeros((len(labels), len(steps)))
    edges = np.concatenate([[0], np.cumsum([len(part.steps) for part in ordered])]).astype(int)
    for row, label in enumerate(labels):
        saved[row] = _saved(label, ordered, edges, excess)
    medians: dict[int, list[int]] = {}
    for part in ordered:
        for rank, count in part.peers.items():
            medians.setdefault(rank, []).append(count)
    peers = {rank: int(np.median(counts)) for rank, counts in medians.items()}
    return PriceSeries(steps, base, begin, end, labels, saved, excess, peers)


def _joined_excess(parts: Sequence[Excess], lengths: Sequence[int]) -> Excess:
    rank = np.unique(np.concatenate([part.rank for part in parts])) if parts else np.zeros(0, dtype=np.int64)
    kind = np.result_type(*(part.ns.dtype for part in parts)) if parts else np.dtype(float)
    made = np.full((len(rank), sum(lengths)), np.nan, dtype=kind)
    own = np.zeros_like(made)
    at = 0
    for part, length in zip(parts, lengths, strict=True):
        place = np.searchsorted(rank, part.rank)
        made[place, at : at + length] = part.ns
        own[place, at : at + length] = part.own_ns
        at += length
    return Excess(rank, made, own)


def _labels(parts: Sequence[PriceSeries], candidates: Sequence[int]) -> list[Label]:
    """Return every repair once, in the order of the price list; of ranks only the candidates of the whole."""
    rates: dict[tuple[str, str, int, int], list[float]] = {}
    for part in parts:
        for label in part.labels:
            rates.setdefault(label.key, []).append(label.rate)
    place = {rank: at for at, rank in enumerate(candidates)}
    kept = [key for key in rates if key[0] != "rank" or key[2] in place]

    def order(key: tuple[str, str, int, int]) -> tuple[int, int, int, int]:
        cause = CAUSES.index(key[1]) if key[1] in CAUSES else len(CAUSES)
        return KINDS.index(key[0]), place.get(key[2], key[2]) if key[0] == "rank" else 0, key[3], cause

    return [Label(*key, rate=float(np.mean(rates[key]))) for key in sorted(kept, key=order)]


def _saved(label: Label, parts: Sequence[PriceSeries], edges: Array, excess: Excess) -> Array:
    """Return what a repair saves in each step [s].

    Where a rank was not priced it is worth its excess over its peers, at the rate at which that excess became lost time
    where it was priced. Other repairs that a part does not know have nothing to repair there.
    """
    made = np.zeros(int(edges[-1]))
    open_parts, priced = [], np.zeros(len(made), dtype=bool)
    for at, part in enumerate(parts):
        where = slice(int(edges[at]), int(edges[at + 1]))
        rows = [row for row, one in enumerate(part.labels) if one.key == label.key]
        if rows:
            made[where], priced[where] = part.saved_ns[rows[0]], True
        elif label.kind == "rank" and label.rank not in part.peers:
            open_parts.append(where)
    if open_parts:
        row = int(np.searchsorted(excess.rank, label.rank))
        more = np.maximum(np.nan_to_num(excess.ns[row].astype(float)), 0.0)
        rate = made[priced].sum() / max(float(more[priced].sum()), 1.0)
        for where in open_parts:
            made[where] = rate * more[where]
    return made
