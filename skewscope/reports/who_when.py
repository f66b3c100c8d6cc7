"""Who was slowest in each step and last at each call: the record behind the verdict, for machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

MOST_ROWS = 1000  # of each list; longer recordings keep the calls and steps with the largest spread


def slowest_per_step(tables: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Return per step its length, the rank with the most own work and by how much it exceeds the median rank."""
    rows, times = tables["rank_steps"], tables["step_times"]
    if not len(rows):
        return []
    by_step = rows.groupby("step")["work_ns"]
    excess = rows["work_ns"] - by_step.transform("median")
    worst = rows.assign(excess_ns=excess).loc[excess.groupby(rows["step"]).idxmax()]
    length = times.drop_duplicates("step").set_index("step")["duration_ns"]
    table = pd.DataFrame({
        "step": worst["step"], "duration_s": worst["step"].map(length) / 1e9, "slowest_rank": worst["rank"],
        "excess_s": worst["excess_ns"] / 1e9,
    })  # fmt: skip
    return _largest(table, "excess_s", ["step"])


def last_per_call(tables: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Return per collective call of two ranks or more who arrived last, how far apart they arrived, in time order.

    `decided` is false where the last two lie closer together than the clocks can tell.
    """
    rows = tables["arrivals"]
    wait = rows["wait_ns"].to_numpy()
    last = np.flatnonzero((wait == 0) & (rows["members_count"].to_numpy() > 1))
    if not len(last):
        return []
    call = rows["call"].to_numpy()
    last = last[np.unique(call[last], return_index=True)[1]]
    spread = np.zeros(int(call.max()) + 1)
    np.maximum.at(spread, call, np.nan_to_num(wait))
    skew = spread[call[last]]
    kept = last[np.sort(np.argsort(-skew, kind="stable")[:MOST_ROWS])]
    part = rows.iloc[kept]
    table = pd.DataFrame({
        "group": part["group"].astype(str), "op": part["op"].astype(str), "seq": part["seq"], "step": part["step"],
        "source": part["source"].astype(str), "last_rank": part["rank"], "decided": part["last"],
        "skew_s": spread[call[kept]] / 1e9, "members": part["members_count"], "order": part["ready_ns"],
    })  # fmt: skip
    return _largest(table, "skew_s", ["order", "seq"])


def _largest(table: pd.DataFrame, by: str, order: list[str]) -> list[dict[str, Any]]:
    kept = table.nlargest(MOST_ROWS, by) if len(table) > MOST_ROWS else table
    found = kept.sort_values(order, kind="stable").drop(columns="order", errors="ignore")
    return [{str(name): value for name, value in row.items()} for row in found.to_dict("records")]
