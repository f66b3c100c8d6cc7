"""Verdict files, `skewscope.verdict/1`: one a node, with all acts that stand on it, the strongest said on top.

    {"schema": "skewscope.verdict/1", "node": "n3", "keep_out": true, "verb": "drain",
     "reason": "skewscope:c0ffee rank 7 is slow",
     "acts": [{"act": "a1", "incident": "c0ffee", "verb": "drain", "reason": "...", "job": "", "gpu": -1}]}

The file is there while an act stands, and each key has a line of its own, so that a shell script can read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..acts import FENCES, LADDER, OWNER, Fleet, NodeState, Request

SCHEMA = "skewscope.verdict/1"
STRENGTH = ("note", "ticket", "avoid", "exclude", "drain", "quarantine")
FOREIGN = "somebody else: no verdict of skewscope"
Document = dict[str, Any]


def acts_of(content: Any) -> list[Document] | None:  # noqa: ANN401 - whatever a file held
    """Return the acts of a verdict file, [] where there is none; None where it is not one of ours."""
    if content is None:
        return []
    if not isinstance(content, dict) or content.get("schema") != SCHEMA or not isinstance(content.get("acts"), list):
        return None
    acts = content["acts"]
    sound = all(isinstance(one, dict) and one.get("verb") in LADDER and isinstance(one.get("act"), str) for one in acts)
    return list(acts) if sound else None


def entry(request: Request) -> Document:
    """Return what a verdict file says of one act."""
    return {
        "act": request.act, "incident": request.incident, "verb": request.verb, "reason": request.reason,
        "job": request.job, "gpu": request.gpu,
    }  # fmt: skip


def document(node: str, acts: list[Document]) -> Document | None:
    """Return the content of a node's file, None where no act stands and there is to be no file."""
    if not acts:
        return None
    verb, reason = worst(acts)
    return {
        "schema": SCHEMA, "node": node, "keep_out": verb in FENCES, "verb": verb, "reason": reason, "acts": acts,
    }  # fmt: skip


def worst(acts: list[Document]) -> tuple[str, str]:
    """Return (verb, reason) of the strongest act, the newest of equals.

    >>> worst([{"verb": "drain", "reason": "a"}, {"verb": "note", "reason": "b"}])
    ('drain', 'a')
    """
    if not acts:
        return "", ""
    strongest = max(reversed(acts), key=lambda one: STRENGTH.index(one["verb"]))
    return strongest["verb"], str(strongest.get("reason", ""))


def state(node: str, content: Any) -> NodeState:  # noqa: ANN401 - whatever a file held
    """Return a node as its verdict file tells of it; whether something runs there is not known, so it is not idle."""
    acts = acts_of(content)
    if acts is None:
        return NodeState(node, schedulable=False, owner=FOREIGN, reason=FOREIGN, idle=False, native={"acts": None})
    verb, reason = worst(acts)
    return NodeState(
        node, schedulable=verb not in FENCES, owner=OWNER if acts else "", reason=reason, idle=False,
        native={"acts": acts},
    )  # fmt: skip


def seen(acts: list[Document]) -> Document:
    """Return the fields of `Command.before` and `after`."""
    verb, reason = worst(acts)
    return {"verb": verb, "reason": reason, "acts": [one["act"] for one in acts]}


def acts_on(fleet: Fleet, node: str) -> list[Document] | None:
    """Return the acts that stand on a node of a fleet; None where they are not to be touched."""
    native: Mapping[str, Any] = fleet.nodes[node].native
    return None if native.get("acts") is None else list(native["acts"])
