"""Phases that a recording of metrics tells: of reinforcement learning, and of steps."""

from __future__ import annotations

import numpy as np
import pandas as pd

from skewscope.contracts import Frames
from skewscope.signals.view import signal

RL = "skewscope_rl_seconds_total"
STEP = "skewscope_phase_seconds_total"
GENERATIONS = tuple((phase, state) for phase in ("generation", "training") for state in ("busy", "idle"))
STEPS = ("data", "forward", "backward", "sync", "optimizer", "checkpoint", "eval", "gc", "other")


def measured(tables: Frames) -> pd.DataFrame:
    """Return phase, rank, end of the window in s since the first, and the seconds of it that the rank spent so."""
    if not len(tables["windows"]):
        return _table([])
    series = [(f"{phase}, {state}", RL, {"phase": phase, "state": state}) for phase, state in GENERATIONS]
    found = [_of(tables, name, metric, labels) for name, metric, labels in series]
    if not any(map(len, found)):
        found = [_of(tables, phase, STEP, {"phase": phase}) for phase in STEPS]
    return _table([part for part in found if len(part)])


def _of(tables: Frames, name: str, metric: str, labels: dict[str, str]) -> pd.DataFrame:
    told = signal(tables, metric, take="increase", **labels)  # type: ignore[arg-type]
    spent = np.asarray(told.values, dtype=float)
    window, column = np.nonzero(np.isfinite(spent) & (told.rank >= 0))
    return pd.DataFrame({
        "phase": name, "rank": told.rank[column], "time_s": (told.t_ns[window] - told.t_ns.min(initial=2**62)) / 1e9,
        "spent_s": spent[window, column], "window_s": told.window_s,
    })  # fmt: skip


def _table(parts: list[pd.DataFrame]) -> pd.DataFrame:
    columns = ["phase", "rank", "time_s", "spent_s", "window_s"]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    used = rows.groupby("phase")["spent_s"].transform("sum") > 0 if len(rows) else np.zeros(0, dtype=bool)
    return rows[np.asarray(used, dtype=bool)].reset_index(drop=True)
