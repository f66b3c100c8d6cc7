"""The fields of `skewscope.retest/1` and `skewscope.replay/1`: how fast a node is, what policies would have done."""

from __future__ import annotations

from typing import Any

from ..acts import VERBS

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
MAYBE_COUNT: Schema = {"type": ["integer", "null"], "description": "null: of a recorded week nobody knows the truth"}
TIME: Schema = {"type": "integer", "description": "nanoseconds since the Unix epoch"}
COUNTS: Schema = {"type": "object", "additionalProperties": COUNT}


def retest() -> Schema:
    """Return what `skewscope.retest/1` holds."""
    speeds = {
        "type": "array", "minItems": 1, "items": {"type": "number", "exclusiveMinimum": 0},
        "description": "round by round, units a second: higher is better",
    }  # fmt: skip
    measure = _object({
        "name": {"enum": ["gemm", "copy", "to_device", "from_device", "link", "loopback", "pair", "all_reduce"]},
        "unit": {"enum": ["flops", "bytes"]}, "device": {**TEXT, "description": "as gpu3, cpu, gpu0->gpu1"},
        "work": {**TEXT, "description": "what was done: only equal work is compared"}, "values": speeds,
    })  # fmt: skip
    return _object({
        "schema": {"const": "skewscope.retest/1"}, "node": TEXT, "time_ns": TIME, "hardware": TEXT, "backend": TEXT,
        "measures": {"type": "array", "items": measure}, "failures": {"type": "array", "items": TEXT},
        "took_s": {**NUMBER, "minimum": 0}, "verdict": {"enum": ["pass", "fail", "unsure", "unjudged"]},
        "why": {"type": "array", "items": TEXT},
    })  # fmt: skip


def replay() -> Schema:
    """Return what `skewscope.replay/1` holds."""
    week = _object({
        "about": TEXT, "start_ns": TIME, "end_ns": TIME, "nodes": COUNT, "jobs": COUNT,
        "is_known": {"type": "boolean", "description": "whether the truth is, as of a simulated week"},
        "troubles": COUNTS,
    })  # fmt: skip
    nobody = _object({
        "slowed_gpu_hours": {**NUMBER, "description": "lost to slowness where nobody acts"},
        "of_nodes_gpu_hours": {**NUMBER, "description": "of these by single nodes: what acting can save at most"},
        "price_gpu_hours": {**NUMBER, "description": "of restarts, work done twice, and waiting for nodes"},
    })  # fmt: skip
    weeks, policies = ({"type": "array", "items": one, "minItems": 1} for one in (week, _policy()))
    return _object({"schema": {"const": "skewscope.replay/1"}, "weeks": weeks, "nobody": nobody, "policies": policies})


def _policy() -> Schema:
    deed = _object({
        "time_ns": TIME, "act": TEXT, "verb": {"enum": list(VERBS)}, "target": TEXT, "job": TEXT, "incident": TEXT,
        "condition": TEXT, "right": {"type": ["boolean", "null"], "description": "the node was truly at fault"},
        "gain_gpu_hours": {**NUMBER, "description": "as was promised"}, "cost_gpu_hours": NUMBER,
    })  # fmt: skip
    hours = ("saved", "cost", "net", "slowed", "price")
    return _object({
        "name": TEXT, "mode": {"enum": ["observe", "approve", "act"]}, "version": TEXT,
        **{f"{name}_gpu_hours": NUMBER for name in hours}, "acts": COUNTS, "right": MAYBE_COUNT, "wrong": MAYBE_COUNT,
        "records": {**COUNTS, "description": "of the audit, by phase"},
        "tests": _object({"pass": COUNT, "fail": COUNT}),
        "held": {**COUNTS, "description": "how often each safe-guard spoke against an act"},
        "fenced_node_hours": NUMBER, "most_out": COUNT, "restarts": {**COUNTS, "description": "of jobs, by whom"},
        "deeds": {"type": "array", "items": deed},
    })  # fmt: skip


def _object(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
