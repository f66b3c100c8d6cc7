"""The common clock of a trace: what to add to the times of each rank's host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

Array = np.ndarray[Any, Any]
KEY = ["source", "group", "op_class", "seq", "rank"]
SAMPLES = 64  # calls of a rank that its clock is read from: the shift is linear in time


@dataclass(frozen=True)
class Clock:
    """Per rank the times (of its host, ns) at which the shift is known, and the shift there, ns."""

    known: Mapping[int, tuple[Array, Array]] = field(default_factory=dict)
    constant: Mapping[int, int] = field(default_factory=dict)

    def moved(self, rank: int, time_ns: Array) -> Array:
        """Return times of a rank on the common clock; unknown times (-1) stay unknown."""
        if rank in self.known:
            at, shift = self.known[rank]
            made = time_ns + np.rint(np.interp(time_ns, at, shift)).astype(np.int64)
        else:
            made = time_ns + self.constant.get(rank, 0)
        return np.where(time_ns >= 0, made, -1)


def clock(tables: Mapping[str, pd.DataFrame]) -> Clock:
    """Return the clock: by arrivals that stand on both clocks, else by the offset of the rank's node."""
    clocks, ranks = tables["clocks"], tables["ranks"]
    aligned = clocks[clocks["aligned"].to_numpy()]
    if not len(aligned):
        return Clock()
    shifts = np.rint(-aligned["offset_ns"].to_numpy(dtype=float)).astype(np.int64).tolist()
    offset = dict(zip(aligned["node"].astype(str), shifts, strict=True))
    node_of = {int(rank): str(node) for rank, node in zip(ranks["rank"], ranks["node"], strict=True)}
    everybody = set(node_of) | {int(rank) for rank in np.unique(tables["collectives"]["rank"].to_numpy())}
    named = {rank: node_of.get(rank) or f"rank{rank}" for rank in everybody}
    constant = {rank: offset[node] for rank, node in named.items() if node in offset}
    return Clock(_read(tables, set(constant)), constant)


def _read(tables: Mapping[str, pd.DataFrame], ranks: set[int]) -> dict[int, tuple[Array, Array]]:
    """Return the shift of ranks at some of their calls: `arrivals` and `collectives` tell the same arrival."""
    asked = tables["collectives"]
    ready = asked["ready_ns"].to_numpy()
    rank = asked["rank"].to_numpy()
    rows = np.flatnonzero((ready >= 0) & np.isin(rank, list(ranks)))
    rows = rows[np.lexsort((ready[rows], rank[rows]))]
    first = np.searchsorted(rank[rows], sorted(ranks))
    last = np.searchsorted(rank[rows], sorted(ranks), side="right")
    chosen = [rows[np.unique(np.linspace(low, high - 1, min(SAMPLES, high - low)).astype(int))]
              for low, high in zip(first, last, strict=True) if high > low]  # fmt: skip
    if not chosen:
        return {}
    some = asked.iloc[np.concatenate(chosen)][[*KEY, "ready_ns"]]
    told = tables["arrivals"]
    told = told[np.isin(told["seq"].to_numpy(), some["seq"].unique())][[*KEY, "ready_ns"]]
    text = {name: str for name in ("source", "group", "op_class")}
    both = some.astype(text).merge(told.astype(text), on=KEY, suffixes=("", "_common"))
    both = both[(both["ready_ns_common"] >= 0).to_numpy()].sort_values(["rank", "ready_ns"])
    who, at, there = (both[name].to_numpy() for name in ("rank", "ready_ns", "ready_ns_common"))
    number, begin = np.unique(who, return_index=True)
    parts = zip(np.split(at, begin[1:]), np.split((there - at).astype(float), begin[1:]), strict=True)
    return dict(zip(number.tolist(), parts, strict=True))
