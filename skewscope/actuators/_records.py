"""What every actuator without a scheduler of its own asks first, and how it reads an audit record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..acts import FENCES, OWNER, VERBS, Command, Fleet, Request, Values, plain_text

SCHEMA = "skewscope.act/1"
ON_JOBS = ("requeue", "advise")
LASTING = ("avoid", "exclude", "drain", "quarantine", "advise")  # they leave a state that must be taken back


def request_of(record: Values) -> Request:
    """Return the request that an audit record tells of; one without a known verb counts as a note."""
    verb = str(record.get("verb", ""))
    incident = str(record.get("incident") or "")
    why = str(record.get("reason") or "").removeprefix(f"{OWNER}:{incident}").strip()
    return Request(
        act=str(record.get("act", "")), verb=verb if verb in VERBS else "note", target=str(record.get("target", "")),
        incident=incident, why=why, job=str(record.get("job") or ""),
    )  # fmt: skip


def unfit(request: Request, verbs: Sequence[str], fleet: Fleet) -> str:
    """Return why a request must not be sent at all, "" where it may: the verb, the node (or job), whose the node is."""
    if request.verb not in verbs:
        return f"{fleet.scheduler} cannot {request.verb}; it can {', '.join(verbs)}"
    if request.verb in ON_JOBS and (request.job or request.target) in fleet.jobs:
        return ""
    if request.target not in fleet.nodes:
        what = "job" if request.verb in ON_JOBS else "node"
        return f"no {what} of that name is listed: {fleet.scheduler} lists {len(fleet.nodes)} nodes"
    owner = fleet.nodes[request.target].owner
    return f"it bears a mark of {plain_text(owner)}" if owner and owner != OWNER else ""


def refused(request: Request, scheduler: str, why: str) -> Command:
    """Return a command that says why nothing must be sent."""
    return Command(request, scheduler, refused=why)


def told_of(request: Request, event: str) -> dict[str, Any]:
    """Return the document `skewscope.act/1` that programs and receivers get; `event` is "act" or "undo".

    All texts but names of nodes and jobs are plain; those are as the scheduler has them.
    """
    return {
        "schema": SCHEMA, "event": event, "act": request.act, "verb": request.verb, "node": request.target,
        "gpu": request.gpu, "job": request.job, "incident": plain_text(request.incident), "reason": request.reason,
        "params": dict(request.params),
    }  # fmt: skip


def marks(request: Request, fleet: Fleet, event: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a node is known to bear before, and is expected to bear after an act or its undo."""
    node = fleet.nodes.get(request.target)
    before = {"schedulable": node is None or node.schedulable, "reason": node.reason if node else ""}
    if event == "undo":
        return before, {"schedulable": True, "reason": ""}
    return before, {"schedulable": before["schedulable"] and request.verb not in FENCES, "reason": request.reason}


def stands(record: Values, fleet: Fleet) -> bool | None:
    """Return whether an act stands on its node; None where that cannot be seen.

    Without a list of acts, a fence is known by our mark for its incident; a note or a new start may not be told of.
    """
    request = request_of(record)
    node = fleet.nodes.get(request.target)
    if node is None:
        return None
    if "acts" in node.native:
        acts = node.native["acts"]
        return None if acts is None else any(one["act"] == request.act for one in acts)
    if not node.ours:
        return False if request.verb in FENCES else None
    return not node.reason or node.reason.startswith(f"{OWNER}:{plain_text(request.incident, 40)}")


def freed(record: Values, fleet: Fleet) -> bool:
    """Return whether an act stands no more, so that no undo is to be sent."""
    return stands(record, fleet) is False
