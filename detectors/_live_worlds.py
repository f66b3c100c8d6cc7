"""Small fleets for `cases()`: hosts with GPUs and adapters, one training job on all of them, windows of 30 s."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from skewscope.frames import all_tables, frame
from skewscope.signals.windows import is_counter

Array = np.ndarray[Any, Any]
EPOCH_NS = 1_700_000_010_000_000_000
WINDOW_S = 30.0
TABLES = dict[str, pd.DataFrame]
GAUGES = {  # metric, labels -> what a busy GPU shows
    ("skewscope_gpu_utilization_ratio", ""): 0.97, ("skewscope_gpu_clock_hertz", "domain=sm"): 1.755e9,
    ("skewscope_gpu_sm_clock_min_hertz", ""): 1.74e9, ("skewscope_gpu_clock_limit_hertz", "domain=sm"): 1.98e9,
    ("skewscope_gpu_power_watts", "kind=average"): 640.0, ("skewscope_gpu_temperature_celsius", "sensor=gpu"): 62.0,
    ("skewscope_gpu_pcie_link_generation", "kind=current"): 5.0,
    ("skewscope_gpu_pcie_link_generation", "kind=max"): 5.0,
    ("skewscope_gpu_pcie_link_width_lanes", "kind=current"): 16.0,
    ("skewscope_gpu_pcie_link_width_lanes", "kind=max"): 16.0,
}  # fmt: skip


class Fleet:
    """Tables in the making. `step_s` is the job's step, of which every rank spends `waiting_s` in collectives."""

    def __init__(
        self, nodes: int = 2, gpus: int = 4, nics: int = 2, *, windows_count: int = 20, step_s: float = 0.5,
        waiting_s: float = 0.05,
    ) -> None:  # fmt: skip
        self.nodes = [f"n{number}" for number in range(nodes)]
        self.gpus = [f"gpu{number}" for number in range(gpus)]
        self.nics = [f"mlx5_{number}" for number in range(nics)]
        self.windows_count = windows_count
        self._rows: dict[tuple[str, str, str, str], Array] = {}
        self._events: list[dict[str, Any]] = []
        self._step_s = np.full(windows_count, step_s)
        self._waiting_s = np.full((windows_count, nodes * gpus), waiting_s)
        for (metric, labels), value in GAUGES.items():
            self.put(metric, value, labels=labels, devices=self.gpus)

    def put(
        self, metric: str, value: float | Array, *, labels: str = "", nodes: Iterable[str] = (),
        devices: Iterable[str] = ("",), since: int = 0, until: int | None = None,
    ) -> Fleet:  # fmt: skip
        """Set a gauge, or the growth of a counter per window, of these devices (of all hosts) from a window on."""
        for node, device in product(list(nodes) or self.nodes, devices):
            row = self._rows.setdefault((metric, labels, node, device), np.full(self.windows_count, np.nan))
            row[since:until] = value
            if is_counter(metric):
                row[np.isnan(row)] = 0.0
        return self

    def late(self, rank: int | list[int], by_s: float, *, since: int = 10, until: int | None = None) -> Fleet:
        """Make a rank late, or several alike: every step is longer by so much, which all others wait."""
        self._step_s[since:until] += by_s
        self._waiting_s[since:until, ~np.isin(np.arange(self._waiting_s.shape[1]), rank)] += by_s
        return self

    def slow_transfer(self, by_s: float, *, since: int = 10, until: int | None = None) -> Fleet:
        """Make every step's communication longer for all ranks alike."""
        self._step_s[since:until] += by_s
        self._waiting_s[since:until] += by_s
        return self

    def event(self, event: str, *, node: str = "n0", device: str = "", code: int = -1, message: str = "",
              window: int = 10) -> Fleet:  # fmt: skip
        """Let something happen in the middle of a window."""
        t_ns = EPOCH_NS + int((window + 0.5) * WINDOW_S * 1e9)
        row = {"t_ns": t_ns, "node": node, "device": device, "event": event, "code": code, "message": message}
        self._events.append(row)
        return self

    def tables(self, *, job: bool = True) -> TABLES:
        """Return all tables; `windows` without the ranks' metrics where there is no job."""
        rows = [(*key, "", -1, values) for key, values in self._rows.items()]
        rows += list(self._ranks()) if job else []
        rows.sort(key=lambda row: (row[0], row[1], row[2], row[3], row[5]))
        tables = {"windows": _windows(rows, self.windows_count)}
        if self._events:
            tables["events"] = frame("events", {name: [row[name] for row in self._events] for name in self._events[0]})
        return all_tables(tables)

    def _ranks(self) -> Iterable[tuple[str, str, str, str, str, int, Array]]:
        count = WINDOW_S / self._step_s
        for rank, (node, device) in enumerate(product(self.nodes, self.gpus)):
            yield "skewscope_steps_total", "", node, device, "llm", rank, count
            yield "skewscope_step_seconds_total", "", node, device, "llm", rank, count * self._step_s
            waited = count * self._waiting_s[:, rank]
            yield "skewscope_collective_seconds_total", "op=all_reduce,group=dp", node, device, "llm", rank, waited


def _windows(rows: list[tuple[str, str, str, str, str, int, Array]], count: int) -> pd.DataFrame:
    if not rows:
        return frame("windows", dict.fromkeys(("t_ns", "window_ns", "metric", "samples_count"), []))
    values = np.concatenate([row[6] for row in rows])
    counters = np.repeat([is_counter(row[0]) for row in rows], count)
    known = np.isfinite(values)
    names = ("metric", "labels", "node", "device", "job", "rank")
    gauges = np.where(counters, np.nan, values)
    return frame("windows", {
        "t_ns": np.tile(EPOCH_NS + (np.arange(1, count + 1) * WINDOW_S * 1e9).astype(np.int64), len(rows))[known],
        "window_ns": int(WINDOW_S * 1e9),
        **{name: np.repeat(np.array([row[n] for row in rows], dtype=object), count)[known]
           for n, name in enumerate(names)},
        "mean_value": gauges[known], "low_value": gauges[known], "high_value": gauges[known],
        "last_value": gauges[known], "increase_value": np.where(counters, values, np.nan)[known], "samples_count": 2,
    })  # fmt: skip
