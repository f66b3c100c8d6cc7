"""The all-to-alls of a job: recorded calls by leg, kinds of live calls, and the tokens of a rank's experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from skewscope.contracts import Frames
from skewscope.signals.view import Signal, parsed, signal

from . import _moe
from ._group_calls import SHORTEST

Array = np.ndarray[Any, Any]
OPS = ("all_to_all", "all_to_allv", "all_to_all_base", "alltoall")


def all_to_alls(arrivals: pd.DataFrame, peers: int) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """Yield (job, group) and its all-to-all calls, with the leg of each: 0 dispatch, 1 combine."""
    rows = arrivals[(arrivals["op"].isin(OPS) & (arrivals["members_count"] > peers)).to_numpy()]
    for (job, group), part in rows.groupby(["job", "group"], observed=True):
        order = part.groupby("call")["ready_ns"].min().rank(method="first") if len(part) else None
        place = part["seq"] - part["seq"].min() if order is None or order.isna().any() else part["call"].map(order) - 1
        yield (str(job), str(group)), part.assign(leg=np.asarray(place, dtype=np.int64) % 2)


def kinds(tables: Frames) -> list[str]:
    """Return the operation of each kind of call that `calls` yields, in its order."""
    rows = tables["windows"]
    named = rows.loc[(rows["metric"] == SHORTEST).to_numpy(), "labels"]
    found = []
    for text in sorted(str(one) for one in named.unique()):
        labels: dict[str, Any] = parsed(text)
        jobs = dict.fromkeys(signal(tables, SHORTEST, take="low", **labels).job.tolist())
        found += [str(labels.get("op", ""))] * len(jobs)
    return found


def tokens(tables: Frames, job: str, rank: int) -> float:
    """Return the tokens of a rank's experts over those of the mean rank, NaN where that is not recorded."""
    for found in _moe.by_job(tables).get(job, ()):
        placement = found.layout.placement
        held = tables["ranks"]
        mine = held[((held["job"].astype(str) == job) & (held["rank"] == rank) & (held["ep"] >= 0)).to_numpy()]
        if placement is not None and len(mine):
            loads = placement.gpu_loads(found.judged.sum(axis=0)).sum(axis=0)
            place = int(mine["ep"].iloc[0])
            return float(loads[place] / loads.mean()) if place < len(loads) else float("nan")
    return float("nan")


def groups(tables: Frames, told: Signal) -> Array:
    """Return [series]: a number for the expert-parallel group of each rank; one for all where the layout is unknown."""
    ranks = tables["ranks"]
    mine = ranks[((ranks["job"].astype(str) == str(told.job[0])) & (ranks["ep"] >= 0) & (ranks["dp"] >= 0)).to_numpy()]
    if not len(mine):
        return np.zeros(len(told), dtype=np.int64)
    block = mine["dp"].to_numpy() // (int(mine["ep"].max()) + 1)
    parts = np.stack([block, *(mine[name].to_numpy() for name in ("tp", "pp", "cp"))], axis=1)
    _, number = np.unique(parts, axis=0, return_inverse=True)
    of = dict(zip(mine["rank"].tolist(), np.ravel(number).tolist(), strict=True))
    return np.array([of.get(int(rank), -1) for rank in told.rank])
