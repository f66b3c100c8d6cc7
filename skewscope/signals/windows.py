"""Samples of metrics cut into windows: what a gauge showed, how much a counter grew."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from skewscope.frames import empty, frame
from skewscope.metrics import METRICS

Array = np.ndarray[Any, Any]
WINDOW_S = 30.0
SERIES = ("metric", "labels", "node", "device", "job", "rank")
WRAP = 1 << 32  # adapters keep many counters in 32 bits
PARTS = ("_bucket", "_sum", "_count")
_KINDS = {metric.name: metric.kind for metric in METRICS}


def windows(samples: pd.DataFrame, window_s: float = WINDOW_S) -> pd.DataFrame:
    """Return the table `windows` of a table `samples`; windows end at multiples of `window_s`.

    The growth between two samples counts in the window of the later one. A counter that falls has begun anew, or has
    wrapped where it stood high in its 32 bits; what it lost in between is not known. A sample that is no number, or
    that repeats a time, is left out.
    """
    told = samples[(np.isfinite(samples["value"].to_numpy()) & (samples["t_ns"] >= 0)).to_numpy()]
    if not len(told):
        return empty("windows")
    series, first = _series(told)
    order = np.lexsort((told["t_ns"].to_numpy(), series))
    series, t_ns, values = series[order], told["t_ns"].to_numpy()[order], told["value"].to_numpy()[order]
    fresh = np.concatenate(([True], (np.diff(series) != 0) | (np.diff(t_ns) != 0)))
    series, t_ns, values = series[fresh], t_ns[fresh], values[fresh]
    window_ns = int(window_s * 1e9)
    ends_ns = -(-t_ns // window_ns) * window_ns
    begins = np.flatnonzero(np.concatenate(([True], (np.diff(series) != 0) | (np.diff(ends_ns) != 0))))
    heads = told.iloc[first[series[begins]]]
    counters = _counters(heads["metric"])
    return frame("windows", {
        "t_ns": ends_ns[begins], "window_ns": window_ns,
        **{name: heads[name].array if name != "rank" else heads[name].to_numpy() for name in SERIES},
        **_gauges(values, begins, counters),
        "last_value": values[np.concatenate((begins[1:], [len(values)])) - 1],
        "increase_value": np.where(counters, np.add.reduceat(growth(series, values), begins), np.nan),
        "samples_count": np.diff(np.concatenate((begins, [len(values)]))),
    })  # fmt: skip


def _series(told: pd.DataFrame) -> tuple[Array, Array]:
    """Return (number of each row's series, first row of each series), numbered in the order of the names."""
    codes = [_ranked(told[name]) for name in SERIES]
    order = np.lexsort(codes[::-1])
    change = np.concatenate(([False], np.any([np.diff(code[order]) != 0 for code in codes], axis=0)))
    numbers = np.empty(len(told), dtype=np.int64)
    numbers[order] = np.cumsum(change)
    first = order[np.concatenate(([0], np.flatnonzero(change)))]
    return numbers, first


def _ranked(column: pd.Series) -> Array:
    """Return numbers that sort as the values do."""
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return column.to_numpy()
    names = column.cat.categories.astype(str)
    rank = np.empty(len(names), dtype=np.int64)
    rank[np.argsort(names.to_numpy().astype(str), kind="stable")] = np.arange(len(names))
    return rank[column.cat.codes.to_numpy()]


def _gauges(values: Array, begins: Array, counters: Array) -> dict[str, Array]:
    counts = np.diff(np.concatenate((begins, [len(values)])))
    found = {
        "mean_value": np.add.reduceat(values, begins) / counts,
        "low_value": np.minimum.reduceat(values, begins),
        "high_value": np.maximum.reduceat(values, begins),
    }
    return {name: np.where(counters, np.nan, column) for name, column in found.items()}


def growth(series: Array, values: Array) -> Array:
    """Return how much each sample stands above the one before; 0 for the first of a series."""
    step = np.diff(values, prepend=values[:1])
    before = values - step
    fell = step < 0
    wrapped = fell & (before >= WRAP / 2) & (before < WRAP) & (step + WRAP < WRAP / 2)
    step = np.where(wrapped, step + WRAP, np.where(fell, values, step))
    step[np.concatenate(([True], np.diff(series) != 0))] = 0.0
    return step


def _counters(metric: pd.Series) -> Array:
    kinds = np.array([is_counter(str(name)) for name in metric.cat.categories], dtype=bool)
    found: Array = kinds[metric.cat.codes.to_numpy()]
    return found


@cache
def is_counter(name: str) -> bool:
    """Return whether a sample name only grows: a counter, or a part of a histogram or summary.

    >>> is_counter("skewscope_gpu_energy_joules_total"), is_counter("skewscope_gpu_power_watts")
    (True, False)
    """
    kind = _KINDS.get(name)
    if kind is not None:
        return kind == "counter"
    base = next((name.removesuffix(part) for part in PARTS if name.endswith(part)), name)
    return _KINDS.get(base) in ("histogram", "summary") or name.endswith("_total")
