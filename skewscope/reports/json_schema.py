"""JSON Schemas (2020-12) of the documents that skewscope writes and of its canonical tables."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from typing import Any

from .. import tables
from ..catalogue import rooms
from ..contracts import ROLES, SEVERITIES
from ..errors import UsageError
from ..subjects import KINDS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REPORT = "skewscope.report/1"
BENCH = "skewscope.bench/1"
INCIDENT = "skewscope.incident/1"
PLAN = "skewscope.plan.NAME/1"
INCIDENT_STATES = ("open", "growing", "mitigated", "closed")
ARROW = {"i64": "int64", "i32": "int32", "i16": "int16", "f64": "double", "str": "dictionary<string>", "bool": "bool"}
JSON = {"i64": "integer", "i32": "integer", "i16": "integer", "f64": "number", "str": "string", "bool": "boolean"}

Schema = dict[str, Any]

NUMBER: Schema = {"type": "number"}
MAYBE_NUMBER: Schema = {"type": ["number", "null"]}
MAYBE_WHOLE: Schema = {"type": ["integer", "null"], "minimum": 0}
COUNT: Schema = {"type": "integer", "minimum": 0}
MAYBE_SHARE: Schema = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
TEXT: Schema = {"type": "string"}
MAYBE_TEXT: Schema = {"type": ["string", "null"]}

ADDED = ("steps", "collectives", "warnings", "moe")  # beyond the contract: who was slowest when, and what to know


def names() -> list[str]:
    """Return every name that `schema` knows.

    >>> names()[0]
    'skewscope.report/1'
    """
    return [*_documents(), *tables.names()]


def _documents() -> dict[str, Callable[[], Schema]]:
    from . import action_schema, compare_schema, look_alikes_schema, replay_schema, site_schema, view_schema

    own = {REPORT: report, BENCH: bench, INCIDENT: incident, PLAN: plan}
    acting = {"action": action_schema.parts, "retest": replay_schema.retest, "replay": replay_schema.replay}
    parts = {"look_alikes": look_alikes_schema.look_alikes, **acting, **site_schema.SITE, "view": view_schema.schema,
             **compare_schema.RUNS}  # fmt: skip
    return {**own, **{f"skewscope.{name}/1": partial(_headed, name, made) for name, made in parts.items()}}


def _headed(name: str, parts: Callable[[], Schema]) -> Schema:
    return {"$schema": DIALECT, "$id": f"urn:skewscope:{name}:1", "title": f"skewscope.{name}/1", **parts()}


def schema(name: str) -> Schema:
    """Return the JSON Schema of a document or canonical table; raises UsageError that lists the names.

    >>> schema("report")["title"]
    'skewscope.report/1'
    """
    documents = _documents()
    short = {full.split(".")[1].split("/")[0]: full for full in documents}
    if made := documents.get(short.get(name, PLAN if name in _plans() else name)):
        return made()
    if name in tables.names():
        return table(name)
    near = get_close_matches(name, [*names(), *short], n=3)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    raise UsageError(f"no schema is called {name!r}; {hint}names are {', '.join(names())}")


def table(name: str) -> Schema:
    """Return the JSON Schema of a canonical table's rows, with the Arrow type of each column beside it."""
    declared = tables.table(name)
    columns = {column.name: _column(column) for column in declared.columns}
    return {
        "$schema": DIALECT,
        "$id": f"urn:skewscope:table:{name}",
        "title": f"skewscope table {name}",
        "description": declared.doc.strip(),
        "type": "array",
        "items": _object(columns, strict=True),
        "x-key": list(declared.key),
        "x-derived": declared.derived,
    }


def report() -> Schema:
    """Return the JSON Schema of `skewscope.report/1`."""
    parts = {
        "schema": {"const": REPORT},
        "inputs": _list(_input()),
        "job": _job(),
        "summary": _summary(),
        "findings": _list(_finding()),
        "recommendations": _list(_recommendation()),
        "steps": _list(_step()),
        "collectives": _list(_call()),
        "warnings": _list(TEXT),
        "moe": _list(_moe()),
    }
    made = _object(parts)
    made["required"] = [name for name in parts if name not in ADDED]
    return {"$schema": DIALECT, "$id": "urn:skewscope:report:1", "title": REPORT, **made}


def bench() -> Schema:
    """Return the JSON Schema of `skewscope.bench/1`."""
    interval = {"type": ["array", "null"], "items": SHARE, "minItems": 2, "maxItems": 2}
    spread = _object({"count": COUNT, "median": MAYBE_NUMBER, "p90": MAYBE_NUMBER})
    counts = ("faults", "found", "seen_only", "right", "wrong", "symptoms", "blamed", "unpriced")
    figures = _object({
        "condition": TEXT, **dict.fromkeys(counts, COUNT), "recall": MAYBE_SHARE, "recall_95": interval,
        "precision": MAYBE_SHARE, "precision_95": interval, "detect_s": spread, "detect_steps": spread,
        "price_error": spread, "root_cause": MAYBE_SHARE,
    })  # fmt: skip
    point = _object({"severity": NUMBER, "faults": COUNT, "found": COUNT, "recall": SHARE, "recall_95": interval})
    sweep = {"condition": TEXT, "scenario": TEXT, "points": _list(point), "smallest_found": MAYBE_NUMBER}
    healthy = {
        "cases": COUNT, "node_days": NUMBER, "false_alarms": COUNT, "per_1000_node_days": MAYBE_NUMBER,
        "at_most": MAYBE_NUMBER, "by_condition": {"type": "object", "additionalProperties": COUNT},
    }  # fmt: skip
    mistaken = {"condition": TEXT, "scenario": TEXT, "seed": COUNT, "true": TEXT}
    wrong = mistaken | {"claimed": TEXT}
    missed = mistaken | {"lost_share": SHARE, "seen": {"type": "boolean"}}
    made = _object({
        "schema": {"const": BENCH}, "version": TEXT,
        "seeds": _object({"set": {"enum": ["tuning", "judging"]}, "first": COUNT, "count": COUNT}),
        "scenarios": _list(TEXT), "cases": COUNT,
        "looks": _object({"every_windows": COUNT, "prefixes": {"enum": ["real"]}}), "effect": SHARE,
        "overall": figures, "conditions": _list(figures), "without_room": _list(TEXT),
        "confusion": _object({"rows": _list(TEXT), "columns": _list(TEXT), "counts": _list(_list(COUNT))}),
        "healthy": _object(healthy), "wrong": _list(_object(wrong)), "missed": _list(_object(missed)),
        "sweeps": _list(_object(sweep)),
        "failures": _list(_object({"scenario": TEXT, "seed": COUNT, "error": TEXT})),
    })  # fmt: skip
    return {"$schema": DIALECT, "$id": "urn:skewscope:bench:1", "title": BENCH, **made}


def incident() -> Schema:
    """Return the JSON Schema of `skewscope.incident/1`."""
    time = {"type": "integer", "description": "nanoseconds since the Unix epoch"}
    cost = {
        "seconds_per_step": NUMBER, "share": SHARE,
        "lost_gpus": {**MAYBE_NUMBER, "description": "GPU-hours lost per hour at present"},
        "gpu_hours": {**MAYBE_NUMBER, "description": "lost since it was opened"},
    }  # fmt: skip
    made = _object({
        "schema": {"const": INCIDENT}, "id": {"type": "string", "pattern": "^[A-Za-z0-9._~-]+$"},
        "state": {"enum": list(INCIDENT_STATES)}, "condition": TEXT, "subject": _subject(),
        "job": {**MAYBE_TEXT, "description": "null or empty where no job is known"},
        "severity": {"enum": list(SEVERITIES)}, "confidence": SHARE, "opened_ns": time, "changed_ns": time,
        "closed_ns": {**time, "type": ["integer", "null"]}, "cost": _object(cost),
        "peak_share": {**SHARE, "description": "the greatest share of the step that it has cost"},
        "findings": _list(_finding()),
        "flaps": {**COUNT, "description": "how often it came back soon after it had ended"},
        "summary": TEXT, "advice": TEXT, "runbook": TEXT,
    })  # fmt: skip
    return {"$schema": DIALECT, "$id": "urn:skewscope:incident:1", "title": INCIDENT, **made}


def plan() -> Schema:
    """Return the JSON Schema of what all documents `skewscope.plan.NAME/1` share; what `plan` holds is the planner's.

    >>> plan()["properties"]["schema"]["enum"] == _plans()
    True
    """
    value = {"type": ["number", "string", "boolean", "null"]}
    metrics = {"type": "object", "additionalProperties": value, "description": "by name, the unit as last word"}
    made = _object({
        "schema": {"enum": _plans()}, "inputs": {"type": "object", "description": "what the plan was made for"},
        "objective": {**TEXT, "description": "what is made better: a metric, or the rule in words"},
        "current": metrics, "proposed": metrics,
        "lower_bound": {**MAYBE_NUMBER, "description": "what no plan can beat, of the objective"},
        "optimal": {"type": "boolean", "description": "the bound is reached, or it is proved otherwise"},
        "gap": {**MAYBE_NUMBER, "description": "how far the plan is from the bound, as a share of it"},
        "solve_s": {**NUMBER, "minimum": 0}, "steps": _list(TEXT), "plan": {"type": "object"}, "verdict": TEXT,
        "feasible": {"type": "boolean", "description": "false: no such plan can be, the verdict says why"},
        "warnings": _list(TEXT),
    })  # fmt: skip
    return {"$schema": DIALECT, "$id": "urn:skewscope:plan:1", "title": PLAN, **made}


def _plans() -> list[str]:
    return [PLAN.replace("NAME", room.id) for room in rooms("planners")]


def _step() -> Schema:
    whole = {"type": "integer"}
    parts = {"step": whole, "duration_s": MAYBE_NUMBER, "slowest_rank": COUNT, "excess_s": MAYBE_NUMBER}
    return _object(parts)


def _call() -> Schema:
    whole = {"type": "integer"}
    return _object({
        "group": TEXT, "op": TEXT, "seq": whole, "step": whole, "source": TEXT, "last_rank": COUNT,
        "decided": {"type": "boolean"}, "skew_s": MAYBE_NUMBER, "members": COUNT,
    })  # fmt: skip


def _moe() -> Schema:
    """Return the schema of what a report says of the experts of one job and phase."""
    numbers = {"type": ["object", "null"], "additionalProperties": MAYBE_NUMBER}
    levels = {"type": ["object", "null"], "additionalProperties": {"type": "object"}}
    advice = _list(_object({"rule": TEXT, "text": TEXT}))
    made = _object({
        "job": TEXT, "phase": {**TEXT, "description": "prefill, decode, train; empty where nobody tells"},
        "steps": COUNT, "layers": COUNT, "experts": COUNT, "warnings": _list(TEXT), "gpus": MAYBE_WHOLE,
        "definitions": {**numbers, "description": "balance of GPUs as each project would print it"},
        "reported": {**numbers, "description": "balance as the engine printed it, by definition"},
        "ladder": {"type": ["object", "null"], "description": "from today's balance to its limits, means over layers"},
        "expert_level": levels, "gpu_level": levels, "node_level": levels, "drift": {"type": ["object", "null"]},
        "dead": {"type": "object"}, "cost_s": {**MAYBE_NUMBER, "description": "seconds a step, at peak speed"},
        "advice": advice,
    })  # fmt: skip
    return {**made, "required": ["job", "phase", "steps", "layers", "experts", "warnings"]}


def _column(column: tables.Column) -> Schema:
    made: Schema = {"type": JSON[column.type], "description": column.doc, "x-arrow-type": ARROW[column.type]}
    if column.type == "f64":
        made["type"] = ["number", "null"]
    if column.optional:
        made["x-unknown"] = None if column.type == "f64" else column.unknown
    if column.joins:
        made["x-joins"] = column.joins
    return made


def _object(properties: Schema, *, strict: bool = False) -> Schema:
    made: Schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {**made, "additionalProperties": False} if strict else made


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _id(letter: str) -> Schema:
    return {"type": "string", "pattern": f"^{letter}[1-9][0-9]*$"}


def _input() -> Schema:
    return _object(
        {
            "path": TEXT,
            "format": MAYBE_TEXT,
            "rank": MAYBE_WHOLE,
            "events": COUNT,
            "status": {"enum": ["ok", "partial", "unreadable"]},
            "error": MAYBE_TEXT,
        }
    )


def _job() -> Schema:
    whole = {"type": ["integer", "null"], "description": "nanoseconds since the Unix epoch"}
    layout = {"type": "object", "additionalProperties": {"type": ["integer", "null"]}}
    return _object({"ranks": COUNT, "steps": COUNT, "start_ns": whole, "end_ns": whole, "parallelism": layout})


def _summary() -> Schema:
    return _object(
        {
            "step_time_s": _object({"mean": MAYBE_NUMBER, "p50": MAYBE_NUMBER, "p99": MAYBE_NUMBER}),
            "ideal_step_time_s": MAYBE_NUMBER,
            "slowdown": {"type": ["number", "null"], "description": "measured over ideal, >= 1"},
            "wasted_share": MAYBE_SHARE,
            "communication_share": MAYBE_SHARE,
            "communication_hidden_share": MAYBE_SHARE,
            "wasted_gpu_hours": MAYBE_NUMBER,
            "verdict": TEXT,
        }
    )


def _subject() -> Schema:
    parts = {name: MAYBE_WHOLE for name in ("rank", "peer", "stage", "layer")}
    return _object({"kind": {"enum": list(KINDS)}, "id": TEXT, "node": MAYBE_TEXT, **parts})


def _finding() -> Schema:
    window = {name: MAYBE_WHOLE for name in ("start_ns", "end_ns", "first_step", "last_step")}
    signal = {"signal": TEXT, "value": MAYBE_NUMBER, "baseline": MAYBE_NUMBER, "threshold": MAYBE_NUMBER, "unit": TEXT}
    return _object(
        {
            "id": _id("f"),
            "condition": TEXT,
            "subject": _subject(),
            "role": {"enum": list(ROLES)},
            "severity": {"enum": list(SEVERITIES)},
            "confidence": SHARE,
            "window": _object(window),
            "cost": _object({"seconds_per_step": NUMBER, "share": SHARE, "gpu_hours": NUMBER}),
            "evidence": _list(_object(signal)),
            "explains": _list(_id("f")),
            "also_seen": _list(TEXT),
            "runbook": TEXT,
        }
    )


def _recommendation() -> Schema:
    predicted = {"step_time_ratio": NUMBER, "gpu_hours_saved": NUMBER, "confidence": SHARE}
    made = _object(
        {
            "id": _id("r"),
            "for": _list(_id("f")),
            "planner": TEXT,
            "action": TEXT,
            "params": {"type": "object"},
            "predicted": _object(predicted),
            "cost": TEXT,
            "risk": TEXT,
        }
    )
    replayed = {**NUMBER, "description": "seconds per step against doing nothing, where rounds were replayed"}
    ends = dict.fromkeys(("saved_s", "saved_low_s", "saved_high_s"), replayed)
    needs = {**TEXT, "description": "the assumption that would break it"}
    made["properties"] |= {**ends, "needs": needs, "alternatives": _list(_alternative())}
    return made


def _alternative() -> Schema:
    """Return the schema of another remedy beside the recommended one, doing nothing among them."""
    ends = dict.fromkeys(("saved_s", "saved_low_s", "saved_high_s", "saved_share"), NUMBER)
    return _object({
        "remedy": TEXT, "planner": TEXT, "action": TEXT, **ends, "sure_ratio": SHARE, "pays": {"type": "boolean"},
        "refused": MAYBE_TEXT, "needs": TEXT, "params": {"type": "object"},
    })  # fmt: skip
