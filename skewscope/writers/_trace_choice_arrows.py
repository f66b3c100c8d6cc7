"""Arrows of a trace: from the rank that came last to a collective to each rank that waited for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Arrows:
    """Rows of `arrivals`, one pair an arrow: who came last, and who waited; `total` tells how many there would be."""

    late: Array
    waiting: Array
    total: int


def arrows(arrivals: pd.DataFrame, most: int) -> Arrows:
    """Return the arrows with the longest waits, at most `most`: only of calls in which one clearly came last."""
    last = arrivals["last"].to_numpy()
    ready, wait = arrivals["ready_ns"].to_numpy(), np.nan_to_num(arrivals["wait_ns"].to_numpy(), nan=-1.0)
    call = arrivals["call"].to_numpy()
    late = np.flatnonzero(last & (ready >= 0))
    nothing = np.zeros(0, dtype=np.int64)
    if not len(late):
        return Arrows(nothing, nothing, 0)
    late = late[np.argsort(-ready[late], kind="stable")]
    calls, first = np.unique(call[late], return_index=True)
    place = np.clip(np.searchsorted(calls, call), 0, len(calls) - 1)
    of = late[first][place]
    waits = (calls[place] == call) & ~last & (wait > 0) & (ready >= 0)
    waiting = np.flatnonzero(waits & (ready + np.rint(wait).astype(np.int64) >= ready[of]))
    total = len(waiting)
    if total > most:
        waiting = np.sort(waiting[np.argsort(-wait[waiting], kind="stable")[:most]])
    return Arrows(of[waiting], waiting, total)
