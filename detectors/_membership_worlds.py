"""Small jobs whose members leave and come back, for `cases()`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._live_worlds import EPOCH_NS, TABLES, WINDOW_S, Fleet

WINDOWS = 40
STEPS = ("skewscope_steps_total", "skewscope_step_seconds_total", "skewscope_collective_seconds_total")


def churn(
    absences: Sequence[tuple[int, int, int]], *, silent: bool = False, stops: bool = True, end: int = WINDOWS
) -> TABLES:
    """Return a job on four hosts; `absences` are (first window, window of the return, host).

    The host of an absent rank is `silent`, or tells all but its ranks; the job stops meanwhile, or not. It ends before
    window `end`.
    """
    table = Fleet(nodes=4, gpus=2, windows_count=WINDOWS).tables()["windows"]
    number = ((table["t_ns"].to_numpy() - EPOCH_NS) // int(WINDOW_S * 1e9)) - 1
    ranks = (table["rank"] >= 0).to_numpy()
    kept, still = ~(ranks & (number >= end)), np.zeros(len(table), dtype=bool)
    for first, back, host in absences:
        away = (number >= first) & (number < back)
        kept &= ~(away & (table["node"] == f"n{host}").to_numpy() & (ranks | silent))
        still |= away & ranks & stops
    table = table.assign(increase_value=np.where(still, 0.0, table["increase_value"]))
    return Fleet(windows_count=1).tables(job=False) | {"windows": table[kept].reset_index(drop=True)}
