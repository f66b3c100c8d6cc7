"""Power of rows for the planner: shares, watts, or samples of nodes, and the jobs that run there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import UsageError
from . import _tables

Array = np.ndarray[Any, Any]

FORM = "wants a column share (row power over provisioned), or watts with --provisioned"
LOW = ("low", "batch", "best-effort", "0")
MOST_CELLS = 5_000_000


@dataclass(frozen=True)
class Jobs:
    """Jobs of a row, each [jobs]: `watts` at the peak, `gpus`, share of the step that computes, low priority or not."""

    names: tuple[str, ...]
    watts: Array
    gpus: Array
    compute_ratio: Array
    low: Array


@dataclass(frozen=True)
class Row:
    """`share` [times, rows] of the provisioned power, sampled every `every_s`; what else the table told."""

    share: Array
    rows: tuple[str, ...]
    every_s: float
    servers: int | None = None
    jobs: Jobs | None = None
    held_back: tuple[str, ...] = ()


def read(path: Path, provisioned_watts: float | None, every_s: float | None, compute_ratio: float) -> Row:
    """Return the rows of a table; raises UsageError or Unreadable that names the column."""
    table = _tables.read(path)
    table = table.rename(columns={name: str(name).strip() for name in table.columns})
    names = set(table.columns)
    if "share" in names:
        values = _tables.column(table, "share", path)
    elif "watts" not in names:
        raise UsageError(f"{path}: {FORM}; it has {', '.join(sorted(names))}")
    elif provisioned_watts is None:
        raise UsageError(f"{path}: --provisioned W is missing: for how many watts is a row built?")
    else:
        values = _tables.column(table, "watts", path) / provisioned_watts
    row = table["row"].astype(str) if "row" in names else pd.Series("row", index=table.index)
    time = pd.Series(_tables.column(table, "t_s", path)) if "t_s" in names else row.groupby(row).cumcount()
    if "node" in names and "t_s" not in names:
        raise UsageError(f"{path}: samples of nodes want a column t_s, in seconds")
    made = pd.DataFrame({"t_s": time.to_numpy(), "row": row.to_numpy(), "share": values})
    grid = made.pivot_table(index="t_s", columns="row", values="share", aggfunc="sum").dropna()
    if len(grid) < 2:
        raise UsageError(f"{path}: fewer than two times at which every row has power")
    seen_s = float(np.median(np.diff(grid.index.to_numpy()))) if "t_s" in names else None
    nodes = int(table.groupby(row.to_numpy())["node"].nunique().max()) if "node" in names else None
    jobs = _of_samples(table, time.to_numpy(), path, compute_ratio) if {"node", "job"} <= names else None
    return Row(grid.to_numpy(), tuple(map(str, grid.columns)), every_s or seen_s or 1.0, nodes, jobs,
               _held_back(table, time.to_numpy(), path) if {"node", "clock"} <= names else ())  # fmt: skip


def _held_back(table: pd.DataFrame, time: Array, path: Path) -> tuple[str, ...]:
    from ..optimize.power import held_back

    key = ["node", *(["gpu"] if "gpu" in table.columns else [])]
    names = table[key].astype(str).agg(" gpu".join, axis=1) if len(key) > 1 else table["node"].astype(str)
    rows = pd.DataFrame({"t_s": time, "gpu": names.to_numpy(), "clock": _tables.column(table, "clock", path)})
    grid = rows.pivot_table(index="t_s", columns="gpu", values="clock")
    return tuple(str(one) for one in grid.columns[held_back(grid.to_numpy())])


def _of_samples(table: pd.DataFrame, time: Array, path: Path, compute_ratio: float) -> Jobs:
    """Return the jobs of per-node samples: watts at the time of the greatest power of all."""
    if "watts" not in table.columns:
        raise UsageError(f"{path}: jobs are told by their watts; the table has shares only")
    total = table.groupby(time)["watts"].sum()
    peak = table[time == total.idxmax()]
    return _jobs(peak, path, compute_ratio)


def jobs(path: Path, compute_ratio: float) -> Jobs:
    """Return the jobs of a table with job, watts, and perhaps gpus, priority, compute_ratio; raises UsageError."""
    table = _tables.read(path)
    missing = {"job", "watts"} - set(table.columns)
    if missing:
        raise UsageError(f"{path}: has no column {sorted(missing)[0]}; wants job, watts, gpus, priority, compute_ratio")
    return _jobs(table, path, compute_ratio)


def _jobs(table: pd.DataFrame, path: Path, compute_ratio: float) -> Jobs:
    made = pd.DataFrame({"job": table["job"].astype(str), "watts": _tables.column(table, "watts", path)})
    has = set(table.columns)
    made["gpus"] = _tables.column(table, "gpus", path) if "gpus" in has else 1.0
    made["compute"] = _tables.column(table, "compute_ratio", path) if "compute_ratio" in has else compute_ratio
    made["low"] = table["priority"].astype(str).str.lower().isin(LOW) if "priority" in has else True
    if (made["compute"] > 1).any():
        raise UsageError(f"{path}: column compute_ratio is a share of the step, 0 to 1")
    grouped = made.groupby("job", sort=True).agg(
        watts=("watts", "sum"), gpus=("gpus", "sum"), compute=("compute", "mean"), low=("low", "all")
    )
    return Jobs(tuple(grouped.index), grouped["watts"].to_numpy(), grouped["gpus"].to_numpy(),
                grouped["compute"].to_numpy(), grouped["low"].to_numpy(dtype=bool))  # fmt: skip
