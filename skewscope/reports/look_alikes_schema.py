"""The fields of `skewscope.look_alikes/1`: what was named where only one of two look-alikes was true."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
TEXTS: Schema = {"type": "array", "items": TEXT}


def look_alikes() -> Schema:
    """Return what `skewscope.look_alikes/1` holds."""
    counted = ("runs", "right", "look_alike", "something_else", "nothing", "besides")
    side = _object(dict.fromkeys(counted, COUNT))
    pair = {"one": TEXT, "other": TEXT, "told_by": TEXTS, "only_one": side, "only_other": side,
            "cause": {**TEXT, "description": "the one that makes the other visible; empty for neither"}}  # fmt: skip
    kinds = {"type": "object", "additionalProperties": {"type": "array", "items": {"enum": ["fleet", "world"]}}}
    counts = {"type": "array", "items": {"type": "array", "items": COUNT}}
    family = {"family": TEXT, "rows": TEXTS, "columns": TEXTS, "counts": counts,
              "made_of": {**kinds, "description": "by row: watched fleets, or worlds of a room"}}  # fmt: skip
    overall = {
        **dict.fromkeys((*counted, "pairs", "pairs_tried", "pairs_told_apart", "causes"), COUNT),
        "right_share": {**SHARE, "type": ["number", "null"]},
        "right_95": {"type": ["array", "null"], "items": SHARE, "minItems": 2, "maxItems": 2},
    }
    return _object({
        "schema": {"const": "skewscope.look_alikes/1"}, "version": TEXT,
        "seeds": _object({"set": {"enum": ["tuning", "judging"]}, "first": COUNT, "count": COUNT}),
        "looks": _object({"every_windows": COUNT}), "effect": SHARE, "overall": _object(overall),
        "families": _list(_object(family)), "pairs": _list(_object(pair)),
        "untried": {**TEXTS, "description": "conditions of which no run exists in which they alone are true"},
        "failures": _list(_object({"scenario": TEXT, "seed": COUNT, "error": TEXT})),
    })  # fmt: skip


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _object(parts: Schema) -> Schema:
    return {"type": "object", "properties": parts, "required": list(parts)}
