"""What views share at their door: which tables must have rows, and how to record them where they have none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from skewscope.contracts import Frames
from skewscope.errors import NoData

HOW = {
    "ops": "record kernels and copies with the PyTorch profiler, nsys or rocprof",
    "collectives": "record collectives with the PyTorch profiler, the flight recorder or the hook (`skewscope run`)",
    "steps": "mark steps: call the profiler's step() once per step, or run under `skewscope run`",
    "rank_steps": "record marked steps: the profiler's step() once per step, or `skewscope run`",
    "step_times": "record marked steps: the profiler's step() once per step, or `skewscope run`",
    "arrivals": "record collectives of two ranks or more: the profiler, the flight recorder or `skewscope run`",
    "ranks": "record two ranks or more with their distributedInfo (torch.distributed was initialised)",
    "groups": "record two ranks or more with their distributedInfo (torch.distributed was initialised)",
    "operators": "record with the PyTorch profiler (ProfilerActivity.CPU)",
    "device_work": "record with the PyTorch profiler (ProfilerActivity.CUDA)",
    "allocations": "record with profile_memory=True",
}


def needed(tables: Frames, *names: str) -> None:
    """Raise NoData for the first of these tables that has no rows, with how to record it."""
    for name in names:
        if name not in tables or not len(tables[name]):
            raise NoData(f"no {name} in the recording; {HOW.get(name, 'see `skewscope schema ' + name + '`')}")


def steady(tables: Frames) -> pd.DataFrame:
    """Return `rank_steps` without the steps that were planned to be long, all where nothing else is left."""
    rows, times = tables["rank_steps"], tables["step_times"]
    planned = times["step"].to_numpy()[times["planned"].to_numpy()] if len(times) else np.zeros(0)
    kept = rows[~np.isin(rows["step"].to_numpy(), planned)]
    return kept if len(kept) else rows


def largest(rows: pd.DataFrame, column: str) -> dict[str, Any]:
    """Return the row with the largest known value of a column; raises ValueError where none is known.

    >>> largest(pd.DataFrame({"rank": [4, 7], "wait_s": [0.5, 2.0]}), "wait_s")["rank"]
    7
    """
    return _row(rows, int(np.nanargmax(rows[column].to_numpy(dtype=float))))


def smallest(rows: pd.DataFrame, column: str) -> dict[str, Any]:
    """Return the row with the smallest known value of a column; raises ValueError where none is known."""
    return _row(rows, int(np.nanargmin(rows[column].to_numpy(dtype=float))))


def _row(rows: pd.DataFrame, place: int) -> dict[str, Any]:
    found: list[dict[Any, Any]] = rows.iloc[[place]].to_dict("records")
    return found[0]
