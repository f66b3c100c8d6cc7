"""Collectives before and after: calls, bytes, time once everybody is there, and bus bandwidth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .run import Run, one_source

Array = np.ndarray[Any, Any]
Record = dict[str, Any]

# Bytes over the slowest link by the best algorithm, in units of one rank's input (n = members); as NCCL's tests count.
BUS = {
    "all_reduce": lambda n: 2 * (n - 1) / n, "all_gather": lambda n: n - 1, "reduce_scatter": lambda n: (n - 1) / n,
    "all_to_all": lambda n: (n - 1) / n, "broadcast": lambda n: np.ones_like(n), "reduce": lambda n: np.ones_like(n),
    "send": lambda n: np.ones_like(n), "recv": lambda n: np.ones_like(n), "send_recv": lambda n: np.ones_like(n),
}  # fmt: skip
COLUMNS = ("calls", "bytes", "transfer_s", "bus_bytes_per_s")


def bus_bytes(op: str, members: Array, input_bytes: Array) -> Array:
    """Return the bytes that the slowest link carries; NaN for operations without a formula and unknown sizes.

    >>> bus_bytes("all_reduce", np.array([4.0]), np.array([1000.0])).tolist()
    [1500.0]
    """
    formula = BUS.get(op)
    if formula is None:
        return np.full(len(members), np.nan)
    with np.errstate(all="ignore"):
        return np.where((members >= 1) & (input_bytes >= 0), formula(members) * input_bytes, np.nan)


def summary(run: Run, calls: pd.DataFrame) -> dict[str, Record]:
    """Return for each operation of a run's `calls`: calls and input bytes per step and rank, medians of the rest.

    The transfer of a call is its shortest time over the ranks that were seen: the last to come waits for nobody.
    """
    calls = _inside(calls, run)
    found: dict[str, Record] = {}
    per = max(1, len(run.judged)) * run.ranks
    for op, rows in calls.groupby("op", observed=True, sort=True) if len(calls) else ():
        seen = rows["message_bytes"].to_numpy()
        sized = seen >= 0
        each = _each_call(rows)
        members = each["group_size"].to_numpy(dtype=float)
        with np.errstate(all="ignore"):
            speed = bus_bytes(str(op), members, each["message_bytes"].to_numpy(dtype=float)) / each["transfer_s"]
        found[str(op)] = {
            "calls": len(rows) / per, "bytes": float(seen[sized].sum()) / per if sized.any() else None,
            "transfer_s": _median(each["transfer_s"]), "bus_bytes_per_s": _median(speed),
        }  # fmt: skip
    return found


def _inside(calls: pd.DataFrame, run: Run) -> pd.DataFrame:
    if not len(calls):
        return calls
    inside = np.isin(calls["step"].to_numpy(), run.judged)
    return calls[inside] if inside.any() else calls


def _each_call(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per call: shortest time in s (NaN: not measured), bytes and members."""
    begin = np.where(rows["start_ns"] >= 0, rows["start_ns"], rows["ready_ns"])
    known = (rows["end_ns"].to_numpy() > begin) & (begin >= 0)
    length = np.where(known, rows["end_ns"] - begin, rows["duration_ns"])
    short = rows.assign(transfer_s=np.where(length > 0, length, np.nan) / 1e9)
    groups = short.groupby(["job", "source", "group", "op_class", "seq"], observed=True, sort=False)
    return groups.agg({"transfer_s": "min", "message_bytes": "max", "group_size": "max"})


def _median(values: pd.Series) -> float | None:
    finite = values.to_numpy(dtype=float)
    finite = finite[np.isfinite(finite)]
    return float(np.median(finite)) if len(finite) else None


def compared(before: Run, after: Run) -> list[Record]:
    """Return a record for each operation that either side has: every number before and after, None for unknown."""
    left, right = one_source(before.calls, after.calls)
    first, second = summary(before, left), summary(after, right)
    nothing: Record = dict.fromkeys(COLUMNS)
    return [
        {"op": op, **{f"{name}_before": first.get(op, nothing)[name] for name in COLUMNS},
         **{f"{name}_after": second.get(op, nothing)[name] for name in COLUMNS}}
        for op in sorted(first.keys() | second.keys())
    ]  # fmt: skip
