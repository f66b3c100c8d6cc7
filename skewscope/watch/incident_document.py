"""Incidents as documents, `skewscope.incident/1`, and back: what the API serves and what a restart reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import msgspec

from ..contracts import Evidence, Finding, Window
from ..plans import plain
from ..reports.document import finding_document, subject_document
from ..reports.json_schema import INCIDENT
from ..subjects import Subject
from .incidents import Board, Incident, Seen

HOUR_S = 3600.0
Document = dict[str, Any]


def document(incident: Incident) -> Document:
    """Return the public document of an incident."""
    root, seen = incident.root, incident.seen
    found = (root, *seen.others)
    made: Document = plain({
        "schema": INCIDENT, "id": incident.id, "state": incident.state, "condition": root.condition,
        "subject": subject_document(root.subject), "job": seen.job or None, "severity": root.severity,
        "confidence": min(1.0, max(0.0, root.confidence)), "opened_ns": incident.opened_ns,
        "changed_ns": incident.changed_ns, "closed_ns": incident.closed_ns if incident.closed_ns >= 0 else None,
        "cost": {
            "seconds_per_step": max(0.0, root.lost_s), "share": min(1.0, max(0.0, root.lost_share)),
            "lost_gpus": seen.lost_gpus if seen.job else None, "gpu_hours": incident.lost_gpu_s / HOUR_S,
        },
        "peak_share": min(1.0, max(0.0, incident.peak_share)),
        "findings": [finding_document(f"f{number}", one) for number, one in enumerate(found, 1)],
        "flaps": incident.flaps, "summary": root.summary, "advice": root.advice, "runbook": root.condition,
    })  # fmt: skip
    return made


class _Forms(NamedTuple):
    """An incident and what was made of it."""

    incident: Incident
    document: Document
    saved: msgspec.Raw


class Documents:
    """The documents of a board's incidents. One that is as it was before is not made again: most are, once closed."""

    def __init__(self) -> None:
        self._board = Board()
        self._made: dict[str, _Forms] = {}

    def of(self, board: Board) -> tuple[Document, ...]:
        """Return the public documents, in the board's order; nobody may change them."""
        return tuple(made.document for made in self._forms(board))

    def saved(self, board: Board) -> Document:
        """Return a board as values that `msgspec` writes as JSON and `restored` reads."""
        return {"incidents": [made.saved for made in self._forms(board)], "time_ns": board.time_ns}

    def _forms(self, board: Board) -> list[_Forms]:
        if board is not self._board:
            before, self._board = self._made, board
            self._made = {one.id: _forms(one, before.get(one.id)) for one in board.incidents}
        return list(self._made.values())


def _forms(incident: Incident, known: _Forms | None) -> _Forms:
    if known is not None and known.incident is incident:
        return known
    return _Forms(incident, document(incident), msgspec.Raw(msgspec.json.encode(plain(asdict(incident)))))


def restored(told: Mapping[str, Any]) -> Board:
    """Return the board of what `Documents.saved` told; raises KeyError, TypeError or ValueError for anything else."""
    return Board(tuple(_incident(one) for one in told["incidents"]), int(told["time_ns"]))


def _incident(told: Mapping[str, Any]) -> Incident:
    seen = told["seen"]
    others = tuple(_finding(one) for one in seen["others"])
    return Incident(**{**told, "seen": Seen(**{**seen, "finding": _finding(seen["finding"]), "others": others})})


def _finding(told: Mapping[str, Any]) -> Finding:
    nan = {name: float("nan") for name in ("lost_s", "lost_share", "confidence") if told[name] is None}
    return Finding(**{
        **told, **nan, "subject": Subject(**told["subject"]), "window": Window(**told["window"]),
        "evidence": tuple(_evidence(one) for one in told["evidence"]), "also_seen": tuple(told["also_seen"]),
    })  # fmt: skip


def _evidence(told: Mapping[str, Any]) -> Evidence:
    return Evidence(**{**told, "value": float("nan") if told["value"] is None else told["value"]})
