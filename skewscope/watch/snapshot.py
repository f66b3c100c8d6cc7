"""What the analysis says at one moment: made by the service, read by the pages, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .rank_times import NOBODY, RankTimes


@dataclass(frozen=True)
class Snapshot:
    """One moment: `time_ns` is the end of the window last analysed (ns since the epoch).

    `incidents` are `skewscope.incident/1` documents, the newest change first; `metrics` is a ready exposition in
    Prometheus text; `ready` holds the reasons why the service is not ready, and none when it is.
    """

    time_ns: int
    report: Mapping[str, Any]  # skewscope.report/1
    incidents: tuple[Mapping[str, Any], ...]
    metrics: bytes
    ready: tuple[str, ...] = ()
    ranks: RankTimes = NOBODY
