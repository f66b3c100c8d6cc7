"""Who was slowest in each step and last at each call: the record behind the verdict, for machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    rows = rows[(rows["members_count"] > 1).to_numpy()]
    if not len(rows):
        return []
    last = rows[(rows["wait_ns"] == 0).to_numpy()].drop_duplicates("call")
    spread = rows.groupby("call")["wait_ns"].max()
    table = pd.DataFrame({
        "group": last["group"].astype(str), "op": last["op"].astype(str), "seq": last["seq"], "step": last["step"],
        "source": last["source"].astype(str), "last_rank": last["rank"], "decided": last["last"],
        "skew_s": last["call"].map(spread) / 1e9, "members": last["members_count"], "order": last["ready_ns"],
    })  # fmt: skip
    return _largest(table, "skew_s", ["order", "seq"])


def _largest(table: pd.DataFrame, by: str, order: list[str]) -> list[dict[str, Any]]:
    kept = table.nlargest(MOST_ROWS, by) if len(table) > MOST_ROWS else table
    found = kept.sort_values(order, kind="stable").drop(columns="order", errors="ignore")
    return [{str(name): value for name, value in row.items()} for row in found.to_dict("records")]
