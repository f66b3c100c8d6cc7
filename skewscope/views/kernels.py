"""Which kernels take the device's time, by class and by name, and do they differ between ranks?

Durations are summed over all ranks; kernels that run side by side count each in full. `slowest_rank` has the longest
mean duration of the kernel, `spread_ratio` is its mean over that of the median rank: ranks run the same kernels, so a
spread is a slow device or uneven work. A light reading keeps the names of the 200 longest kernels of each rank;
communication kernels appear as their operation, and their duration holds the waiting for late ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from skewscope.contracts import Frames, Picture, Shown
from skewscope.errors import NoData
from skewscope.reports import wording
from skewscope.stats import segments

from ._kernel_classes import UNNAMED, kernel_class
from ._needed import HOW, largest, needed

Array = np.ndarray[Any, Any]
KINDS = ("kernel", "memcpy", "memset", "cpu")


@dataclass(frozen=True)
class Kernels:
    """The view; the `top_count` longest kernels are listed, and kernels of `fewest_count` calls are compared."""

    top_count: int = 1000
    fewest_count: int = 3
    needs: ClassVar[tuple[str, ...]] = ("ops",)

    def show(self, tables: Frames) -> Shown:
        """Return kernels by name and by class; raises NoData without ops."""
        needed(tables, "ops")
        rank, names, code, length_ns, on_device = _timed(tables)
        if not len(rank):
            raise NoData(f"no kernels among the ops; {HOW['ops']}")
        kernels = _by_name(rank, code, length_ns, names, self.fewest_count)
        classes = _by_class(kernels)
        notes = () if on_device else ("No device work was recorded: these are operators of the host.",)
        pictures = (
            Picture("classes", "bars", "Time by class of kernels", "class", "total_s"),
            Picture("kernels", "bars", "The longest kernels", "name", "total_s", "class"),
        )
        found = {"kernels": kernels.head(self.top_count), "classes": classes}
        return Shown(found, _said(kernels, classes), notes, pictures)


def _timed(tables: Frames) -> tuple[Array, list[str], Array, Array, bool]:
    """Return rank, names, the name's number and duration in ns of all kernels, copies and collectives."""
    ops, calls = tables["ops"], tables["collectives"]
    kind = ops["op"].astype(str).to_numpy() if len(ops) < 1 else np.asarray(ops["op"].cat.categories, dtype=object)
    on_device = bool(ops["op"].isin(KINDS[:3]).any())
    places = {place for place, name in enumerate(kind) if name in (KINDS[:3] if on_device else KINDS)}
    op = ops["op"].cat.codes.to_numpy()
    rows = np.flatnonzero(np.isin(op, sorted(places)))
    given = [str(name) for name in ops["name"].cat.categories]
    width = len(kind)
    key = ops["name"].cat.codes.to_numpy()[rows].astype(np.int64) * width + op[rows]
    pairs, code = np.unique(key, return_inverse=True)
    names = [_named(given[pair // width], str(kind[pair % width])) for pair in pairs.tolist()]
    rank, length = ops["rank"].to_numpy()[rows], (ops["end_ns"] - ops["start_ns"]).to_numpy()[rows]
    sources = ops["source"].iloc[rows].unique()
    timed = ((calls["start_ns"] >= 0) & (calls["end_ns"] >= 0) & calls["source"].isin(sources)).to_numpy()
    if timed.any():
        said, told = _operations(calls[timed])
        rank, code = np.concatenate([rank, calls["rank"].to_numpy()[timed]]), np.concatenate([code, told + len(names)])
        length = np.concatenate([length, (calls["end_ns"] - calls["start_ns"]).to_numpy()[timed]])
        names += said
    return rank, names, code, length, on_device


def _named(name: str, op: str) -> str:
    if op in ("memcpy", "memset"):
        return f"Mem{op[3:]} {name}".strip()
    return name or UNNAMED


def _operations(calls: pd.DataFrame) -> tuple[list[str], Array]:
    """Return the names of communication kernels, as operation, algorithm and protocol, and each row's number."""
    parts = [calls[name].cat.codes.to_numpy() for name in ("op", "algo", "proto")]
    number = segments.numbered(*parts)
    first = np.unique(number, return_index=True)[1]
    told = calls.iloc[first][["op", "algo", "proto"]].astype(str).to_numpy()
    return [f"communication: {' '.join(filter(None, row))}" for row in told.tolist()], number


def _by_name(rank: Array, code: Array, length: Array, names: list[str], fewest: int) -> pd.DataFrame:
    order = segments.ordered(code, length)
    over = segments.runs(code[order])
    seconds = length[order] / 1e9
    total = segments.total(seconds, over)
    middle = over.first + (over.size - 1) // 2, over.first + over.size // 2
    last = over.first + over.size - 1
    label = [names[one] for one in code[order][over.first].tolist()]
    spread, slowest, ranks = _spread(rank, code, length, len(names), fewest)
    of = code[order][over.first]
    made = pd.DataFrame({
        "name": label, "class": [kernel_class(one) for one in label], "count": over.size, "total_s": total,
        "share_percent": 100 * total / max(float(total.sum()), 1e-30), "mean_s": total / over.size,
        "median_s": (seconds[middle[0]] + seconds[middle[1]]) / 2, "min_s": seconds[over.first], "max_s": seconds[last],
        "spread_ratio": spread[of], "slowest_rank": slowest[of], "ranks_count": ranks[of],
    })  # fmt: skip
    made = made.sort_values(["total_s", "name"], ascending=[False, True], kind="stable").reset_index(drop=True)
    return made.rename(columns={"count": "calls_count"})


def _spread(rank: Array, code: Array, length: Array, names: int, fewest: int) -> tuple[Array, Array, Array]:
    """Return per name the largest mean of a rank over that of the median rank, which rank, and how many ran it."""
    ranks, row = np.unique(rank, return_inverse=True)
    cells = row * names + code
    count = np.bincount(cells, minlength=len(ranks) * names).reshape(len(ranks), names)
    total = np.bincount(cells, length, len(ranks) * names).reshape(len(ranks), names)
    mean = np.where(count >= fewest, total / np.maximum(count, 1), np.nan)
    compared = np.isfinite(mean).sum(axis=0) > 1
    ratio, slowest = np.full(names, np.nan), np.full(names, -1)
    if compared.any():
        part = mean[:, compared]
        middle = np.nanmedian(part, axis=0)
        ratio[compared] = np.nanmax(part, axis=0) / np.where(middle > 0, middle, np.nan)
        slowest[compared] = ranks[np.nanargmax(part, axis=0)]
    return ratio, slowest, (count > 0).sum(axis=0)


def _by_class(kernels: pd.DataFrame) -> pd.DataFrame:
    groups = kernels.groupby("class", sort=True)
    made = groups[["calls_count", "total_s", "share_percent"]].sum()
    made.insert(0, "names_count", groups.size())
    return made.reset_index().sort_values(["total_s", "class"], ascending=[False, True]).reset_index(drop=True)


def _said(kernels: pd.DataFrame, classes: pd.DataFrame) -> tuple[str, ...]:
    parts = [
        f"{one['class']} {wording.share(one['share_percent'] / 100)}" for one in classes.head(4).to_dict("records")
    ]
    said = [f"{int(kernels['calls_count'].sum()):,} calls of {len(kernels)} kernels: {', '.join(parts)}."]
    own = kernels[(kernels["class"] != "communication").to_numpy() & (kernels["share_percent"] >= 1).to_numpy()]
    spread = own["spread_ratio"].dropna()
    if len(spread):
        worst = largest(own, "spread_ratio")
        said.append(
            f"The widest spread over ranks among the longest: {wording.clean(worst['name'])[:60]} takes "
            f"{wording.ratio(worst['spread_ratio'])} the median rank's time on rank {worst['slowest_rank']}."
        )
    return tuple(said)
