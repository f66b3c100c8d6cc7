"""When each job last wrote a checkpoint, as far as its steps tell."""

from __future__ import annotations

import pandas as pd

PHASES, CHECKPOINT = "skewscope_phase_seconds_total", "phase=checkpoint"


def since_s(windows: pd.DataFrame, end_ns: int) -> dict[str, float]:
    """Return the seconds from each job's last window with time in a checkpoint to `end_ns`; others are left out.

    >>> rows = pd.DataFrame({"metric": PHASES, "labels": CHECKPOINT, "job": "a", "t_ns": [30e9, 60e9],
    ...                      "increase_value": [2.0, 0.0]})
    >>> since_s(rows, 90 * 10**9)
    {'a': 60.0}
    """
    rows = windows[(windows["metric"] == PHASES).to_numpy()]
    wrote = rows[((rows["labels"] == CHECKPOINT) & (rows["increase_value"] > 0)).to_numpy()]
    last = wrote.groupby(wrote["job"].astype(str))["t_ns"].max()
    return {str(job): (end_ns - int(t_ns)) / 1e9 for job, t_ns in last.items() if job}
