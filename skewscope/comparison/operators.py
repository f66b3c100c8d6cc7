"""What a detailed reading adds: operators of the host, and device work under the operator that launched it.

Kernels of two vendors share no names, but the operators that launch them do: aten::mm is aten::mm on every device.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from . import samples
from .names import matched
from .run import Run

Array = np.ndarray[Any, Any]
Record = dict[str, Any]

NOBODY = "(no operator)"
MOST_KERNELS = 3  # of each side that are named


def compared(before: Run, after: Run) -> list[Record]:
    """Return a record for each operator: calls, host time and time of the device work it launched, per step and rank.

    Largest change of device and host time first; empty unless both recordings were read in detail.
    """
    sides = [_side(run) for run in (before, after)]
    if any(not len(side) for side in sides):
        return []
    keys = matched(list(sides[0].index), list(sides[1].index))
    first, second = (_merged(side, keys) for side in sides)
    names = sorted(set(first.index) | set(second.index))
    records = [_record(name, first, second) for name in names]
    return sorted(records, key=lambda one: (-abs(one["device_change_s"]) - abs(one["host_change_s"]), one["name"]))


def _side(run: Run) -> pd.DataFrame:
    """Return calls, host_s, device_s per step and rank and the main kernels of every operator, by its name."""
    calls, work = run.table("operators"), run.table("device_work")
    per = max(1, len(run.judged)) * run.ranks
    operators = calls[(calls["kind"] == "operator").to_numpy()] if len(calls) else calls
    if not len(operators):
        return pd.DataFrame()
    inside = _inside(operators, run)
    length = (inside["end_ns"] - inside["start_ns"]).to_numpy() / 1e9
    host = pd.DataFrame({"name": inside["name"].astype(str).to_numpy(), "host_s": length})
    made = host.groupby("name")["host_s"].agg(["size", "sum"]) / per
    made.columns = pd.Index(["calls", "host_s"])
    launched = _launched(_inside(work, run), operators) if len(work) else pd.DataFrame({"name": [], "kernel": []})
    if not len(launched):
        return made.assign(device_s=0.0, kernels="", launches=0.0)
    groups = launched.groupby("name")["duration_s"]
    made = made.reindex(made.index.union(groups.sum().index)).fillna(0.0)
    made["device_s"] = (groups.sum() / per).reindex(made.index).fillna(0.0)
    made["launches"] = (groups.size() / per).reindex(made.index).fillna(0.0)
    made["kernels"] = _main_kernels(launched).reindex(made.index).fillna("")
    return made


def _inside(rows: pd.DataFrame, run: Run) -> pd.DataFrame:
    kept = np.isin(rows["step"].to_numpy(), run.judged)
    return rows[kept] if kept.any() else rows


def _launched(work: pd.DataFrame, operators: pd.DataFrame) -> pd.DataFrame:
    """Return device work with the name of the operator that launched it."""
    at = pd.MultiIndex.from_arrays([operators["rank"], operators["call"]])
    names = pd.Series(operators["name"].astype(str).to_numpy(), index=at)
    names = names[~names.index.duplicated()]
    wanted = pd.MultiIndex.from_arrays([work["rank"], work["call"]])
    length = (work["end_ns"] - work["start_ns"]).to_numpy() / 1e9
    kept = ~work["kind"].isin(["wait"]).to_numpy()
    found = pd.DataFrame({
        "name": names.reindex(wanted).fillna(NOBODY).to_numpy(), "kernel": work["name"].astype(str).to_numpy(),
        "duration_s": length,
    })  # fmt: skip
    return found[kept]


def _main_kernels(launched: pd.DataFrame) -> pd.Series:
    spent = launched.groupby(["name", "kernel"])["duration_s"].sum().reset_index()
    spent = spent.sort_values(["name", "duration_s", "kernel"], ascending=[True, False, True])
    return spent.groupby("name").head(MOST_KERNELS).groupby("name")["kernel"].agg(" | ".join)


def _merged(side: pd.DataFrame, keys: dict[str, str]) -> pd.DataFrame:
    by = side.index.map(keys)
    sums = side.drop(columns="kernels").groupby(by).sum()
    sums["kernels"] = side["kernels"].groupby(by).agg(lambda texts: " | ".join(text for text in texts if text))
    return sums


def _record(name: str, first: pd.DataFrame, second: pd.DataFrame) -> Record:
    made: Record = {"name": name}
    for word, side in (("before", first), ("after", second)):
        row: Any = side.loc[name].to_dict() if name in side.index else None
        for column in ("calls", "host_s", "launches", "device_s"):
            stem = column.removesuffix("_s")
            made[f"{stem}_{word}{'_s' if column.endswith('_s') else ''}"] = 0.0 if row is None else float(row[column])
        made[f"kernels_{word}"] = "" if row is None else str(row["kernels"])
    made["device_change_s"] = made["device_after_s"] - made["device_before_s"]
    made["host_change_s"] = made["host_after_s"] - made["host_before_s"]
    made["state"] = _state(made)
    return made


def _state(made: Record) -> str:
    if not made["calls_before"] and not made["launches_before"]:
        return "added"
    if not made["calls_after"] and not made["launches_after"]:
        return "removed"
    column = "device" if made["device_before_s"] or made["device_after_s"] else "host"
    change, base = made[f"{column}_change_s"], made[f"{column}_before_s"]
    if abs(change) <= 0.02 * base:
        return "same"
    return samples.SLOWER if change > 0 else samples.FASTER
