"""Incidents and snapshots for tests: what is not said is as in a usual one."""

from __future__ import annotations

from typing import Any

from skewscope import subjects
from skewscope.watch.snapshot import Snapshot

SUBJECT = {"kind": "rank", "id": "llm/rank7", "rank": 7, "peer": None, "node": "n3", "stage": None, "layer": None}
assert subjects.rank("llm", 7, node="n3").id == SUBJECT["id"]


def incident(name: str = "a7", changed_ns: int = 1_000, state: str = "open", **other: Any) -> dict[str, Any]:
    return {
        "schema": "skewscope.incident/1", "id": name, "state": state, "condition": "coll-late-rank",
        "subject": SUBJECT, "job": "llm", "severity": "S2", "confidence": 0.9, "opened_ns": 1_000,
        "changed_ns": changed_ns, "closed_ns": changed_ns if state == "closed" else None,
        "cost": {"seconds_per_step": 0.5, "share": 0.2, "lost_gpus": 12.8, "gpu_hours": 3.2}, "peak_share": 0.25,
        "findings": [], "flaps": 0, "summary": "Rank 7 is late.", "advice": "Look at n3.", "runbook": "coll-late-rank",
    } | other  # fmt: skip


def snapshot(
    *incidents: dict[str, Any], report: Any = None, ready: tuple[str, ...] = (), time_ns: int = 30
) -> Snapshot:
    return Snapshot(time_ns, report or {"schema": "skewscope.report/1"}, incidents, b"skewscope_watch_up 1\n", ready)
