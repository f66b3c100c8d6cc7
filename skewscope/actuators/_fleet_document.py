"""A fleet as an in-house scheduler tells it, `skewscope.fleet/1`: what `exec` and `webhook` see of the world.

    {"schema": "skewscope.fleet/1", "complete": true,
     "nodes": [{"name": "n1", "schedulable": true, "owner": "", "reason": "", "idle": false, "jobs": ["7"],
                "groups": ["gpu"], "rack": "r1"}],
     "jobs": [{"id": "7", "name": "llm", "user": "ann", "state": "running", "nodes": ["n1"], "wants_nodes": 1,
               "may_restart": true}]}

Only `name` and `id` must be there. `owner` is "skewscope" for what we fenced (a reason that begins with "skewscope:"
says it too), else a name of whoever did.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ..acts import OWNER, Fleet, JobState, NodeState
from ..errors import SkewscopeError

SCHEMA = "skewscope.fleet/1"


def fleet(scheduler: str, told: Any) -> Fleet:  # noqa: ANN401 - whatever came
    """Return the fleet that a document tells of; raises SkewscopeError for one that is not one."""
    if not isinstance(told, Mapping) or told.get("schema") != SCHEMA:
        raise SkewscopeError(f"{scheduler}: wanted a document {SCHEMA}, got {str(told)[:60]!r}")
    try:
        nodes = [_node(one) for one in told["nodes"]]
        jobs = [_job(one) for one in told.get("jobs", ())]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SkewscopeError(f"{scheduler}: the document {SCHEMA} is damaged: {error!r}") from None
    return Fleet(
        scheduler, {one.name: one for one in nodes}, {one.id: one for one in jobs}, time.time_ns(),
        _flag(told, "complete", True),
    )  # fmt: skip


def _node(told: Mapping[str, Any]) -> NodeState:
    reason = str(told.get("reason") or "")
    schedulable = _flag(told, "schedulable", True)
    owner = str(told.get("owner") or "")
    if not owner and reason.startswith(f"{OWNER}:"):
        owner = OWNER
    return NodeState(
        _name(told["name"]), schedulable, owner or ("" if schedulable else reason or "somebody"), reason,
        _flag(told, "idle", False), _texts(told, "jobs"), _texts(told, "groups"), str(told.get("rack") or ""),
        str(told.get("reservation") or ""),
    )  # fmt: skip


def _job(told: Mapping[str, Any]) -> JobState:
    return JobState(
        _name(told["id"]), str(told.get("name") or ""), str(told.get("user") or ""),
        str(told.get("state") or "running"), _texts(told, "nodes"), int(told.get("wants_nodes") or 0),
        _flag(told, "may_restart", False),
    )  # fmt: skip


def _name(told: object) -> str:
    if not isinstance(told, str | int) or not str(told):
        raise ValueError(f"{told!r} is no name")
    return str(told)


def _texts(told: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = told.get(key) or ()
    if isinstance(value, str):
        raise ValueError(f"{key} wants a list")
    return tuple(map(str, value))


def _flag(told: Mapping[str, Any], key: str, default: bool) -> bool:
    value = told.get(key, default)
    if not isinstance(value, bool):
        raise ValueError(f"{key} wants true or false, got {value!r}")
    return value
