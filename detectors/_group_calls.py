"""How long the calls of each kind of group take at best on each rank, and what would explain that some take longer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skewscope.contracts import Finding, Frames
from skewscope.signals.impact import costs
from skewscope.signals.view import Signal, parsed, signal

from ._ports import Array, known, low_quantile, ratio
from ._prices import severity

SHORTEST, MOVED = "skewscope_collective_min_seconds", "skewscope_collective_bytes_total"
CALLS = "skewscope_collectives_total"
LEAST_SHARE = 0.005  # of the step: less is noise
LONGER_RATIO = 0.25  # of what is usual: less is noise
LINKS = ("skewscope_gpu_pcie_link_width_lanes", "skewscope_gpu_pcie_link_generation")


@dataclass(frozen=True)
class Calls:
    """One kind of call of a job: seconds at best (`told`, of its ranks), `usual` [windows], `per_step` [ranks]."""

    told: Signal
    usual: Array
    per_step: Array


def calls(tables: Frames, bytes_ratio: float) -> Iterator[Calls]:
    """Yield per job and kind of call what they take at best and what is usual.

    Usual is the middle of the ranks, now or in the best tenth of their time. Ranks that move more than `bytes_ratio`
    times the bytes of the middle are not compared.
    """
    rows = tables["windows"]
    named = rows.loc[(rows["metric"] == SHORTEST).to_numpy(), "labels"]
    for text in sorted(str(one) for one in named.unique()):
        chosen: dict[str, Any] = parsed(text)
        whole = signal(tables, SHORTEST, take="low", **chosen)
        moved = middle(whole.aligned(signal(tables, MOVED, take="increase", **chosen)))
        for job in dict.fromkeys(whole.job.tolist()):
            mine = np.flatnonzero(whole.job == job)
            larger = moved[mine] > bytes_ratio * middle(moved[mine][:, None])[0]
            told = Signal(
                whole.t_ns, whole.window_s, whole.node[mine], whole.device[mine], whole.job[mine], whole.rank[mine],
                np.where(larger, np.nan, whole.values[:, mine]),
            )  # fmt: skip
            per_step = middle(ratio(told.aligned(known(tables, CALLS, "increase", **chosen)), _steps(tables, told)))
            now = middle(told.values.T)
            yield Calls(told, np.fmin(now, middle(low_quantile(told.values, 0.1)[:, None])[0]), per_step)


def _steps(tables: Frames, told: Signal) -> Array:
    return told.aligned(known(tables, "skewscope_steps_total", "increase"))


def middle(values: Array) -> Array:
    """Return the median of what is known in each column, NaN where nothing is.

    >>> middle(np.array([[1.0, np.nan], [3.0, np.nan]])).tolist()
    [2.0, nan]
    """
    found = np.full(values.shape[1], np.nan)
    known = np.isfinite(values).any(axis=0)
    if known.any():
        found[known] = np.nanmedian(values[:, known], axis=0)
    return found


def late_share(tables: Frames, told: Signal, mask: Array) -> float:
    """Return by which share of the step some rank waits less than the middle one: the others wait for it."""
    cost, _ = costs(tables).of_device(str(told.node[0]), "")
    if cost is None or not np.isfinite(cost.waiting_s[mask]).any():
        return 0.0
    waiting_s = middle(cost.waiting_s[mask])
    return float((np.nanmedian(waiting_s) - np.nanmin(waiting_s)) / step_seconds(tables, told, mask))


def step_seconds(tables: Frames, told: Signal, mask: Array) -> float:
    """Return the step time of the job on the first of these hosts, NaN where it has none."""
    cost, _ = costs(tables).of_device(str(told.node[0]), "")
    return float(middle(cost.step_s[mask][:, None])[0]) if cost is not None else float("nan")


def narrow(tables: Frames, told: Signal, ranks: Array, mask: Array) -> bool:
    """Return whether the PCIe link of one of these ranks' GPUs is below what it can be, most of the time."""
    for metric in LINKS:
        now, most = (told.aligned(known(tables, metric, "high", kind=kind)) for kind in ("current", "max"))
        below = (now < most)[mask][:, ranks]
        if below.size and below.mean(axis=0).max() > 0.5:
            return True
    return False


def from_the_start(found: Finding, tables: Frames, node: str, mask: Array) -> Finding:
    """Return a finding without a price, for want of a time before it, priced by the calls of the ranks on a host.

    They take longer at best than those of other ranks in the same kind of group, so many times a step; the kinds of
    calls that are much longer add up, since one follows the other.
    """
    if found.lost_share >= LEAST_SHARE:
        return found
    lost_s, step_s = 0.0, float("nan")
    for one in calls(tables, bytes_ratio=np.inf):
        excess_s = middle((one.told.values - one.usual[:, None])[mask])
        excess_s = np.where(excess_s >= LONGER_RATIO * middle(one.usual[mask][:, None]), excess_s, 0.0) * one.per_step
        here = excess_s[(one.told.node == node) & np.isfinite(excess_s)]
        lost_s += float(here.max(initial=0.0))
        step_s = step_seconds(tables, one.told, mask) if (one.told.node == node).any() else step_s
    if not (lost_s > 0 and step_s > 0):
        return replace(
            found,
            lost_s=0.0,
            lost_share=0.0,
            summary=f"{found.summary}; its price is unknown, for it was so from the start",
        )
    share = min(lost_s / step_s, 1.0)
    least = min(severity(share), found.severity)
    return replace(found, lost_s=lost_s, lost_share=share, severity=least)
