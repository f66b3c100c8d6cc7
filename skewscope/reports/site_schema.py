"""The documents between skewscope and a site's own programs: acts that are sent, verdicts, hints, fleets.

`skewscope.act/1` goes to the programs of `exec` and the receivers of `webhook`, `skewscope.fleet/1` comes from them;
`skewscope.verdict/1` lies in the folder of `file` and `nvrx`, `skewscope.advice/1` in that of `engine`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..acts import LADDER, VERBS

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
NAME: Schema = {"type": "string", "minLength": 1}
FLAG: Schema = {"type": "boolean"}
WHOLE: Schema = {"type": "integer"}
NAMES: Schema = {"type": "array", "items": TEXT}
GPU: Schema = {"type": "integer", "minimum": -1, "description": "local number, -1 the whole node"}
REASON: Schema = {"type": "string", "pattern": '^skewscope:[^"\\\\$`\\n]*$', "maxLength": 160}


def act() -> Schema:
    """Return the schema of `skewscope.act/1`: what a program or receiver is asked to do, or to take back."""
    events = {"enum": ["act", "undo"], "description": "undo takes the act of the same id back"}
    properties = {
        "event": events, "act": NAME, "verb": {"enum": list(VERBS)}, "node": TEXT, "gpu": GPU, "job": TEXT,
        "incident": TEXT, "reason": REASON, "params": {"type": "object"},
    }  # fmt: skip
    return _document("act", properties)


def verdict() -> Schema:
    """Return the schema of `skewscope.verdict/1`: what stands on a node; without a file nothing does."""
    verb = {"enum": list(LADDER)}
    one = _closed({"act": NAME, "incident": TEXT, "verb": verb, "reason": REASON, "job": TEXT, "gpu": GPU})
    one["properties"]["node_id"] = {**TEXT, "description": "Ray's id of the node"}
    properties = {
        "node": NAME, "keep_out": {**FLAG, "description": "whether the node must get no new work"},
        "verb": {**verb, "description": "of the strongest act"}, "reason": REASON,
        "acts": {"type": "array", "items": one, "minItems": 1},
    }  # fmt: skip
    return _document("verdict", properties)


def advice() -> Schema:
    """Return the schema of `skewscope.advice/1`: a hint that nobody must follow."""
    numbers = {"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}, "minItems": 1}
    hint = {
        "type": "object", "minProperties": 1, "properties": {
            "weights": {**numbers, "description": "how much work each rank is to get, 1 on average"},
            "limits": {"type": "object", "additionalProperties": {"type": "number"}},
            "experts": {"description": "what the planner of experts says"},
        },
    }  # fmt: skip
    properties = {
        "job": NAME, "act": NAME, "incident": TEXT, "reason": REASON, "hint": hint,
        "version": {**WHOLE, "description": "another for each hint"},
        "expires_ns": {**WHOLE, "description": "nanoseconds since the Unix epoch; after it the hint says nothing"},
    }  # fmt: skip
    made = _document("advice", properties)
    made["properties"]["former"] = {"type": ["object", "null"], "description": "the hint before it, in the file only"}
    return made


def fleet() -> Schema:
    """Return the schema of `skewscope.fleet/1`: what a site tells of its nodes and jobs."""
    owner = {**TEXT, "description": '"skewscope" for what we fenced, else a name of whoever did'}
    node = {
        "name": NAME, "schedulable": FLAG, "owner": owner, "reason": TEXT, "jobs": NAMES, "groups": NAMES, "rack": TEXT,
        "idle": {**FLAG, "description": "nothing runs there; left out, something may"}, "reservation": TEXT,
    }  # fmt: skip
    job = {
        "id": NAME, "name": TEXT, "user": TEXT, "state": {"enum": ["pending", "running", "ending", "over"]},
        "nodes": NAMES, "wants_nodes": {"type": "integer", "minimum": 0}, "may_restart": FLAG,
    }  # fmt: skip
    nodes = {"type": "array", "items": {"type": "object", "properties": node, "required": ["name"]}}
    jobs = {"type": "array", "items": {"type": "object", "properties": job, "required": ["id"]}}
    complete = {**FLAG, "description": "whether these are all nodes; left out, they are"}
    schema = {"const": "skewscope.fleet/1"}
    return {
        "type": "object", "properties": {"schema": schema, "nodes": nodes, "jobs": jobs, "complete": complete},
        "required": ["schema", "nodes"],
    }  # fmt: skip


SITE: dict[str, Callable[[], Schema]] = {"act": act, "verdict": verdict, "advice": advice, "fleet": fleet}


def _document(name: str, properties: Schema) -> Schema:
    return _closed({"schema": {"const": f"skewscope.{name}/1"}, **properties})


def _closed(properties: Schema) -> Schema:
    return {
        "type": "object", "properties": dict(properties), "required": list(properties), "additionalProperties": False,
    }  # fmt: skip
