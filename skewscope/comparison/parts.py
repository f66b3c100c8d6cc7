"""Where a step's time goes, before and after: compute, communication, waiting, input and idle, per rank and step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..reports.rank_table import rank_table
from ..stats.intervals import union
from . import samples
from .run import DEVICE, Run

Array = np.ndarray[Any, Any]
Record = dict[str, Any]

# Together they are the step: what is in flight or hidden behind computation stands beside them.
PARTS = {
    "compute": "compute_ns", "host": "", "input": "input_ns", "gc": "gc_ns", "checkpoint": "checkpoint_ns",
    "transfer": "transfer_ns", "wait": "wait_ns", "idle": "idle_ns",
}  # fmt: skip
BESIDE = {"communication": "comm_ns", "hidden": "hidden_ns"}
SAID = {
    "compute": "compute", "host": "the host's own work", "input": "waiting for input", "gc": "garbage collection",
    "checkpoint": "checkpoints", "transfer": "exposed transfer", "wait": "waiting for other ranks", "idle": "idle time",
}  # fmt: skip
MOST_RANKS = 64
LEAST_S = 1e-9  # of a difference of parts: less is the end of the numbers


def seconds_per_step(run: Run) -> pd.DataFrame:
    """Return the mean over ranks of each part in seconds, one row per step; empty where steps were not split.

    Compute that the host's own work holds is not counted twice: the parts of a row add up to the length of the step.
    """
    rows = run.rank_steps
    if not len(rows) or not (rows["own_ns"] > 0).any():
        return pd.DataFrame(columns=[*PARTS, *BESIDE], dtype=float)
    split = {name: rows[column].to_numpy(dtype=float) / 1e9 for name, column in PARTS.items() if column}
    own = rows["own_ns"].to_numpy(dtype=float) / 1e9
    rest = own - sum(np.nan_to_num(split[name]) for name in ("compute", "input", "gc", "checkpoint"))
    split["host"] = np.where(rest > LEAST_S, rest, 0.0)
    split |= {name: rows[column].to_numpy(dtype=float) / 1e9 for name, column in BESIDE.items()}
    if not split["compute"].any() and len(run.ops):
        split |= _by_device(rows, run.ops)
    frame = pd.DataFrame(split)[[*PARTS, *BESIDE]]
    return frame.groupby(rows["step"].to_numpy()).mean()


def _by_device(rows: pd.DataFrame, ops: pd.DataFrame) -> Record:
    """Return compute and idle of steps that nobody split: what of their device work is busy, at most all of them."""
    device = ops[ops["op"].isin(DEVICE).to_numpy() & (ops["step"] >= 0).to_numpy()]
    step, rank = rows["step"].to_numpy(np.int64), rows["rank"].to_numpy(np.int64)
    width = max(int(rank.max(initial=0)), int(device["rank"].max() if len(device) else 0)) + 1
    lane = device["step"].to_numpy(np.int64) * width + device["rank"].to_numpy(np.int64)
    busy = union(lane, device["start_ns"].to_numpy(), device["end_ns"].to_numpy())
    lanes, place = np.unique(busy.lane, return_inverse=True)
    spent = np.bincount(place, busy.end - busy.start, minlength=len(lanes)) / 1e9
    length = (rows["end_ns"] - rows["start_ns"]).to_numpy(dtype=float) / 1e9
    own = pd.Series(spent, index=lanes).reindex(step * width + rank).fillna(0.0).to_numpy()
    compute = np.minimum(own, length)
    return {"compute": compute, "host": np.zeros(len(rows)), "idle": length - compute}


def compared(before: Run, after: Run) -> list[Record]:
    """Return a record for each part of the step: mean seconds on both sides, their change, and p."""
    first, second = seconds_per_step(before), seconds_per_step(after)
    if not len(first) or not len(second):
        return []
    return [_record(name, first[name].to_numpy(), second[name].to_numpy()) for name in (*PARTS, *BESIDE)]


def _record(name: str, before: Array, after: Array) -> Record:
    left, right = before[np.isfinite(before)], after[np.isfinite(after)]
    made: Record = {
        "part": name,
        "of_step": name in PARTS,
        "before_s": None,
        "after_s": None,
        "change_s": None,
        "p": None,
    }
    if not len(left) or not len(right):
        return made
    tested = samples.enough(len(left), len(right))
    p = float(samples.p_values(left[:, None], right[:, None])[0]) if tested else None
    first, second = float(left.mean()), float(right.mean())
    return made | {"before_s": first, "after_s": second, "change_s": second - first, "p": p}


def ranks(before: Run, after: Run) -> Record:
    """Return own work per rank: its spread on both sides, and rank by rank where both recorded the same ranks."""
    first, second = (_work(run) for run in (before, after))
    same = bool(len(first)) and set(first.index) == set(second.index)
    return {"same_ranks": same, "before": _spread(first), "after": _spread(second),
            "changes": _changes(first, second) if same else []}  # fmt: skip


def _work(run: Run) -> pd.DataFrame:
    rows = rank_table(run.tables) if run.tables else pd.DataFrame(columns=["job", "rank", "own_s"])
    rows = rows[rows["own_s"].notna() & (rows["own_s"] > 0)]
    if rows["job"].nunique() > 1:
        rows = rows[rows["job"] == rows["job"].value_counts().index[0]]
    return rows.set_index("rank").sort_index()


def _spread(rows: pd.DataFrame) -> Record | None:
    if not len(rows):
        return None
    work = rows["own_s"]
    slowest = int(work.index[int(np.argmax(work.to_numpy()))])
    return {"ranks": len(rows), "least_s": float(work.min()), "median_s": float(work.median()),
            "most_s": float(work.max()), "most_rank": slowest}  # fmt: skip


def _changes(first: pd.DataFrame, second: pd.DataFrame) -> list[Record]:
    both = pd.DataFrame({"before_s": first["own_s"], "after_s": second["own_s"], "node": second["node"],
                         "wait_before_s": first["wait_s"], "wait_after_s": second["wait_s"]})  # fmt: skip
    both["change_s"] = both["after_s"] - both["before_s"]
    order = both["change_s"].abs().sort_values(ascending=False, kind="stable").index[:MOST_RANKS]
    rows = both.loc[order].reset_index().to_dict("records")
    return [
        {"rank": int(row["rank"]), "node": str(row["node"]), "ratio": float(row["after_s"] / row["before_s"]),
         **{name: _known(row[name]) for name in both.columns if name != "node"}}
        for row in rows
    ]  # fmt: skip


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
