"""Hints of one job, `skewscope.advice/1`: as a file, and as `GET /advice?job=JOB`.

    {"schema": "skewscope.advice/1", "job": "llm", "act": "a1", "incident": "c0ffee", "reason": "skewscope:c0ffee ...",
     "hint": {"weights": [1.1, 1.1, 0.8], "limits": {"requests": 64}}, "version": 1700000000000000000,
     "expires_ns": 1700003600000000000}

A hint with another `version` is another hint. The file also holds the `former` hint, for undo.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ..acts import Request, Values
from ..errors import SkewscopeError
from ..web.server import Pages, Reply
from . import _whole_file

SCHEMA = "skewscope.advice/1"
MOST_BYTES = 1 << 18
TEXT, JSON = "text/plain; charset=utf-8", "application/json"
Document = dict[str, Any]


def document(job: str, request: Request, hint: Values, former: Document | None) -> Document:
    """Return a hint without its version and end, which it gets when it is written."""
    return {
        "schema": SCHEMA, "job": job, "act": request.act, "incident": request.incident, "reason": request.reason,
        "hint": dict(hint), "former": former,
    }  # fmt: skip


def stamped(content: Document | None, now_ns: int, valid_s: float) -> Document | None:
    """Return a hint with its version and end; a former one that comes back keeps its own."""
    if content is None or "version" in content:
        return content
    return {**content, "version": now_ns, "expires_ns": now_ns + int(valid_s * 1e9)}


def sound(content: Any) -> Document | None:  # noqa: ANN401 - whatever a file held
    """Return the hint of a file, None where it is none of ours."""
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        return None
    kinds = {"act": str, "hint": dict, "version": int, "expires_ns": int}
    return content if all(isinstance(content.get(key), kind) for key, kind in kinds.items()) else None


def seen(content: Values | None) -> Document:
    """Return the fields of `Command.before` and `after`."""
    return {"hint": dict(content["hint"]), "act": content["act"]} if content else {"hint": {}, "act": ""}


def unfit(hint: Any) -> str:  # noqa: ANN401 - whatever a request holds
    """Return why a hint must not be given, "" where it may.

    >>> unfit({"weights": [1.0, -1.0]})
    'weights want a list of positive numbers'
    """
    if not isinstance(hint, Mapping) or not hint:
        return "no hint is given"
    weights, limits = hint.get("weights"), hint.get("limits")
    if weights is not None and not (_numbers(weights) and min(weights) > 0):
        return "weights want a list of positive numbers"
    if limits is not None and not (isinstance(limits, Mapping) and limits and _numbers(list(limits.values()))):
        return "limits want numbers by name"
    try:
        size = len(json.dumps(hint, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        return f"the hint is no JSON: {error}"
    return f"the hint is too large: {size} bytes, at most {MOST_BYTES}" if size > MOST_BYTES else ""


def _numbers(values: Any) -> bool:  # noqa: ANN401 - whatever a request holds
    if not isinstance(values, list | tuple) or not values:
        return False
    return all(isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in values)


def pages(folder: str) -> Pages:
    """Return what answers `GET /advice?job=JOB` from a folder of hints, with 404 where there is none for the job."""

    def page(path: str, _: Mapping[str, str]) -> Reply:
        parts = urlsplit(path)
        if parts.path != "/advice":
            return Reply(404, TEXT, b"wants /advice?job=JOB\n")
        job = parse_qs(parts.query).get("job", [""])[0]
        return answer(folder, job) if job else Reply(400, TEXT, b"wants /advice?job=JOB\n")

    return page


def answer(folder: str, job: str) -> Reply:
    """Return the hint of a job; whether it has ended, its `expires_ns` says."""
    try:
        content = sound(_whole_file.read(_whole_file.file_of(folder, job)))
    except SkewscopeError as error:
        return Reply(500, TEXT, f"{error}\n".encode())
    if content is None:
        return Reply(404, TEXT, b"no hint stands for this job\n")
    told = {key: value for key, value in content.items() if key != "former"}
    return Reply(200, JSON, json.dumps(told).encode() + b"\n")
