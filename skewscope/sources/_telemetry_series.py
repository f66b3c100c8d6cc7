"""What a foreign series means in our metrics, and the rows of `samples` that its values become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..contracts import Coded, Columns

Array = np.ndarray[Any, Any]
XID = "xid"  # in place of a metric: a gauge of the last XID, or with labels of how often one came; becomes events
XID_WINDOW_NS = 300 * 10**9  # dcgm-exporter counts the XIDs of so long
REDUCE = {"sum": np.add, "mean": np.add, "min": np.minimum, "max": np.maximum}
# What DCGM writes for "no value", for 32 bits, floats and 64 bits: some of 16 numbers from there on.
# (NVIDIA/DCGM dcgm_structs.h: DCGM_INT32_BLANK, DCGM_FP64_BLANK, DCGM_INT64_BLANK)
BLANKS = ((2147483632.0, 2147483648.0), (140737488355328.0, 140737488355344.0), (2.0**63, float("inf")))


@dataclass(frozen=True)
class Meaning:
    """One of our metrics with its other labels as text, and how a foreign value becomes a value of it.

    `bit` takes one bit of the value, `equal` asks whether it is this number; `over` joins series that are one of ours
    at one time (sum, mean, min, max; "": the first counts); a `rate` is summed over time, since we count; values below
    `least` stand for unknown.
    """

    metric: str
    labels: str = ""
    scale: float = 1.0
    bit: int = -1
    equal: float | None = None
    over: str = ""
    rate: bool = False
    least: float = float("-inf")


@dataclass(frozen=True)
class Series:
    """A foreign series: what it means and whom it is about; of two that say the same the lower `order` counts.

    `blanks` tells that numbers of DCGM may stand for no value.
    """

    meaning: Meaning
    device: str = ""
    job: str = ""
    rank: int = -1
    node: str = ""
    order: int = 0
    blanks: bool = False


@dataclass
class Samples:
    """Rows of `samples` and, from gauges of the last XID, of `events`."""

    columns: Columns = field(default_factory=dict)
    events: Columns = field(default_factory=dict)
    rows: int = 0
    xids: int = 0
    repeated: int = 0  # values left out because their series had another one at that time
    nodes: tuple[str, ...] = ()


def columns(told: Sequence[Sequence[Series]], numbers: Array, values: Array, t_ns: Array) -> Samples:
    """Return the rows of values [N] at `t_ns` [N], each of the series `told[numbers]`, which may be several or none.

    Values that are no numbers, or that stand for none, are left out.
    """
    flat = [one for some in told for one in some]
    if not flat or not len(numbers):
        return Samples()
    counts = np.array([len(some) for some in told])
    numbers, values, t_ns = _expanded(counts, numbers, values, t_ns)
    known = np.isfinite(values) & (values >= np.array([one.meaning.least for one in flat])[numbers])
    blanks = np.array([one.blanks for one in flat])[numbers]
    for low, high in BLANKS if blanks.any() else ():
        known &= ~(blanks & (values >= low) & (values < high))
    numbers, t_ns = numbers[known], t_ns[known]
    values = _converted(flat, numbers, values[known])
    identity = _identities(flat)
    numbers, values, t_ns = _preferred(flat, identity, numbers, values, t_ns)
    order = np.lexsort((t_ns, identity[numbers]))
    return _rows(flat, identity, numbers[order], values[order], t_ns[order])


def _expanded(counts: Array, numbers: Array, values: Array, t_ns: Array) -> tuple[Array, Array, Array]:
    """Return one entry for each meaning of each value; numbers count in the flat list of series then."""
    many = counts[numbers]
    first = np.concatenate(([0], np.cumsum(counts)[:-1]))[numbers]
    begin = np.concatenate(([0], np.cumsum(many)[:-1])) if len(many) else many
    inside = np.arange(int(many.sum())) - np.repeat(begin, many)
    return np.repeat(first, many) + inside, np.repeat(values, many), np.repeat(t_ns, many)


def _converted(flat: Sequence[Series], numbers: Array, values: Array) -> Array:
    values = values * np.array([one.meaning.scale for one in flat])[numbers]
    bits = np.array([one.meaning.bit for one in flat])[numbers]
    masks = bits >= 0
    if masks.any():
        values[masks] = (values[masks].astype(np.int64) >> bits[masks]) & 1
    asked = np.array([np.nan if one.meaning.equal is None else one.meaning.equal for one in flat])[numbers]
    states = ~np.isnan(asked)
    values[states] = values[states] == asked[states]
    return values


def _identities(flat: Sequence[Series]) -> Array:
    """Return the number of what each series is of ours; equal ones are one series."""
    place: dict[tuple[Any, ...], int] = {}
    keys = ((s.meaning.metric, s.meaning.labels, s.node, s.device, s.job, s.rank) for s in flat)
    return np.array([place.setdefault(key, len(place)) for key in keys])


def _preferred(
    flat: Sequence[Series], identity: Array, numbers: Array, values: Array, t_ns: Array
) -> tuple[Array, Array, Array]:
    """Leave out what says less well the same as another series that has values."""
    order = np.array([one.order for one in flat])
    best = np.full(len(flat), np.iinfo(np.int64).max)
    np.minimum.at(best, identity[numbers], order[numbers])
    kept = order[numbers] == best[identity[numbers]]
    return numbers[kept], values[kept], t_ns[kept]


def _rows(flat: Sequence[Series], identity: Array, numbers: Array, values: Array, t_ns: Array) -> Samples:
    """Return the rows of values in the order of (identity, time)."""
    if not len(numbers):
        return Samples()
    who = identity[numbers]
    begins = np.flatnonzero(np.concatenate(([True], (np.diff(who) != 0) | (np.diff(t_ns) != 0))))
    counts = np.diff(np.concatenate((begins, [len(who)])))
    made = values[begins]
    over = np.array([one.meaning.over for one in flat], dtype=object)[numbers[begins]]
    for how, reduced in REDUCE.items():
        mine = over == how
        if mine.any():
            made[mine] = reduced.reduceat(values, begins)[mine] / (counts[mine] if how == "mean" else 1)
    repeated = int((counts - 1)[over == ""].sum())
    numbers, who, t_ns = numbers[begins], who[begins], t_ns[begins]
    rates = np.array([one.meaning.rate for one in flat])[numbers]
    if rates.any():
        made[rates] = _totals(who[rates], made[rates], t_ns[rates])
    xid = np.array([one.meaning.metric == XID for one in flat])[numbers]
    events = _xids(flat, numbers[xid], who[xid], made[xid], t_ns[xid])
    kept = {"t_ns": t_ns[~xid], "value": made[~xid], **_names(flat, numbers[~xid])}
    nodes = tuple(sorted({flat[number].node for number in np.unique(numbers).tolist()}))
    return Samples(kept, events, int((~xid).sum()), len(events.get("t_ns", ())), repeated, nodes)


def _totals(who: Array, values: Array, t_ns: Array) -> Array:
    """Return the integral of rates per second since the first value of each series; the last interval's rate counts."""
    passed_s = np.diff(t_ns, prepend=t_ns[:1]) / 1e9
    first = np.concatenate(([True], np.diff(who) != 0))
    grown = np.cumsum(np.where(first, 0.0, values * passed_s))
    begins = np.maximum.accumulate(np.where(first, np.arange(len(who)), 0))
    total: Array = grown - grown[begins]
    return total


def _names(flat: Sequence[Series], numbers: Array) -> dict[str, Any]:
    told = {
        "metric": [one.meaning.metric for one in flat], "labels": [one.meaning.labels for one in flat],
        "node": [one.node for one in flat], "device": [one.device for one in flat], "job": [one.job for one in flat],
    }  # fmt: skip
    made: dict[str, Any] = {}
    for name, texts in told.items():
        place: dict[str, int] = {}
        codes = np.array([place.setdefault(text, len(place)) for text in texts])
        made[name] = Coded(codes[numbers], list(place))
    made["rank"] = np.array([one.rank for one in flat])[numbers]
    return made


def _xids(flat: Sequence[Series], numbers: Array, who: Array, values: Array, t_ns: Array) -> Columns:
    """Return an event where a gauge of the last XID changes, or a count of one code (`xid=79`) grows.

    What the gauge shows at first came at an unknown time. Of a GPU whose codes are counted, counts alone speak.
    """
    if not len(who):
        return {}
    codes = [one.meaning.labels.removeprefix("xid=") if one.meaning.metric == XID else "" for one in flat]
    told = np.array([int(code or 0) for code in codes])[numbers]
    counted = {(flat[at].node, flat[at].device) for at in np.unique(numbers[told > 0]).tolist()}
    silent = np.array([one.meaning.labels == "" and (one.node, one.device) in counted for one in flat])[numbers]
    first = np.concatenate(([True], np.diff(who) != 0))
    before, passed_ns = np.where(first, 0.0, np.roll(values, 1)), np.where(first, 0, t_ns - np.roll(t_ns, 1))
    gauge = (values != before) & (values > 0) & (values < 2**31)
    count = (values > before) | ((values > 0) & (passed_ns > XID_WINDOW_NS))
    changed = np.where(told > 0, count, gauge) & ~silent
    names = _names(flat, numbers[changed])
    old = (first & (told == 0))[changed]
    return {
        "t_ns": np.where(old, -1, t_ns[changed]), "node": names["node"], "device": names["device"], "event": XID,
        "code": np.where(told > 0, told, np.nan_to_num(values))[changed].astype(np.int64),
        "message": ["last XID when the recording began" if one else "told by DCGM" for one in old.tolist()],
    }  # fmt: skip
