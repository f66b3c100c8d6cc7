"""The fields of `skewscope.action/1`: one line of the audit of acts."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": ["number", "null"]}
WHOLE: Schema = {"type": ["integer", "null"]}
STATE: Schema = {"type": "object", "description": "fields of the scheduler's own state"}
HASH: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
PHASES = {
    "observed": "it would have been done: the mode is observe, or it is a dry run",
    "held": "safe-guards speak against it, or nothing should be done to a node",
    "proposed": "it waits for a person",
    "approved": "a person said yes",
    "rejected": "a person said no",
    "expired": "nobody answered in time",
    "intended": "it is about to be sent",
    "done": "it was done",
    "failed": "it was not done",
    "refused": "the actuator refuses it",
    "waiting": "the scheduler asks to wait",
    "recovered": "what came of an intent that a crash left open",
    "testing": "a node is about to be tested",
    "tested": "the result of a test",
    "undoing": "it is about to be taken back",
    "undone": "it was taken back",
    "undo-failed": "it could not be taken back",
    "proved": "what it brought",
    "breaker": "it opened or was closed",
    "lease": "the lease was taken from one who is gone",
    "reapplied": "a mark that was lost is set again",
}
FIRST = ("schema", "seq", "time_ns", "phase", "actor", "prev", "hash")  # in every record


def parts() -> Schema:
    """Return the schema; what is not known is left out of a record.

    >>> sorted(parts()["required"])[:3]
    ['actor', 'hash', 'phase']
    """
    properties = {**_head(), **_what(), **_state()}
    return {"type": "object", "properties": properties, "required": list(FIRST), "additionalProperties": False}


def _head() -> Schema:
    phases = "; ".join(f"{name}: {text}" for name, text in PHASES.items())
    return {
        "schema": {"const": "skewscope.action/1"}, "seq": {"type": "integer", "minimum": 0},
        "time_ns": {"type": "integer", "description": "nanoseconds since the Unix epoch"},
        "phase": {"enum": list(PHASES), "description": phases},
        "actor": {**TEXT, "description": "skewscope, a person, or somebody else"},
        "prev": {**HASH, "description": "the hash of the line before, zeros for the first"},
        "hash": {**HASH, "description": "SHA-256 of the canonical JSON of the record without it"},
    }  # fmt: skip


def _what() -> Schema:
    guard = {"type": "object", "properties": {"guard": TEXT, "text": TEXT}, "required": ["guard", "text"]}
    promised = _numbers("gain_gpu_hours", "cost_gpu_hours", "step_share", "step_s")
    promised["properties"]["step_job"] = TEXT
    return {
        "act": {**TEXT, "description": "id of the act"}, "of": {**TEXT, "description": "the act that it is about"},
        "scheduler": TEXT, "verb": TEXT, "target": {**TEXT, "description": "node, or job"}, "job": TEXT, "gpu": WHOLE,
        "params": {"type": "object"}, "incident": TEXT, "finding": {**TEXT, "description": "its condition"},
        "reason": TEXT, "policy": {**TEXT, "description": "version of the policy"}, "dry_run": {"type": "boolean"},
        "result": TEXT, "detail": TEXT, "evidence": _numbers("confidence", "share", "lost_gpus", "seen_count",
                                                             "of_count", "steps", "peers"),
        "why": {"type": "array", "items": guard, "description": "what safe-guards said"},
        "predicted": promised,
        "observed": _numbers("before_s", "after_s", "windows", "step_share", "of_predicted"),
        "expires_ns": WHOLE, "after_s": NUMBER, "answer": {**TEXT, "description": "key of a person's decision"},
    }  # fmt: skip


def _state() -> Schema:
    words = {"type": "array", "items": TEXT}
    step = {
        "type": "object", "required": ["kind", "words"],
        "properties": {"kind": {"enum": ["run", "http", "file"]}, "words": words, "body": {}},
    }  # fmt: skip
    return {
        "before": STATE, "after": STATE, "sent": {"type": "array", "items": step},
        "undo": {"type": "object", "description": "what the actuator needs to take it back"},
    }  # fmt: skip


def _numbers(*names: str) -> Schema:
    return {"type": "object", "properties": dict.fromkeys(names, NUMBER)}
