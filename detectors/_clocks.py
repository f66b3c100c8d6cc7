"""Why the clocks of GPUs are low: which share of the time each reason held them, and who runs slower than its peers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from skewscope.contracts import Frames
from skewscope.signals.view import Signal, signal

from . import _live

Array = np.ndarray[Any, Any]
SECONDS = "skewscope_gpu_clock_event_seconds_total"
OBSERVED = "skewscope_gpu_clock_event_observed_seconds_total"
ACTIVE = "skewscope_gpu_clock_event_active"
SM_CLOCK, CLOCK_LIMIT = "skewscope_gpu_clock_hertz", "skewscope_gpu_clock_limit_hertz"
HOT = ("hw_thermal", "hw_power_brake", "sw_thermal", "hw_slowdown")
ONLY_SEEN = ("app_clocks", "hw_slowdown", "idle")
HELD_RATIO = 0.05  # of the time: below, a reason explains nothing (conditions A3, gpu-hw-slowdown)


def share(tables: Frames, reason: str) -> Signal:
    """Return the share of the time, 0 to 1, in which a reason held the clocks of each GPU.

    The driver's own count where it has one, else how often the reason was seen set.
    """
    names = tables["windows"]["metric"].cat.categories
    metric = OBSERVED if reason in ONLY_SEEN else SECONDS
    if metric not in names:
        return signal(tables, ACTIVE, reason=reason)
    told = signal(tables, metric, take="increase", absent=0.0, reason=reason).rate()
    return replace(told, values=np.minimum(told.values, 1.0))


def shares(tables: Frames, reasons: Sequence[str]) -> tuple[Signal, dict[str, Array]]:
    """Return (all GPUs that any reason is told of, with the greatest share; the share by reason [windows, GPUs])."""
    told = {reason: share(tables, reason) for reason in reasons}
    whole = union(list(told.values()))
    parts = {reason: whole.aligned(one) for reason, one in told.items() if len(one)}
    worst = whole.values
    for part in parts.values():
        worst = np.fmax(worst, part)
    return replace(whole, values=worst), parts


def union(told: Sequence[Signal]) -> Signal:
    """Return all GPUs of several signals, each once, with unknown values."""
    most = max(told, key=len)
    seen = set(zip(most.node.tolist(), most.device.tolist(), strict=True))
    more: list[tuple[Any, ...]] = []
    for one in told:
        for key in zip(one.node.tolist(), one.device.tolist(), one.job.tolist(), one.rank.tolist(), strict=True):
            if one is not most and key[:2] not in seen:
                seen.add(key[:2])
                more.append(key)
    added = [np.array([key[place] for key in more], dtype=object) for place in range(4)]
    names = [np.concatenate([getattr(most, name), added[place]])
             for place, name in enumerate(("node", "device", "job"))]  # fmt: skip
    rank = np.concatenate([most.rank, added[3].astype(np.int64)])
    return Signal(
        most.t_ns, most.window_s, names[0], names[1], names[2], rank, np.full((len(most.t_ns), len(rank)), np.nan)
    )


def held_back(told: Signal, tables: Frames, reasons: Sequence[str] = HOT, least_ratio: float = HELD_RATIO) -> Array:
    """Return [windows, series]: where one of these reasons holds the clocks of the GPU for a notable share."""
    whole, _ = shares(tables, reasons)
    return np.asarray(told.aligned(whole) >= least_ratio)


def sizes(groups: Array) -> Array:
    """Return [series]: how many are in the group of each.

    >>> sizes(np.array(["a", "b", "a"])).tolist()
    [2, 1, 2]
    """
    count = Counter(groups.tolist())
    return np.array([count[group] for group in groups.tolist()], dtype=np.int64)


def alike(told: Signal, tables: Frames) -> Array:
    """Return [series]: a name for GPUs of one job and one model (by their highest clock)."""
    limit = told.aligned(signal(tables, CLOCK_LIMIT, domain="sm"))
    highest = np.nan_to_num(np.fmax.reduce(limit, axis=0)) if len(limit) else np.zeros(len(told))
    names = zip(_live.roles(told, tables).tolist(), highest.tolist(), strict=True)
    return np.array([f"{job}/{clock:g}" for job, clock in names], dtype=object)
