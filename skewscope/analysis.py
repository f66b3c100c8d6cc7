"""The whole road from a recording to findings: attribution, every room, and what explains what."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from . import catalogue
from .attribution import attribute
from .contracts import Detector, Finding
from .errors import UsageError
from .frames import all_tables
from .moe.advice import standing
from .moe.diagnosis import diagnose, key
from .moe.layout import with_expert_ranks
from .precedence import explain
from .signals.view import remembered
from .signals.windows import windows
from .sources import Recording

HOUR_S = 3600.0
SUMMARY = ("step_time_s", "ideal_step_time_s", "slowdown", "wasted_share", "wasted_gpu_hours", "communication_share",
           "communication_hidden_share")  # fmt: skip


@dataclass(frozen=True)
class Analysis:
    """A recording, its canonical and derived tables, and what was found in it."""

    recording: Recording
    tables: dict[str, pd.DataFrame]
    findings: tuple[Finding, ...]
    explains: Mapping[int, tuple[int, ...]]
    job: dict[str, Any]
    summary: dict[str, Any]
    warnings: tuple[str, ...] = field(default_factory=tuple)


def analyze(
    recording: Recording, only: Collection[str] = (), on_fault: Callable[[str, Exception], None] | None = None
) -> Analysis:
    """Return the analysis of a recording; `only` limits the rooms that are asked to these condition ids.

    A room that fails is told to `on_fault` (condition, error) and left out; without one the error is raised.
    """
    tables, told = with_derived(recording)
    return judged(recording, tables, told, only, on_fault)


def with_derived(recording: Recording) -> tuple[dict[str, pd.DataFrame], tuple[str, ...]]:
    """Return all tables of a recording, the derived ones among them, and what attribution warns of."""
    derived = attribute(recording.tables)
    return completed(recording, derived.tables), tuple(derived.warnings)


def completed(recording: Recording, derived: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return all tables of a recording whose `derived` ones are there already."""
    given = all_tables(recording.tables)
    cut = given["windows"] if len(given["windows"]) else windows(given["samples"])
    made = {name: table for name, table in derived.items() if len(table) or not len(given[name])}
    tables = {**given, **made, "windows": cut}
    tables["ranks"] = with_expert_ranks(tables, recording.world_size, recording.parallelism)
    return tables


def judged(
    recording: Recording, tables: dict[str, pd.DataFrame], told: Collection[str], only: Collection[str] = (),
    on_fault: Callable[[str, Exception], None] | None = None,
) -> Analysis:  # fmt: skip
    """Return the analysis of a recording whose `tables` are all there; `told` are the warnings of attribution."""
    asked = [catalogue.room("detectors", name) for name in only] or catalogue.rooms("detectors")
    found: list[Finding] = []
    for room in asked:
        try:
            detector: Detector = room.load()
            if any(len(tables[name]) for name in detector.needs):  # else there is nothing to find it in
                found.extend(detector.detect(tables))
        except Exception as error:
            if on_fault is None:
                raise
            on_fault(room.id, error)
    explained = explain(found)
    job = _job(recording, tables)
    dearest_s = max((finding.lost_s for finding in explained.findings if finding.role == "culprit"), default=0.0)
    summary = _summary(job, tables, dearest_s)
    peers = _peers(tables)
    summary["verdict"] = verdict(explained.findings, summary, peers)
    if peers < 2 and all(finding.role != "culprit" for finding in explained.findings):
        summary["verdict"] = _experts(tables) or summary["verdict"]
    warnings = (*recording.warnings, *told)
    return Analysis(recording, tables, explained.findings, explained.explains, job, summary, warnings)


def _job(recording: Recording, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Return the report's `job`: ranks (by declaration, else seen), steps, times, parallelism."""
    seen = [table["rank"].to_numpy() for name, table in tables.items() if "rank" in table and name != "blame"]
    ranks = np.unique(np.concatenate(seen)) if seen else np.zeros(0)
    times = tables["step_times"]
    starts = [int(part.min()) for part in _times(tables, "start_ns", "ready_ns") if len(part)]
    ends = [int(part.max()) for part in _times(tables, "end_ns", "ready_ns") if len(part)]
    return {
        "ranks": max(recording.world_size, int((ranks >= 0).sum())),
        "steps": len(times) or int(tables["steps"]["step"].nunique()),
        "start_ns": min(starts, default=-1), "end_ns": max(ends, default=-1),
        "parallelism": dict(recording.parallelism),
    }  # fmt: skip


def _times(tables: Mapping[str, pd.DataFrame], *columns: str) -> list[Any]:
    parts = [tables[name][column] for name in ("steps", "ops", "collectives") for column in columns
             if column in tables[name]]  # fmt: skip
    return [part[part > 0] for part in parts]


def _summary(job: Mapping[str, Any], tables: Mapping[str, pd.DataFrame], dearest_s: float = 0.0) -> dict[str, Any]:
    """Return the report's `summary` without the verdict; None where the recording does not show it.

    The ideal step is no longer than the repair of the dearest culprit alone would make it (`dearest_s` shorter): steps
    whose inside was not recorded have no better ideal than themselves, but metrics may know what holds them up.
    """
    times = tables["step_times"]
    judged = times[~times["planned"].to_numpy()]
    length = judged["duration_ns"].to_numpy() / 1e9
    length = length[np.isfinite(length)]
    if not len(length):
        return dict.fromkeys(SUMMARY)
    both = judged[(judged["replay_ns"].notna() & judged["ideal_ns"].notna()).to_numpy()]
    slowdown = ideal = wasted = None
    rows = tables["rank_steps"]
    in_flight, hidden = float(rows["comm_ns"].sum()), float(rows["hidden_ns"].sum(min_count=1))
    measured = float((rows["end_ns"] - rows["start_ns"]).sum())
    if len(both) and both["ideal_ns"].sum() > 0:
        mean_s = float(length.mean())
        slowdown = max(1.0, float(both["replay_ns"].sum() / both["ideal_ns"].sum()))
        if 0 < mean_s - dearest_s < mean_s / slowdown:
            slowdown = mean_s / (mean_s - dearest_s)
        ideal = mean_s / slowdown
        wasted = 1.0 - 1.0 / slowdown
    return {
        "step_time_s": {"mean": float(length.mean()), "p50": float(np.median(length)),
                        "p99": float(np.quantile(length, 0.99))},
        "ideal_step_time_s": ideal, "slowdown": slowdown, "wasted_share": wasted,
        "wasted_gpu_hours": wasted * float(length.sum()) * job["ranks"] / HOUR_S if wasted is not None else None,
        "communication_share": in_flight / measured if measured > 0 and in_flight > 0 else None,
        "communication_hidden_share": hidden / in_flight if in_flight > 0 and np.isfinite(hidden) else None,
    }  # fmt: skip


def _peers(tables: Mapping[str, pd.DataFrame]) -> int:
    """Return how many ranks the recording lets us compare."""
    seen = (tables[name]["rank"] for name in ("rank_steps", "arrivals", "windows"))
    return max(int(ranks[ranks >= 0].nunique()) for ranks in seen)


def _experts(tables: Mapping[str, pd.DataFrame]) -> str:
    """Return what can be said of recorded loads of experts where no ranks can be compared; "" where none are there."""
    if not len(tables["expert_loads"]):
        return ""
    try:
        return standing(remembered(tables["expert_loads"], key(tables), lambda: diagnose(tables)))
    except UsageError:
        return ""


def verdict(findings: Collection[Finding], summary: Mapping[str, Any], peers: int) -> str:
    """Return one sentence a person can act on; `peers` is how many ranks could be compared.

    >>> verdict([], {"step_time_s": {"mean": 1.0}}, 1)
    'Cannot be decided: only one rank was recorded, and a slow rank shows only beside its peers.'
    """
    culprits = [finding for finding in findings if finding.role == "culprit"]
    if culprits:
        first = culprits[0]
        more = f" ({len(culprits) - 1} more below)" if len(culprits) > 1 else ""
        return f"{first.condition}: {first.summary}{more}."
    undecided = [finding for finding in findings if finding.role == "context" and finding.severity != "S4"]
    if peers < 2:
        alone = "only one rank was recorded" if peers else "no rank's steps or collectives were recorded"
        beside = f" But {undecided[0].condition}: {undecided[0].summary}." if undecided else ""
        return f"Cannot be decided: {alone}, and a slow rank shows only beside its peers.{beside}"
    if undecided:
        return f"Nobody is at fault; {undecided[0].condition}: {undecided[0].summary}."
    return "Nobody is slow: no rank, stage or link stands out from its peers."
