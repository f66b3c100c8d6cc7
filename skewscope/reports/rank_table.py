"""One row per rank, worst first: own work against its peers, waiting, lateness, input."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

PARTS = ("own_ns", "compute_ns", "input_ns", "gc_ns", "checkpoint_ns", "transfer_ns", "wait_ns", "idle_ns")


def judged_steps(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return `rank_steps` without the steps that are planned to be long (checkpoint, evaluation, warm-up)."""
    rows = tables.get("rank_steps")
    if rows is None:
        return pd.DataFrame()
    times = tables.get("step_times")
    if times is None or not len(times) or not len(rows):
        return rows
    planned = times.loc[times["planned"], ["job", "step"]]
    left_out = np.zeros(len(rows), dtype=bool)
    for job, steps in planned.groupby("job", observed=True)["step"]:
        left_out |= (rows["job"] == job).to_numpy() & np.isin(rows["step"].to_numpy(), steps.to_numpy())
    kept = rows[~left_out]
    return kept if len(kept) else rows


def excess_ns(rows: pd.DataFrame) -> pd.Series:
    """Return each row's own work in ns beyond the median of its peers: same job, step and pipeline stage."""
    peers = rows.groupby(["job", "step", "stage"], sort=False, observed=True)["work_ns"]
    return rows["work_ns"] - peers.transform("median")


def rank_table(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return one row per job and rank, the one with the most own work beyond its peers first.

    Columns: job, rank, node, stage, steps_count, the medians over steps of own_s, wait_s, input_s, transfer_s and
    excess_s (own work beyond peers), versus_ratio (own work over peers, 1 = equal), late_s (median lateness at
    collectives against the other members), last_ratio (share of collectives that it was last to reach).
    """
    rows = judged_steps(tables)
    columns = ["job", "rank", "node", "stage", "steps_count", "own_s", "wait_s", "input_s", "transfer_s", "excess_s"]
    if not len(rows):
        made = pd.DataFrame({name: [] for name in columns})
    else:
        made = _by_rank(rows)
    late = _lateness(tables)
    made = (
        made.merge(late, on=["job", "rank"], how="outer")
        if len(late)
        else made.assign(late_s=np.nan, last_ratio=np.nan)
    )
    base = made["own_s"] - made["excess_s"]
    made["versus_ratio"] = np.where(base > 0, made["own_s"] / base.where(base > 0), np.nan)
    made["node"] = made["node"].astype(object).where(made["node"].notna(), "").astype(str)
    for name in ("rank", "stage", "steps_count"):
        made[name] = made[name].fillna(-1).astype("int64")
    order = made.assign(key=made["excess_s"].fillna(-np.inf), late=made["late_s"].fillna(-np.inf))
    return (
        order.sort_values(["key", "late", "rank"], ascending=[False, False, True])
        .drop(columns=["key", "late"])
        .reset_index(drop=True)
    )


def _by_rank(rows: pd.DataFrame) -> pd.DataFrame:
    groups = rows.assign(excess_ns=excess_ns(rows)).groupby(["job", "rank"], sort=False, observed=True)
    medians = groups[["work_ns", "wait_ns", "input_ns", "transfer_ns", "excess_ns"]].median() / 1e9
    made = medians.rename(columns=lambda name: name.replace("work_ns", "own_ns").replace("_ns", "_s"))
    made["node"], made["stage"], made["steps_count"] = groups["node"].first(), groups["stage"].first(), groups.size()
    return made.reset_index().astype({"job": str, "node": str})


def _lateness(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    rows = tables.get("arrivals")
    if rows is None or not len(rows):
        return pd.DataFrame()
    groups = rows.groupby(["job", "rank"], sort=False, observed=True)
    made = pd.DataFrame({"late_s": groups["late_ns"].median() / 1e9, "last_ratio": groups["last"].mean()})
    return made.reset_index().astype({"job": str})
