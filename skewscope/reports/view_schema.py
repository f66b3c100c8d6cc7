"""The JSON Schema of what views answer: `skewscope.view/1`."""

from __future__ import annotations

from typing import Any

NAME = "skewscope.view/1"

Schema = dict[str, Any]


def schema() -> Schema:
    """Return the fields of a `skewscope.view/1` document as JSON Schema.

    >>> schema()["required"]
    ['schema', 'inputs', 'views']
    """
    text: Schema = {"type": "string"}
    words: Schema = {"type": "array", "items": text}
    columns: Schema = {"type": "object", "additionalProperties": {"type": ["number", "string", "boolean", "null"]}}
    picture = {**dict.fromkeys(("of", "kind", "title", "x", "y", "colour"), text), "parts": words}
    view = {
        "view": text, "question": text, "settings": {"type": "object"},
        "missing": {"type": ["string", "null"], "description": "why there is no answer, and how to record it"},
        "said": {**words, "description": "what stands out, with numbers"},
        "notes": {**words, "description": "what could not be known, and why"},
        "tables": {"type": "object", "description": "the first is the main one; units end the names of columns",
                   "additionalProperties": {"type": "array", "items": columns}},
        "pictures": {"type": "array", "items": _closed(picture)},
    }  # fmt: skip
    read = {
        "path": text, "format": text, "rank": {"type": ["integer", "null"]}, "events": {"type": "integer"},
        "status": {"enum": ["ok", "partial", "unreadable"]}, "error": {"type": ["string", "null"]},
    }  # fmt: skip
    return _closed({"schema": {"const": NAME}, "inputs": {"type": "array", "items": _closed(read)},
                    "views": {"type": "array", "items": _closed(view)}})  # fmt: skip


def _closed(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
