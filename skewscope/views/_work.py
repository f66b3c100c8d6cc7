"""What the devices did: compute, communication, copies and fills of all ranks as arrays and as disjoint spans."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from skewscope.contracts import Frames
from skewscope.errors import NoData
from skewscope.signals.view import remembered
from skewscope.stats import intervals

from ._needed import HOW

Array = np.ndarray[Any, Any]

COMPUTE, COMMUNICATION, COPY, FILL, OTHER = range(5)
ON_DEVICE = ("kernel", "memcpy", "memset")
MOVES = ("send", "recv", "reduce", "gather", "scatter", "all_to_all", "broadcast")


@dataclass(frozen=True)
class Work:
    """Work of all ranks, arrays of shape [n]; `kind` is one of the numbers above, times are ns of the rank's clock.

    Where a recording has work of devices it is that, else the work of host threads (`on_device` is False).
    """

    rank: Array
    step: Array
    stream: Array
    kind: Array
    start: Array
    end: Array
    on_device: bool
    source: str

    def spans(self, *kinds: int) -> intervals.Spans:
        """Return the disjoint spans of each rank during which work of these kinds ran."""
        rows = np.isin(self.kind, kinds)
        return intervals.union(self.rank[rows], self.start[rows], self.end[rows])

    @cached_property
    def compute(self) -> intervals.Spans:
        """Return when each rank computed."""
        return self.spans(COMPUTE)

    @cached_property
    def communication(self) -> intervals.Spans:
        """Return when each rank communicated."""
        return self.spans(COMMUNICATION)

    @cached_property
    def moving(self) -> intervals.Spans:
        """Return when each rank computed or communicated."""
        return merged(self.compute, self.communication)

    @cached_property
    def copying(self) -> intervals.Spans:
        """Return when each rank computed, communicated, copied or filled."""
        return merged(self.moving, self.spans(COPY, FILL))

    @cached_property
    def busy(self) -> intervals.Spans:
        """Return when each rank did anything, input and garbage collection of host threads too."""
        return merged(self.copying, self.spans(OTHER)) if (self.kind == OTHER).any() else self.copying


def merged(one: intervals.Spans, other: intervals.Spans) -> intervals.Spans:
    """Return the union of two sets of spans."""
    lane, start, end = (np.concatenate(pair) for pair in zip(one, other, strict=True))
    return intervals.union(lane, start, end)


def totals(spans: intervals.Spans, ranks: Array) -> Array:
    """Return how long the spans of each of the `ranks` (sorted) are in all, in s.

    >>> totals(intervals.Spans(np.array([0, 2]), np.array([0, 0]), np.array([10**9, 10**9])), np.array([0, 1, 2]))
    array([1., 0., 1.])
    """
    place = np.searchsorted(ranks, spans.lane)
    return np.bincount(place, (spans.end - spans.start) / 1e9, len(ranks))


def device(tables: Frames) -> Work:
    """Return the work of all ranks, worked out once for the views that ask; raises NoData where there is none."""
    ops, collectives = tables["ops"], tables["collectives"]
    if not len(ops):
        raise NoData(f"no ops in the recording; {HOW['ops']}")
    known, work = remembered(ops, "views-device", lambda: (collectives, _device(ops, collectives)))
    return work if known is collectives else _device(ops, collectives)  # the same ops beside other collectives


def _device(ops: pd.DataFrame, collectives: pd.DataFrame) -> Work:
    names = [str(name) for name in ops["op"].cat.categories]
    kinds = np.array([_kind(name) for name in names] or [OTHER], dtype=np.int8)
    codes = ops["op"].cat.codes.to_numpy()
    device_rows = np.isin(codes, [place for place, name in enumerate(names) if name in ON_DEVICE])
    on_device = bool(device_rows.any())
    rows = device_rows if on_device else np.ones(len(ops), dtype=bool)
    source = str(ops["source"].to_numpy()[rows][0]) if ops["source"].nunique() == 1 else _most(ops["source"][rows])
    if ops["source"].nunique() > 1:
        rows &= (ops["source"] == source).to_numpy()
    calls = collectives[(collectives["source"] == source).to_numpy()] if len(collectives) else collectives
    begin = np.where(calls["start_ns"] >= 0, calls["start_ns"], calls["ready_ns"])
    timed = (begin >= 0) & (calls["end_ns"] >= begin).to_numpy()
    parts = {
        name: np.concatenate([ops[name].to_numpy()[rows], calls[name].to_numpy()[timed]])
        for name in ("rank", "step", "stream")
    }
    return Work(
        parts["rank"], parts["step"], parts["stream"],
        np.concatenate([kinds[codes[rows]], np.full(int(timed.sum()), COMMUNICATION, dtype=np.int8)]),
        np.concatenate([ops["start_ns"].to_numpy()[rows], begin[timed]]),
        np.concatenate([ops["end_ns"].to_numpy()[rows], calls["end_ns"].to_numpy()[timed]]), on_device, source,
    )  # fmt: skip


def _most(names: pd.Series) -> str:
    return str(names.value_counts().idxmax())


def _kind(op: str) -> int:
    """Return what kind of work an op is.

    >>> _kind("kernel"), _kind("memcpy"), _kind("backward_send"), _kind("forward_compute"), _kind("data")
    (0, 2, 1, 0, 4)
    """
    if op in ("kernel", "cpu", "optimizer", "forward", "backward") or op.endswith("_compute"):
        return COMPUTE
    if op in ("memcpy", "memset"):
        return COPY if op == "memcpy" else FILL
    return COMMUNICATION if any(word in op for word in MOVES) else OTHER


def whole_steps(tables: Frames, work: Work) -> pd.DataFrame:
    """Return rank, step, start_ns, end_ns of each recorded step in which the rank worked, on the rank's clock."""
    steps = tables["steps"]
    whole = steps[(steps["phase"] == "step").to_numpy()] if len(steps) else steps
    same = whole[(whole["source"] == work.source).to_numpy()] if len(whole) else whole
    rows = (same if len(same) else whole)[["rank", "step", "start_ns", "end_ns"]]
    rows = rows.drop_duplicates(["rank", "step"]).sort_values(["step", "rank"], kind="stable").reset_index(drop=True)
    if not len(rows):
        return rows
    busy = intervals.covered(work.busy, *(rows[name].to_numpy() for name in ("rank", "start_ns", "end_ns")))
    return rows[busy > 0].reset_index(drop=True)
