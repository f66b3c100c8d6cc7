"""Decisions: what is to be done about each case on one scheduler now."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from ..acts import VERBS, Fleet, Request
from .approval import is_approved, persons
from .cases import Around, Case, Decision, Said
from .economics import cost_gpu_hours, gain_gpu_hours
from .guards import against
from .ladder import rung
from .ledger import Ledger
from .returning import Return, returns
from .settings import Policy
from .storm import Together, storm, together
from .turn import Turn, Wanted, said
from .work import params

__all__ = ["Return", "decide", "returns", "urgency"]


def decide(
    policy: Policy, scheduler: str, cases: Sequence[Case], fleet: Fleet, ledger: Ledger, around: Around,
    verbs: Collection[str] = VERBS,
) -> list[Decision]:  # fmt: skip
    """Return one decision a case, in order of what waiting costs; pure: the same in gives the same out.

    `verbs` are those that the actuator has. What is granted in one turn counts for what follows in it. A proposal is
    decided upon anew each turn, under the same id: "act" where enough persons said yes and nothing speaks against it.
    An act that the scheduler lets wait is tried again by whoever sent it: here it holds others back.
    """
    turn = Turn(policy, scheduler, cases, fleet, ledger, around, verbs)
    storms = together(turn)
    return [_decision(turn, case, storms) for case in sorted(cases, key=urgency)]


def urgency(case: Case) -> tuple[float, str, str]:
    """Return what cases are sorted by: what waiting costs, then severity, then the incident."""
    cost = case.lost_gpus * case.confidence
    return (0.0 if math.isnan(cost) else -cost), case.severity, case.incident


def _decision(turn: Turn, case: Case, storms: Together) -> Decision:
    leave = _left_alone(turn, case, storms)
    if leave:
        return Decision(case, turn.scheduler, "leave", why=(leave,))
    step = rung(turn, case)
    if step.rest:
        return Decision(case, turn.scheduler, "hold", why=(said("ladder", step.rest),))
    told = params(turn, case, step.verb)
    restarts = step.verb == "requeue" or bool(told.get("requeue") or told.get("evict"))
    wanted = Wanted(case, step.verb, step.target, step.id, restarts)
    request = Request(
        step.id, step.verb, step.target, case.incident, case.summary or f"{case.condition} at {case.subject}",
        job=case.job, gpu=case.gpu, params=told,
    )  # fmt: skip
    verdict, why = _verdict(turn, wanted)
    if verdict != "hold":
        turn.granted.append(wanted)
    return Decision(
        case, turn.scheduler, verdict, request, why,
        gain_gpu_hours(turn, case), cost_gpu_hours(turn, case, restarts),
    )  # fmt: skip


def _left_alone(turn: Turn, case: Case, storms: Together) -> Said | None:
    """Return why nothing should be done to a node at all, if so."""
    if case.healthy:
        return said("healthy", "nothing is seen of it any more")
    if case.role != "culprit":
        return said("role", f"it is a {case.role} of something else")
    if case.hint and "advise" in turn.verbs and (case.job or case.node):
        return None
    if not case.node:
        return said("subject", f"no node is at fault: {case.subject}")
    shared = storm(turn, case, storms)
    return said("storm", shared) if shared else None


def _verdict(turn: Turn, wanted: Wanted) -> tuple[str, tuple[Said, ...]]:
    held = against(turn, wanted)
    if held:
        return "hold", held
    node = turn.node(wanted.target)
    mode = turn.policy.mode(turn.scheduler, wanted.target if node else "", node.groups if node else ())
    if mode == "observe":
        return "observe", (said("mode", f"{turn.scheduler} is only observed here"),)
    if mode == "act" or wanted.verb in turn.policy.approval.free_verbs:
        return "act", (said("mode", f"{turn.scheduler} acts here by itself"),)
    if is_approved(turn, wanted):
        return "act", (said("approval", "a person said yes"),)
    needed = persons(turn, wanted)
    return "ask", (said("approval", f"wants the yes of {needed} {'persons' if needed > 1 else 'person'}"),)
