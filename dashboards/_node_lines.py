"""What one host's devices told over time: which metrics are shown, how they are read, what is odd about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skewscope.signals.view import Signal, signal

from ._view import View

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Line:
    """One metric of a device: how it is taken, in which unit it is shown, and whether more or less of it is worse."""

    title: str
    metric: str
    take: str
    unit: str
    factor: float = 1.0
    labels: dict[str, Any] = field(default_factory=dict)
    worse: int = 1  # 1: more is worse, -1: less is worse
    rate: bool = False


GPU = (
    Line("SM clock", "skewscope_gpu_clock_hertz", "mean", "GHz", 1e-9, {"domain": "sm"}, -1),
    Line("SM active", "skewscope_gpu_sm_active_ratio", "mean", "%", 100, {}, -1),
    Line("power", "skewscope_gpu_power_watts", "mean", "W", 1, {"kind": "average"}),
    Line("temperature", "skewscope_gpu_temperature_celsius", "high", "C", 1, {"sensor": "gpu"}),
    Line("memory in use", "skewscope_gpu_memory_used_bytes", "mean", "GB", 1e-9),
    Line("PCIe to GPU", "skewscope_gpu_pcie_receive_bytes_total", "increase", "GB/s", 1e-9, {}, 1, True),
    Line("NVLink sent", "skewscope_gpu_nvlink_transmit_bytes_total", "increase", "GB/s", 1e-9, {}, -1, True),
)
NIC = (
    Line("sent", "skewscope_rdma_transmit_bytes_total", "increase", "GB/s", 1e-9, {}, -1, True),
    Line("received", "skewscope_rdma_receive_bytes_total", "increase", "GB/s", 1e-9, {}, -1, True),
    Line("rate", "skewscope_rdma_rate_bytes_per_second", "low", "GB/s", 1e-9, {}, -1),
    Line("up", "skewscope_rdma_port_up", "low", "", 1, {"layer": "logical"}, -1),
    Line("retransmissions", "skewscope_rdma_retransmissions_total", "increase", "1/s", 1, {}, 1, True),
    Line("errors", "skewscope_rdma_errors_total", "increase", "1/s", 1, {}, 1, True),
)
HOST = (
    Line("CPU pressure", "skewscope_host_pressure_seconds_total", "increase", "%", 100,
         {"resource": "cpu", "kind": "some"}, 1, True),
    Line("memory pressure", "skewscope_host_pressure_seconds_total", "increase", "%", 100,
         {"resource": "memory", "kind": "some"}, 1, True),
    Line("input and output pressure", "skewscope_host_pressure_seconds_total", "increase", "%", 100,
         {"resource": "io", "kind": "some"}, 1, True),
    Line("major faults", "skewscope_host_major_faults_total", "increase", "1/s", 1, {}, 1, True),
    Line("clock offset", "skewscope_host_clock_offset_seconds", "high", "ms", 1e3),
)  # fmt: skip
REASONS = ("skewscope_gpu_clock_event_seconds_total", "skewscope_gpu_clock_event_observed_seconds_total")
HARMLESS = ("idle", "app_clocks")


def told(view: View, line: Line, keep: Callable[[Signal], Array] | None = None) -> Signal | None:
    """Return a metric in the unit it is shown in, all series or those that `keep` [series] marks; None without any."""
    windows = view.tables.get("windows")
    if windows is None or not len(windows) or line.metric not in windows["metric"].cat.categories:
        return None
    found = signal(view.tables, line.metric, take=line.take, **line.labels)
    some = keep(found) if keep is not None else np.ones(len(found), dtype=bool)
    values = found.values[:, some] / (found.window_s if line.rate else 1.0) * line.factor
    if not values.size or not np.isfinite(values).any():
        return None
    return Signal(found.t_ns, found.window_s, found.node[some], found.device[some], found.job[some], found.rank[some],
                  values)  # fmt: skip


def of_node(view: View, line: Line, node: str) -> Signal | None:
    """Return a metric of the devices of one host."""
    return told(view, line, lambda found: np.asarray(found.node.astype(str) == node))


def usual(view: View, line: Line) -> float:
    """Return the median of a metric over all devices of all hosts; NaN where nobody tells it."""
    found = told(view, line)
    return float("nan") if found is None else float(np.nanmedian(found.values))


def medians(found: Signal) -> Array:
    """Return the median of each series, NaN where it told nothing; [series]."""
    return np.array([np.median(line[np.isfinite(line)]) if np.isfinite(line).any() else np.nan
                     for line in found.values.T])  # fmt: skip


def said(value: float, line: Line) -> str:
    """Return a value with its unit.

    >>> said(1.98, GPU[0]), said(float("nan"), GPU[0])
    ('1.98 GHz', '-')
    """
    return f"{value:.3g} {line.unit}".strip() if np.isfinite(value) else "-"
