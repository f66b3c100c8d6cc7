"""Which rank's network end is slow, and how much faster its transfers would be with an end like the others'."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..stats.robust import leave_one_out_median

Array = np.ndarray[Any, Any]

SLOW_RATIO = 2.0  # an end whose median pair is this much slower than the median pair without it
FEWEST_RANKS = 3
NOTABLE_DELAY_NS = 1_000_000  # conditions: a cell of the delay matrix counts from a millisecond of excess


def end_speeds(pairs: pd.DataFrame, source: str) -> tuple[Array, Array, Array]:
    """Return (ranks, median speed of the pairs that touch each, median speed of the pairs that do not), bytes/s."""
    mine = pairs[((pairs["source"] == source) & (pairs["speed_bytes_per_s"] > 0)).to_numpy()]
    src, dst, speed = (mine[name].to_numpy() for name in ("src_rank", "dst_rank", "speed_bytes_per_s"))
    ranks = np.unique(np.concatenate([src, dst]))
    with_it, without = _medians(ranks, src, dst, speed)
    return ranks, with_it, without


def slow_ends(pairs: pd.DataFrame, slow_ratio: float = SLOW_RATIO) -> dict[int, tuple[float, float]]:
    """Return {rank: (its speed, the others' speed)} for slow network ends, judged on the soundest measurement.

    A probe sends alone and is believed first; point-to-point calls of the job next. One slow end slows every pair that
    it is part of and no other; what is slow everywhere names nobody.
    """
    for source in ("probe", "calls"):
        ranks, with_it, without = end_speeds(pairs, source)
        if len(ranks) < FEWEST_RANKS:
            continue
        usual = leave_one_out_median(with_it)
        slow = (without / with_it >= slow_ratio) & (usual / with_it >= slow_ratio)
        if source == "calls":
            slow &= _delay_excess_ns(pairs, ranks) >= NOTABLE_DELAY_NS
        return {int(rank): (float(own), float(other)) for rank, own, other in
                zip(ranks[slow], with_it[slow], without[slow], strict=True)}  # fmt: skip
    return {}


def _delay_excess_ns(pairs: pd.DataFrame, ranks: Array) -> Array:
    """Return by how much a transfer of each rank takes longer than one of the others, medians over pairs, ns."""
    mine = pairs[(pairs["source"] == "calls").to_numpy()]
    src, dst, delay = (mine[name].to_numpy() for name in ("src_rank", "dst_rank", "delay_ns"))
    own, others = _medians(ranks, src, dst, delay)
    return np.where(np.isfinite(others), own - others, 0.0)


def _medians(ranks: Array, src: Array, dst: Array, values: Array) -> tuple[Array, Array]:
    """Return per rank the median of `values` [pairs] over the pairs that touch it, and over all others; NaN for none.

    >>> two = _medians(np.array([0, 1, 2]), np.array([0, 1, 1]), np.array([1, 0, 2]), np.array([1.0, 3.0, 5.0]))
    >>> [one.tolist() for one in two]
    [[2.0, 3.0, 5.0], [5.0, nan, 2.0]]
    """
    loops = src == dst
    end = np.concatenate([src, dst[~loops]])
    pair = np.concatenate([np.arange(len(src)), np.flatnonzero(~loops)])
    order = np.argsort(values, kind="stable")
    place = np.empty(len(values), dtype=np.int64)
    place[order] = np.arange(len(values))
    sorted_values = values[order]
    by_end = np.lexsort((place[pair], end))
    bounds = np.searchsorted(end[by_end], [ranks, ranks + 1])
    places = place[pair[by_end]].tolist()
    own, others = np.full(len(ranks), np.nan), np.full(len(ranks), np.nan)
    for at, (first, last) in enumerate(zip(*bounds.tolist(), strict=True)):
        touched = places[first:last]
        own[at] = _middle(sorted_values[touched]) if touched else np.nan
        left = len(values) - len(touched)
        if left:
            others[at] = _middle(sorted_values[[_skipping(touched, (left - 1) // 2), _skipping(touched, left // 2)]])
    return own, others


def _middle(ordered: Array) -> float:
    """Return the median of sorted values; NaN where one of them is."""
    count = len(ordered)
    return float((ordered[(count - 1) // 2] + ordered[count // 2]) / 2 + 0.0 * ordered[-1])


def _skipping(touched: list[int], index: int) -> int:
    """Return the place of element `index` of a list without the places `touched`, which are sorted."""
    for place in touched:
        if place > index:
            break
        index += 1
    return index


def transfer_scale(
    speeds: tuple[float, float], rows: Array, of_call: Array, message_bytes: Array, members: Array, busy_ns: float
) -> Array:
    """Return the factor for each transfer (`rows` of the calls), were the slow end as fast as the others.

    A ring moves 2 (n - 1) / n times the message through every member. The share of the transfer time `busy_ns` that
    the slow end's line rate explains shrinks with the ratio of the speeds; the rest (latency, host work) stays.
    """
    own, other = speeds
    first = np.unique(of_call, return_index=True)[1]
    moved = message_bytes[first].clip(min=0) * 2.0 * (members[first] - 1) / np.maximum(members[first], 1)
    bound = min(1.0, float(moved.sum()) / own * 1e9 / max(busy_ns, 1.0))
    return np.full(len(rows), 1.0 - bound * (1.0 - own / other))
