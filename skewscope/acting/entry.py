"""What an audit record says of a decision, a command and an outcome, and a request made anew from a record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..acts import OWNER, Command, Outcome, Request, Step
from ..policy.cases import Case, Decision, Said

Fields = dict[str, Any]
KEPT = (  # what a later record of the same act repeats, so that each line can be read by itself
    "act", "scheduler", "verb", "target", "job", "gpu", "params", "incident", "finding", "reason", "policy", "evidence",
    "why", "predicted", "before", "after", "sent", "undo",
)  # fmt: skip


def of_case(case: Case) -> Fields:
    """Return what a record says of a case."""
    return {
        "incident": case.incident, "finding": case.condition, "job": case.job or None, "target": case.node or None,
        "evidence": {
            "confidence": case.confidence, "share": case.share, "lost_gpus": case.lost_gpus,
            "seen_count": case.seen_count, "of_count": case.of_count, "steps": _known(case.steps),
            "peers": _known(case.peers),
        },
    }  # fmt: skip


def of_decision(decision: Decision) -> Fields:
    """Return what a record says of a decision."""
    told = {"scheduler": decision.scheduler, **of_case(decision.case), "why": said(decision.why)}
    if decision.request is None:
        return told
    told |= of_request(decision.request)
    told["predicted"] = {
        "gain_gpu_hours": decision.gain_gpu_hours, "cost_gpu_hours": decision.cost_gpu_hours,
        "step_share": decision.case.share,
    }  # fmt: skip
    return told


def of_request(request: Request) -> Fields:
    """Return what a record says of a request."""
    return {
        "act": request.act, "verb": request.verb, "target": request.target, "incident": request.incident,
        "reason": request.reason, "job": request.job or None, "gpu": _known(request.gpu),
        "params": dict(request.params) or None,
    }  # fmt: skip


def of_command(command: Command) -> Fields:
    """Return what a record says of a command."""
    return {
        "before": dict(command.before), "after": dict(command.after), "undo": dict(command.undo),
        "sent": [of_step(step) for step in command.steps],
    }  # fmt: skip


def of_step(step: Step) -> Fields:
    """Return a step as plain JSON.

    >>> of_step(Step("run", ("scontrol", "ping")))
    {'kind': 'run', 'words': ['scontrol', 'ping'], 'body': None}
    """
    return {"kind": step.kind, "words": list(step.words), "body": step.body}


def of_outcome(outcome: Outcome) -> Fields:
    """Return what a record says of an outcome."""
    return {"result": outcome.result, "detail": outcome.detail or None}


def said(why: tuple[Said, ...]) -> list[dict[str, str]]:
    """Return what safe-guards said as plain JSON."""
    return [{"guard": one.guard, "text": one.text} for one in why]


def kept(record: Mapping[str, Any]) -> Fields:
    """Return what a later record of the same act repeats."""
    return {name: record[name] for name in KEPT if name in record}


def request_of(record: Mapping[str, Any]) -> Request:
    """Return the request of a record, to try it again.

    >>> told = {"act": "a1", "verb": "note", "target": "n3", "incident": "i", "reason": "skewscope:i it is slow"}
    >>> request_of(told).why
    'it is slow'
    """
    reason, start = record.get("reason", ""), f"{OWNER}:{record['incident']} "
    return Request(
        record["act"], record["verb"], record["target"], record["incident"], reason.removeprefix(start),
        record.get("job") or "", record.get("gpu", -1), record.get("params") or {},
    )  # fmt: skip


def _known(number: int) -> int | None:
    return number if number >= 0 else None
