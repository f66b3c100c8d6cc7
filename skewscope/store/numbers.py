"""The five values of a row of `windows` as few small integers, and back.

What is lossy: a value keeps 17 significant binary digits (relative error up to 7.6e-6). Exact are whole numbers below
2**24, whole numbers of any size of gauges without a unit (states, counts, sequence numbers), and time stamps. A mean
that is the middle of the lowest and highest value, as of one or two samples, is made again from these as they are kept.
NaN (unknown) and infinities stay as they are. What was read and is written again does not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from skewscope.metrics import METRICS

Array = np.ndarray[Any, Any]
DIGITS = 17  # binary digits kept of a number, its first included
DROPPED = 53 - DIGITS
WHOLE = float(1 << 24)  # whole numbers below are exact
VALUES = ("mean_value", "low_value", "high_value", "last_value", "increase_value")
CODES = ("last", "increase", "other", "inner", "mean")
NAN = np.array([np.nan]).view(np.int64)[0]
LEAST = np.iinfo(np.int64).min
MIDDLE = 1e-15  # of the larger end: how far from the middle a mean may lie to be made again from the ends
_WHOLE_NAMES = {metric.name for metric in METRICS if metric.kind == "gauge" and metric.unit in ("", "bool")}


@dataclass(frozen=True)
class Codes:
    """Rows as integers [N] that stand for differences of bit patterns, and which of them are left out.

    `last` and `increase` count from the row before. `other` is the far end of a gauge whose last value is one end;
    where it is neither, `other` is the lowest and `inner` the highest value; `mean` counts from the middle.
    """

    codes: dict[str, Array]
    absent: dict[str, Array]


@cache
def exactness(metric: str) -> int:
    """Return what is kept exactly of a metric beside small whole numbers: 2 all, 1 whole numbers, 0 nothing.

    >>> exactness("skewscope_step_last_timestamp_seconds"), exactness("skewscope_collective_last_sequence")
    (2, 1)
    >>> exactness("skewscope_gpu_power_watts")
    0
    """
    return 2 if metric.endswith("_timestamp_seconds") else 1 if metric in _WHOLE_NAMES else 0


def exact(metrics: Sequence[str], numbers: Array) -> Array:
    """Return `exactness` [N] of rows whose metric is `metrics[numbers]`; numbers are [N]."""
    found: Array = np.array([exactness(name) for name in metrics] or [0], dtype=np.int8)[numbers]
    return found


def rounded(values: Array, kept: Array) -> Array:
    """Return values [N] as the store keeps them; `kept` [N] is their exactness.

    >>> rounded(np.array([0.1, 603.4471, 16777215.0, 16777217.0]), np.zeros(4)).tolist()
    [0.10000038146972656, 603.4453125, 16777215.0, 16777216.0]
    >>> rounded(np.array([16777217.0]), np.ones(1)).tolist()
    [16777217.0]
    """
    values = np.where(np.isnan(values), np.nan, values + 0.0)  # one NaN, one zero
    bits = values.view(np.int64)
    half = np.int64(1 << (DROPPED - 1))
    near = ((bits + half) >> DROPPED) << DROPPED
    whole = (values == np.rint(values)) & ((np.abs(values) < WHOLE) | (kept == 1))
    beyond = ~np.isfinite(values) | ~np.isfinite(near.view(np.float64))
    near = np.where(whole | beyond | (kept == 2), bits, near)
    found: Array = near.view(np.float64)
    return found


def encode(values: Sequence[Array], kept: Array) -> Codes:
    """Return the codes of VALUES, each [N], whose exactness is `kept` [N]."""
    mean, low, high, last, increase = (rounded(column, kept).view(np.int64) for column in values)
    counter = increase != NAN
    silent = counter & (low == NAN) & (high == NAN)
    flat = np.where(counter, silent, (low == high) & (high == last))
    at_end = ~counter & ((last == low) | (last == high)) & (low.view(np.float64) <= high.view(np.float64))
    other = np.where(at_end & (last == low), high, low)
    middle, made_again = _middle(low, high), _is_middle(*values[:3])
    return Codes(
        {
            "last": packed(np.diff(last, prepend=np.int64(0))),
            "increase": packed(np.diff(_held(increase, counter), prepend=np.int64(0))),
            "other": packed(other - last), "inner": packed(high - last), "mean": packed(mean - middle),
        },
        {
            "last": np.zeros(len(last), dtype=bool), "increase": ~counter, "other": flat, "inner": flat | at_end,
            "mean": (mean == middle) | made_again,
        },
    )  # fmt: skip


def decode(codes: Codes) -> list[Array]:
    """Return VALUES, each [N], of the codes of rows from the first of a group on."""
    parts = {name: unpacked(column) for name, column in codes.codes.items()}
    absent = codes.absent
    last = np.cumsum(parts["last"])
    counter = ~absent["increase"]
    increase = np.where(counter, np.cumsum(np.where(counter, parts["increase"], 0)), NAN)
    still = np.where(counter, NAN, last)
    far = np.where(absent["other"], still, last + parts["other"]).view(np.float64)
    near = np.where(absent["other"], still, np.where(absent["inner"], last, last + parts["inner"])).view(np.float64)
    swap = absent["inner"] & (far > near)
    low, high = np.where(swap, near, far), np.where(swap, far, near)
    middle = _middle(low.view(np.int64), high.view(np.int64))
    mean = np.where(absent["mean"], middle, middle + parts["mean"]).view(np.float64)
    return [mean, low, high, last.view(np.float64), increase.view(np.float64)]


def packed(steps: Array) -> Array:
    """Return differences with the sign as the last bit, so that small ones have many zero bytes.

    >>> packed(np.array([0, 3, -3], dtype=np.int64)).tolist()
    [0, 6, 7]
    """
    size = np.abs(steps)  # the least integer stays itself, and doubled it is 0: the code of -0
    found: Array = (size << 1) | (steps < 0)
    return found


def unpacked(codes: Array) -> Array:
    """Return the differences that `packed` was given.

    >>> unpacked(packed(np.array([0, 3, -3, LEAST], dtype=np.int64))).tolist()
    [0, 3, -3, -9223372036854775808]
    """
    size = (codes >> 1) & np.int64((1 << 63) - 1)
    found: Array = np.where(codes & 1, np.where(codes == 1, LEAST, -size), size)
    return found


def _held(values: Array, there: Array) -> Array:
    """Return values [N] where they are `there`, elsewhere the one before, 0 before the first."""
    place = np.maximum.accumulate(np.where(there, np.arange(len(values)), -1))
    found: Array = np.where(place >= 0, values[np.maximum(place, 0)], 0) if len(values) else values
    return found


def _middle(low: Array, high: Array) -> Array:
    """Return the bit patterns halfway between two of values."""
    ends = low.view(np.float64), high.view(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        found = (ends[0] + ends[1]) / 2
    same: Array = np.where(low == high, ends[0], np.where(np.isnan(found), np.nan, found)).view(np.int64)
    return same


def _is_middle(mean: Array, low: Array, high: Array) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(mean - (low + high) / 2)
        found: Array = off <= MIDDLE * np.maximum(np.abs(low), np.abs(high))
    return found
