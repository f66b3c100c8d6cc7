"""What rooms that read live metrics share: a finding about one device, its price, and who its peers are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from skewscope.contracts import SEVERITIES, Evidence, Finding, Frames
from skewscope.signals.impact import costs
from skewscope.signals.view import Signal, signal
from skewscope.subjects import Subject

from ._prices import severity

Array = np.ndarray[Any, Any]
BUSY_RATIO = 0.5  # below, a GPU does not say how fast it could be: clocks and links rest when it idles
UTILIZATION = "skewscope_gpu_utilization_ratio"


def finding(
    condition: str, tables: Frames, told: Signal, column: int, mask: Array, *, role: str, evidence: Iterable[Evidence],
    summary: str, advice: str, least: str = "S4", confidence: float = 0.9, subject: Subject | None = None,
    ranks: Sequence[int] | None = None, stalls: bool = False,
) -> Finding:  # fmt: skip
    """Return the finding about one series of `told` in the windows of `mask` [windows].

    Its price is what the ranks on that device cost their job; `ranks` says whose it is instead, () for what slows all
    ranks alike (a link), and `stalls` that it stops the job for moments. Severity follows the share lost and is at
    least `least`. The summary gets the price.
    """
    node, device = str(told.node[column]), str(told.device[column])
    cost, here = costs(tables).of_device(node, device if device.startswith("gpu") else "")
    lost_s, share = 0.0, 0.0
    if cost is not None:
        lost_s, share = cost.stalled(mask) if stalls else cost.lost(here if ranks is None else ranks, mask)
    by_loss = severity(share) if share > 0 else "S4"
    priced = f"{summary}; the job loses {lost_s * 1e3:.1f} ms ({share:.0%}) of each step" if lost_s > 0 else summary
    subject = subject or told.subject(column)
    if subject.kind == "gpu" and subject.rank < 0 and len(here) == 1:
        subject = replace(subject, rank=here[0])
    return Finding(
        condition=condition, subject=subject, role=role,
        severity=min(by_loss, least, key=SEVERITIES.index), confidence=confidence, window=told.window(mask),
        lost_s=lost_s, lost_share=share, evidence=tuple(evidence), summary=priced, advice=advice,
    )  # fmt: skip


def columns(mask: Array) -> Iterator[int]:
    """Yield the series in which `mask` [windows, series] is ever True."""
    yield from np.flatnonzero(mask.any(axis=0)).tolist()


def mean_in(values: Array, mask: Array) -> float:
    """Return the mean of known values in the windows of `mask`, NaN where there are none.

    >>> mean_in(np.array([1.0, np.nan, 3.0]), np.array([True, True, False]))
    1.0
    """
    some = values[mask & np.isfinite(values)]
    return float(some.mean()) if len(some) else float("nan")


def roles(told: Signal, tables: Frames) -> Array:
    """Return [series]: a name for those that do the same work: the GPUs of one job, else those of the whole fleet."""
    jobs: dict[tuple[str, str], str] = {}
    for cost in costs(tables).jobs.values():
        for node, device in zip(cost.node.tolist(), cost.device.tolist(), strict=True):
            jobs.setdefault((node, device), cost.job)
            jobs.setdefault((node, ""), cost.job)
    places = zip(told.node.tolist(), told.device.tolist(), strict=True)
    found = [jobs.get((node, device if str(device).startswith("gpu") else ""), "") for node, device in places]
    return np.array(found, dtype=object)


def busy(told: Signal, tables: Frames, least_ratio: float = BUSY_RATIO) -> Array:
    """Return [windows, series]: where the GPU of a series computes; True where its utilization is not told."""
    ratio = told.aligned(signal(tables, UTILIZATION))
    found: Array = ~(ratio < least_ratio)
    return found
