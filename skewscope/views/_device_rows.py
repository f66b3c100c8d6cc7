"""Device work as deep views need it: without waits, in order, with its length and the host call above it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..contracts import Frames
from ..errors import NoData
from ..stats import intervals, segments
from ._calls import HOW, Calls

Array = np.ndarray[Any, Any]

WORK = ("kernel", "communication", "memcpy", "memset")


def work(tables: Frames, kinds: tuple[str, ...] = WORK) -> pd.DataFrame:
    """Return the device work of these kinds by rank, device, stream and start, with `length_ns`; NoData without any."""
    rows = tables["device_work"]
    kind = rows["kind"].array
    wanted = np.array([name in kinds for name in kind.categories] + [False])[kind.codes]
    if not wanted.any():
        raise NoData(f"no {' or '.join(kinds[:2])} of a device in this recording; {HOW}")
    rows = rows[wanted]
    keys = [rows[name].to_numpy() for name in ("rank", "device", "stream", "start_ns", "end_ns")]
    made: pd.DataFrame = rows.iloc[segments.ordered(*keys)].reset_index(drop=True)
    made["length_ns"] = np.maximum(made["end_ns"].to_numpy() - made["start_ns"].to_numpy(), 0)
    return made


def work_or_none(tables: Frames) -> pd.DataFrame:
    """Return the device work as `work` does, no rows where there is none."""
    try:
        return work(tables)
    except NoData:
        return tables["device_work"].iloc[:0].assign(length_ns=np.zeros(0, dtype=np.int64))


def lane(rows: pd.DataFrame) -> Array:
    """Return one number per row, equal for one stream of one device of one rank."""
    return segments.numbered(*(rows[name].to_numpy() for name in ("rank", "device", "stream")))


def above(rows: pd.DataFrame, forest: Calls) -> Array:
    """Return the row of `forest` that launched each row of device work, -1 where that is not known."""
    return forest.rows(rows["rank"].to_numpy(), rows["call"].to_numpy())


def busy(rows: pd.DataFrame) -> intervals.Spans:
    """Return when each rank's devices did anything, as disjoint spans whose lane is the rank."""
    rank = rows["rank"].to_numpy().astype(np.int64)
    return intervals.union(rank, rows["start_ns"].to_numpy(), rows["end_ns"].to_numpy())


def share(part: float, whole: float) -> float:
    """Return part / whole, 0 where the whole is nothing.

    >>> share(1, 4), share(1, 0)
    (0.25, 0.0)
    """
    return part / whole if whole > 0 else 0.0


def short(name: str, most: int = 60) -> str:
    """Return a kernel's name as people read it: without return type, template and arguments, cut to `most`.

    >>> short("void at::native::vectorized_kernel<4, at::Add>(int, at::Add)")
    'at::native::vectorized_kernel'
    """
    text = name.removeprefix("void ").replace("(anonymous namespace)::", "")
    depth, kept = 0, []
    for letter in text:
        if letter == "(" and depth == 0:
            break
        depth += (letter == "<") - (letter == ">")
        if depth == 0 and letter != ">":
            kept.append(letter)
    told = "".join(kept).strip() or name
    return told if len(told) <= most else told[: most - 3] + "..."
