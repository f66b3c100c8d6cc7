"""What the GPU under each rank tells, as rank x window matrices: temperature and clock, against the other ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from skewscope.signals.view import Signal, signal

from ._view import View

Array = np.ndarray[Any, Any]
OF_RANKS = ("skewscope_steps_total", "skewscope_phase_seconds_total")
LABELS: Mapping[str, Mapping[str, Any]] = {
    "skewscope_gpu_temperature_celsius": {"sensor": "gpu"},
    "skewscope_gpu_clock_hertz": {"domain": "sm"},
}


def gpus(view: View) -> pd.DataFrame:
    """Return job, rank, node, device ("gpu3") of all ranks: as their live metrics tell, else as `ranks` does."""
    if view.count("windows"):
        for metric in OF_RANKS:
            found = signal(view.tables, metric, take="increase")
            some = (found.rank >= 0) & np.array([str(one).startswith("gpu") for one in found.device], dtype=bool)
            if some.any():
                told = {"job": found.job[some], "rank": found.rank[some], "node": found.node[some]}
                return pd.DataFrame({**told, "device": found.device[some]}).drop_duplicates(["job", "rank"])
    ranks = view.tables.get("ranks", pd.DataFrame())
    rows = ranks[((ranks["gpu"] >= 0) & (ranks["node"].astype(str) != "")).to_numpy()] if len(ranks) else ranks
    if not len(rows):
        return pd.DataFrame({"job": [], "rank": [], "node": [], "device": []})
    made = rows[["job", "rank", "node"]].astype({"job": str, "node": str})
    return made.assign(device=[f"gpu{gpu}" for gpu in rows["gpu"]]).drop_duplicates(["job", "rank"], keep="last")


def tells(view: View, metric: str) -> bool:
    """Return whether the live windows have a metric, and it is known which rank has which GPU."""
    return metric in view.tables["windows"]["metric"].cat.categories and bool(len(gpus(view)))


def of_gpus(view: View, metric: str, ranks: pd.DataFrame) -> tuple[pd.DataFrame, Array, Array] | None:
    """Return ranks (of `ranks`, one job's `gpus`) whose GPU tells a metric, the windows' ends in ns, and the values.

    They are float32 [ranks, windows]; None where no GPU of them tells it.
    """
    found = signal(view.tables, metric, **LABELS[metric])
    column = _columns(found, ranks)
    here = ranks[column >= 0].sort_values("rank")
    if not len(here):
        return None
    values = found.values[:, _columns(found, here)].T.astype(np.float32)
    known = np.isfinite(values).any(axis=0)
    return (here, found.t_ns[known], values[:, known]) if known.any() else None


def _columns(found: Signal, ranks: pd.DataFrame) -> Array:
    """Return which series is of the GPU of each rank, -1 where none is."""
    place = {
        (str(node), str(device)): at for at, (node, device) in enumerate(zip(found.node, found.device, strict=True))
    }
    asked = zip(ranks["node"].astype(str), ranks["device"].astype(str), strict=True)
    return np.array([place.get(one, -1) for one in asked], dtype=np.int64)
