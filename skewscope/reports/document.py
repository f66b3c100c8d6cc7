"""Builds the public document `skewscope.report/1` from an analysis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from ..contracts import ROLES, Evidence, Finding, Window
from ..plans import plain
from ..subjects import Subject
from . import moe_section, who_when
from .recommend import recommend

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "skewscope.report/1"
Document = dict[str, Any]


class InputLike(Protocol):
    """One input file as the sources tell of it."""

    path: str
    format: str
    rank: int
    events: int
    status: str
    error: str


class RecordingLike(Protocol):
    """What was read."""

    @property
    def inputs(self) -> Sequence[Any]:
        """The input files, each an `InputLike`."""

    @property
    def world_size(self) -> int:
        """Ranks of the whole job, -1 where unknown."""


class Analysed(Protocol):
    """What an analysis holds that a report tells."""

    @property
    def recording(self) -> RecordingLike:
        """What was read."""

    @property
    def tables(self) -> Mapping[str, pd.DataFrame]:
        """Canonical and derived tables."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong."""

    @property
    def explains(self) -> Mapping[int, tuple[int, ...]]:
        """Places of findings to the places of those that they explain."""

    @property
    def job(self) -> Mapping[str, Any]:
        """Ranks, steps, start_ns, end_ns, parallelism."""

    @property
    def summary(self) -> Mapping[str, Any]:
        """Step times, slowdown, waste and verdict."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader should know."""


def document(analysis: Analysed) -> Document:
    """Return the `skewscope.report/1` document of an analysis: plain JSON values, NaN and infinity as null."""
    job = dict(analysis.job)
    ranks = max(analysis.recording.world_size, job.get("ranks") or 0)
    order = in_order(analysis.findings)
    names = {place: f"f{number}" for number, place in enumerate(order, start=1)}
    findings = [
        _finding(names[place], analysis.findings[place], job.get("steps") or 0, ranks)
        | {"explains": [names[other] for other in sorted(analysis.explains.get(place, ()), key=order.index)]}
        for place in order
    ]
    made: Document = {
        "schema": SCHEMA,
        "inputs": [_input(item) for item in analysis.recording.inputs],
        "job": _job(job),
        "summary": _summary(analysis.summary),
        "findings": findings,
        "recommendations": recommend(findings),
        "steps": who_when.slowest_per_step(analysis.tables),
        "collectives": who_when.last_per_call(analysis.tables),
        "warnings": list(dict.fromkeys(analysis.warnings)),
    }
    if experts := moe_section.section(analysis.tables):
        made["moe"] = experts
    plain_document: Document = plain(made)
    return plain_document


def in_order(findings: Sequence[Finding]) -> list[int]:
    """Return the places of findings by severity, then cost; culprits first among equals."""

    def rank(place: int) -> tuple[str, float, float, int, str, str]:
        found = findings[place]
        cost = -_finite(found.lost_s), -_finite(found.lost_once_s)
        return found.severity, *cost, ROLES.index(found.role), found.condition, found.subject.id

    return sorted(range(len(findings)), key=rank)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _known(number: int) -> int | None:
    return None if number < 0 else number


def _input(item: InputLike) -> Document:
    return {
        "path": str(item.path), "format": item.format or None, "rank": _known(item.rank), "events": max(0, item.events),
        "status": item.status, "error": item.error or None,
    }  # fmt: skip


def _job(job: Mapping[str, Any]) -> Document:
    keys = ("ranks", "steps", "start_ns", "end_ns", "parallelism")
    return {**{key: job.get(key) for key in keys}, "parallelism": dict(job.get("parallelism") or {})}


def _summary(summary: Mapping[str, Any]) -> Document:
    times = summary.get("step_time_s") or {}
    keys = ("ideal_step_time_s", "slowdown", "wasted_share", "wasted_gpu_hours", "communication_share",
            "communication_hidden_share")  # fmt: skip
    return {
        "step_time_s": {key: times.get(key) for key in ("mean", "p50", "p99")},
        **{key: summary.get(key) for key in keys},
        "verdict": str(summary.get("verdict") or "The recording holds nothing that a verdict could rest on."),
    }


def _finding(name: str, found: Finding, steps: int, ranks: int) -> Document:
    lost_s, once_s = _finite(found.lost_s), _finite(found.lost_once_s)
    return {
        "id": name,
        "condition": found.condition,
        "subject": subject_document(found.subject),
        "role": found.role,
        "severity": found.severity,
        "confidence": min(1.0, max(0.0, _finite(found.confidence))),
        "window": _window(found.window),
        "cost": {
            "seconds_per_step": lost_s,
            "share": min(1.0, max(0.0, _finite(found.lost_share))),
            "gpu_hours": (lost_s * _steps_hit(found.window, steps) + once_s) * ranks / 3600,
            "seconds_once": once_s,
        },
        "evidence": [_evidence(signal) for signal in found.evidence],
        "also_seen": list(found.also_seen),
        "runbook": found.condition,
        "summary": found.summary,
        "advice": found.advice,
    }


def finding_document(name: str, found: Finding) -> Document:
    """Return one finding as reports show it, outside of a report: it explains nothing there and costs no hours."""
    return _finding(name, found, 0, 0) | {"explains": []}


def _steps_hit(window: Window, steps: int) -> int:
    """Return over how many of the measured steps a finding costs: those of its window, at most all."""
    if window.first_step < 0 or window.last_step < window.first_step:
        return steps
    return min(steps, window.last_step - window.first_step + 1)


def subject_document(subject: Subject) -> Document:
    """Return a subject as reports show it: null for what is unknown."""
    return {
        "kind": subject.kind, "id": subject.id, "rank": _known(subject.rank), "peer": _known(subject.peer),
        "node": subject.node or None, "stage": _known(subject.stage), "layer": _known(subject.layer),
    }  # fmt: skip


def _window(span: Window) -> Document:
    return {key: _known(int(value)) for key, value in asdict(span).items()}


def _evidence(signal: Evidence) -> Document:
    return asdict(signal)
