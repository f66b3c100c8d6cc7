"""Describes the API of `watch` as an OpenAPI 3.1 document, out of the schemas that the documents themselves have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..reports.json_schema import INCIDENT_STATES, Schema, schema

VERSION = "1.0.0"  # of the API: a change that breaks a client gets /api/v2
INCIDENTS = "skewscope.incidents/1"
CONDITIONS = "skewscope.conditions/1"
JSON, PROBLEM, PLAIN, EVENTS = "application/json", "application/problem+json", "text/plain", "text/event-stream"
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}

DESCRIPTION = """What the analysis of a running fleet says: the current report, the incidents and their life, the
catalogue of conditions, and a stream of what changes. Times are integer nanoseconds since the Unix epoch, costs are in
seconds, shares are 0..1. Fields may be added within a version; clients ignore those that they do not know."""

EVENTS_DESCRIPTION = """A stream of server-sent events. `incident` carries an incident as it now is, each time that its
state or another thing worth telling changed. `reset` says that it cannot be told what was missed: ask
`/api/v1/incidents` again. After a lost connection the header `Last-Event-ID` (or `after`) goes on where it ended, also
over a restart of the service. To miss nothing, ask for the incidents first and go on after their `last_event`. The
stream ends after 15 minutes and when the service stops; ask again. Few streams are served at once; 503 says that all
are taken."""


def document() -> dict[str, Any]:
    """Return the OpenAPI document.

    >>> document()["openapi"]
    '3.1.0'
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "skewscope watch", "version": VERSION, "description": _line(DESCRIPTION),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "this service"}],
        "security": [{}, {"basic": []}],
        "tags": [{"name": "analysis"}, {"name": "service"}],
        "paths": {path: {"get": operation} for path, operation in _paths().items()},
        "components": {
            "schemas": _schemas(),
            "responses": _problems(),
            "securitySchemes": {"basic": {
                "type": "http", "scheme": "basic",
                "description": "asked for where the web configuration file names users",
            }},
        },
    }  # fmt: skip


def _paths() -> Mapping[str, dict[str, Any]]:
    name = {"name": "id", "in": "path", "required": True, "schema": TEXT}
    after = {"name": "after", "in": "query", "schema": TEXT, "description": "an event's id, or `last_event`"}
    resume = {"name": "Last-Event-ID", "in": "header", "schema": TEXT, "description": "as `after`; sent by browsers"}
    return {
        "/": _service("index", "The paths that are answered", {"200": _is(PLAIN, TEXT)}),
        "/metrics": _service("metrics", "Findings and the health of the service, for Prometheus",
                             {"200": _is(PLAIN, TEXT), "503": _problem("Waiting")}),
        "/healthz": _service("healthz", "Whether the analysis goes round", _yes_or_no()),
        "/readyz": _service("readyz", "Whether the analysis has fresh data; if not, why", _yes_or_no()),
        "/api/v1/report": _analysis("report", "The current report", _of("Report", "Wrong", "Waiting"), []),
        "/api/v1/incidents": _analysis("incidents", "The incidents, the newest change first",
                                       _of("Incidents", "Wrong", "Waiting"), _filters()),
        "/api/v1/incidents/{id}": _analysis("incident", "One incident",
                                            _of("Incident", "Wrong", "Unknown", "Waiting"), [name]),
        "/api/v1/ranks": _analysis("ranks", "The step, the waiting and the own work of every rank, of the last windows",
                                   _of("Ranks", "Wrong", "Waiting"), []),
        "/api/v1/conditions": _analysis("conditions", "The catalogue of conditions", _of("Conditions", "Wrong"), []),
        "/api/v1/conditions/{id}": _analysis("condition", "One condition",
                                             _of("Condition", "Wrong", "Unknown"), [name]),
        "/api/v1/acts": _analysis("acts", "What was done on schedulers, what waits for approval, limits and breaker",
                                  _of("Acts", "Wrong", "Unknown"), []),
        "/api/v1/events": _analysis("events", "What changes, as it changes", {
            "200": _is(EVENTS, {**TEXT, "x-events": {"incident": {"$ref": _ref("Incident")},
                                                     "reset": {"$ref": _ref("Reset")}}}),
            "400": _problem("Wrong"), "503": _problem("Full"),
        }, [after, resume], _line(EVENTS_DESCRIPTION)),
        "/api/v1/openapi.json": _service("openapi", "This document", {"200": _is(JSON, {"type": "object"})}),
    }  # fmt: skip


def _filters() -> list[dict[str, Any]]:
    told = {
        "state": {"enum": list(INCIDENT_STATES), "type": "string"},
        "job": TEXT,
        "condition": TEXT,
    }
    return [
        {"name": name, "in": "query", "style": "form", "explode": False, "schema": {"type": "array", "items": one},
         "description": f"only incidents with this {name}, or with one of several"}
        for name, one in told.items()
    ]  # fmt: skip


def _schemas() -> dict[str, Schema]:
    report, incident, ranks, act = (
        {k: v for k, v in schema(name).items() if k != "$schema"}
        for name in ("report", "incident", "rank-times", "action")
    )
    condition = _object({
        "id": TEXT, "title": TEXT, "category": TEXT,
        "severity": {**TEXT, "description": "S1..S4, a range, or `by cost`"},
        "needs": {"type": "array", "items": TEXT, "description": "the tables that it reads"},
        "page": {**TEXT, "description": "what it means, how it is seen, what to do: the runbook"},
        "alert": {"oneOf": [{"type": "null"}, _object({
            "alert": TEXT, "expr": TEXT, "for_s": COUNT, "severity": TEXT, "summary": TEXT, "description": TEXT,
        })]},
    })  # fmt: skip
    event = {**TEXT, "description": "the id of the latest event, empty before the first"}
    return {
        "Report": report,
        "Incident": incident,
        "Incidents": _object({
            "schema": {"const": INCIDENTS}, "time_ns": {**COUNT, "description": "end of the window last analysed"},
            "last_event": event, "incidents": {"type": "array", "items": {"$ref": _ref("Incident")}},
        }),
        "Ranks": ranks,
        "Condition": condition,
        "Conditions": _object({
            "schema": {"const": CONDITIONS},
            "conditions": {"type": "array", "items": {"$ref": _ref("Condition")}},
        }),
        "Act": act,
        "Acts": acts_schema(),
        "Reset": _object({"last_event": event}),
        "Problem": _object({"status": COUNT, "detail": TEXT}),
    }  # fmt: skip


STATUSES = {"Wrong": "400", "Unknown": "404", "Waiting": "503"}


def acts_schema() -> Schema:
    """Return the schema of `skewscope.acts/1`."""
    acts = {"type": "array", "items": {"$ref": _ref("Act")}}
    by_name = {"type": "object", "description": "by scheduler"}
    return _object({
        "schema": {"const": "skewscope.acts/1"}, "time_ns": COUNT, "turned_ns": {"type": "integer"},
        "holder": {**TEXT, "description": "who holds the lease"}, "mine": {"type": "boolean"},
        "policy": TEXT, "head": {**TEXT, "description": "the hash of the audit's last line"}, "modes": by_name,
        "dry_run": by_name, "breaker": {**TEXT, "description": "why it is open, empty where it is not"},
        "budget": by_name, "troubles": by_name, "waiting": acts, "standing": acts, "trust": {"type": "object"},
        "records": {**acts, "description": "the latest 200, the oldest first"},
    })  # fmt: skip


def _problems() -> dict[str, Any]:
    kind = {PROBLEM: {"schema": {"$ref": _ref("Problem")}}}
    return {
        "Wrong": {"description": "a parameter is none, or has a value that it cannot have", "content": kind},
        "Unknown": {"description": "there is none of this id", "content": kind},
        "Waiting": {"description": "no window has been analysed yet", "content": kind},
        "Full": {"description": "all streams are taken", "content": {PLAIN: {"schema": TEXT}}},
    }


def _problem(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/responses/{name}"}


def _of(name: str, *problems: str) -> dict[str, Any]:
    return {"200": _is(JSON, {"$ref": _ref(name)}), **{STATUSES[one]: _problem(one) for one in problems}}


def _is(kind: str, made: Schema) -> dict[str, Any]:
    return {"description": "as asked", "content": {kind: {"schema": made}}}


def _yes_or_no() -> dict[str, Any]:
    return {"200": _is(PLAIN, TEXT), "503": {"description": "no, and why", "content": {PLAIN: {"schema": TEXT}}}}


def _service(name: str, summary: str, answers: dict[str, Any]) -> dict[str, Any]:
    return {"operationId": name, "tags": ["service"], "summary": summary, "responses": answers}


def _analysis(
    name: str, summary: str, answers: dict[str, Any], parameters: list[dict[str, Any]], description: str = ""
) -> dict[str, Any]:
    made: dict[str, Any] = {"operationId": name, "tags": ["analysis"], "summary": summary, "responses": answers}
    if parameters:
        made["parameters"] = parameters
    return {**made, "description": description} if description else made


def _object(parts: dict[str, Schema]) -> Schema:
    return {"type": "object", "properties": parts, "required": list(parts)}


def _ref(name: str) -> str:
    return f"#/components/schemas/{name}"


def _line(text: str) -> str:
    return " ".join(text.split())
