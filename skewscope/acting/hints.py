"""The hint that a finding brings for the training script, where one can help without anybody being fenced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..reports.recommend import recommend

LEAST_SHARE, MOST_SHARE = 0.02, 0.9  # of the step: below it is not worth a change, above it is no matter of shares
MOST_RANKS = 16_384
DIGITS = 4
Document = Mapping[str, Any]


def of_finding(finding: Document, ranks: int) -> dict[str, Any]:
    """Return what `engine` is to advise for a finding of a report or incident in a job of so many ranks, {} nothing.

    A slow rank gets as much less work as it is slower: where fixing it would take a share away from each step, it
    runs at one minus that share of the others' speed. Work that a step costs anyhow is not known here; `skewscope plan
    batch` tells it apart. For experts the hint says where to rebalance, not how: that is the planner's.

    >>> slow = {"id": "f1", "condition": "gpu-slow-silent", "role": "culprit", "confidence": 0.9,
    ...         "cost": {"share": 0.5, "gpu_hours": 1.0},
    ...         "subject": {"id": "job/rank1", "rank": 1, "peer": None, "node": "n0", "stage": None, "layer": None}}
    >>> of_finding(slow, 3)
    {'weights': [1.2, 0.6, 1.2]}
    """
    made = recommend([finding])
    action = made[0]["action"] if made else ""
    if action == "reweight":
        return _weights(finding["subject"]["rank"], ranks, float(finding["cost"]["share"]))
    if action == "rebalance-experts":
        return {"experts": {"rebalance": True, "layer": finding["subject"]["layer"]}}
    return {}


def _weights(rank: int | None, ranks: int, share: float) -> dict[str, Any]:
    if rank is None or not 0 <= rank < ranks <= MOST_RANKS or ranks < 2 or not LEAST_SHARE <= share <= MOST_SHARE:
        return {}
    speeds = [1.0] * ranks
    speeds[rank] = 1.0 - share
    mean = sum(speeds) / ranks
    return {"weights": [round(speed / mean, DIGITS) for speed in speeds]}
