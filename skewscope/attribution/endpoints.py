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
    touch = [(src == rank) | (dst == rank) for rank in ranks]
    with_it = np.array([np.median(speed[one]) if one.any() else np.nan for one in touch])
    without = np.array([np.median(speed[~one]) if (~one).any() else np.nan for one in touch])
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
    touch = [(src == rank) | (dst == rank) for rank in ranks]
    return np.array([np.median(delay[one]) - np.median(delay[~one]) if (~one).any() else 0.0 for one in touch])


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
