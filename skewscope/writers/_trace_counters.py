"""Counter tracks: what the GPU of each rank did beside, out of recorded metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ._trace_choice import RankRows

Array = np.ndarray[Any, Any]
# metric, its labels where it has several series, name, unit, what a value is multiplied by
SHOWN = (
    ("skewscope_gpu_utilization_ratio", "", "GPU busy", "%", 100.0),
    ("skewscope_gpu_sm_active_ratio", "", "SMs active", "%", 100.0),
    ("skewscope_gpu_power_watts", "", "GPU power", "W", 1.0),
    ("skewscope_gpu_temperature_celsius", "", "GPU temperature", "C", 1.0),
    ("skewscope_gpu_clock_hertz", "domain=sm", "SM clock", "MHz", 1e-6),
    ("skewscope_gpu_memory_used_bytes", "", "GPU memory", "GiB", 1.0 / (1 << 30)),
)
FEWEST = 2  # values of a series that a plan for many leaves it


class Counters:
    """The series of `samples` that are shown, by rank; together they hold at most `most` values."""

    def __init__(self, tables: Mapping[str, pd.DataFrame], most: int) -> None:
        samples = tables["samples"]
        metric = np.asarray(samples["metric"].astype(object))
        wanted = np.isin(metric, [one[0] for one in SHOWN])
        self._rows = samples[wanted]
        ranks = _ranks(self._rows, tables["ranks"])
        self._of = RankRows(np.flatnonzero(ranks >= 0), ranks)
        self._rows = self._rows.iloc[self._of.rows]
        self._stride = max(1, -(-len(self._rows) // max(most, 1)))

    def of_rank(self, rank: int) -> Iterator[tuple[str, str, Array, Array]]:
        """Yield name, unit, times (ns, clock of the host) and values of each series of a rank's GPU."""
        mine = self._rows.iloc[self._of.span(rank)]
        if not len(mine):
            return
        for metric, labels, name, unit, scale in SHOWN:
            one = (mine["metric"] == metric) & mine["labels"].astype(str).str.contains(labels, regex=False)
            part = mine[one.to_numpy()].sort_values("t_ns", kind="stable").drop_duplicates("t_ns")
            if len(part):
                part = part.iloc[:: min(self._stride, max(1, len(part) // FEWEST))]
                yield name, unit, part["t_ns"].to_numpy(), part["value"].to_numpy() * scale


def _ranks(rows: pd.DataFrame, ranks: pd.DataFrame) -> Array:
    """Return the rank of each row: as recorded, else the one that runs on that GPU of that host, else -1."""
    device = "gpu" + ranks["gpu"].astype(str)
    runs = dict(zip(zip(ranks["node"].astype(str), device, strict=True), ranks["rank"].tolist(), strict=True))
    places = zip(rows["node"].astype(str), rows["device"].astype(str), strict=True)
    told = rows["rank"].to_numpy()
    return np.where(told >= 0, told, np.array([runs.get(place, -1) for place in places], dtype=np.int64))
