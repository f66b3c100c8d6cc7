"""Which steps count: what the rooms that judge step times share."""

from __future__ import annotations

import numpy as np
import pandas as pd


def judged(step_times: pd.DataFrame, warmup: int) -> pd.DataFrame:
    """Return the steps that count, in order: not planned, not among the first `warmup`, with a known time."""
    steps = step_times.sort_values("step", kind="stable").iloc[warmup:]
    length = steps["duration_ns"].to_numpy()
    kept: pd.DataFrame = steps[~steps["planned"].to_numpy() & np.isfinite(length) & (length > 0)]
    return kept
