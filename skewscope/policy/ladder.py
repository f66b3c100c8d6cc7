"""Guard 16: the gentlest first; the next rung only while the trouble stands, and only of what a scheduler can do."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ..acts import LADDER
from .cases import Case
from .cool_down import UNDER_WAY, is_offender
from .ledger import OVER, PROPOSED, TRIED, Act
from .turn import Turn


@dataclass(frozen=True)
class Rung:
    """What comes next for a case: a verb on a target as the act `id`; or `rest`: why nothing does now."""

    verb: str = ""
    target: str = ""
    id: str = ""
    rest: str = ""


def rung(turn: Turn, case: Case) -> Rung:
    """Return the next rung for a case whose node is at fault, or its hint for what can only advise."""
    if case.hint and "advise" in turn.verbs:
        return _advice(turn, case)
    mine = [act for act in _acts(turn, case, case.node) if act.verb in LADDER]
    busy = [act for act in mine if act.state in UNDER_WAY]
    if busy:
        return Rung(rest=f"{busy[0].verb} of {case.node} is under way")
    verb, reached = _next(turn, case, mine)
    if reached:
        rest_s = turn.policy.ladder.step_s - turn.age_s(max(act.changed_ns for act in reached))
        stands = f"{_highest(reached)} of {case.node} stands"
        if not verb:
            return Rung(rest=f"{stands}; it is the last rung")
        if rest_s > 0:
            return Rung(rest=f"{stands}; {verb} in {rest_s / 60:.0f} min (ladder.step_s)")
    if not verb:
        return Rung(rest=f"{turn.scheduler} can do none of {', '.join(_rungs(turn, case))}")
    return Rung(verb, case.node, _id(turn, case, verb, case.node, mine))


def _next(turn: Turn, case: Case, mine: list[Act]) -> tuple[str, list[Act]]:
    """Return the next verb, "" where there is none, and the acts that stand on lower rungs."""
    reached = [act for act in mine if act.state in TRIED]
    above = LADDER.index(_highest(reached)) if reached else -1
    rungs = [verb for verb in _rungs(turn, case) if verb in turn.verbs and LADDER.index(verb) > above]
    if is_offender(turn, case.node, case.incident):
        rungs = [verb for verb in rungs if verb == "ticket"]
    return (rungs[0] if rungs else ""), reached


def _rungs(turn: Turn, case: Case) -> list[str]:
    told = turn.policy.ladder
    start = told.starts.get(case.condition) or told.starts.get(case.severity) or told.start
    return [verb for verb in told.verbs if LADDER.index(verb) >= LADDER.index(start)]


def _highest(acts: list[Act]) -> str:
    return max((act.verb for act in acts), key=LADDER.index)


def _advice(turn: Turn, case: Case) -> Rung:
    target = case.job or case.node
    mine = [act for act in _acts(turn, case, target) if act.verb == "advise"]
    if any(act.state in UNDER_WAY for act in mine):
        return Rung(rest=f"a hint for {target} is under way")
    stands = [act for act in mine if act.state in TRIED]
    if stands:
        told = stands[-1].record.get("params") or {}
        if "hint" not in told or told["hint"] == dict(case.hint):
            return Rung(rest=f"the hint for {target} stands")
        rest_s = turn.policy.ladder.step_s - turn.age_s(stands[-1].changed_ns)
        if rest_s > 0:
            return Rung(rest=f"a hint for {target} stands; another in {rest_s / 60:.0f} min (ladder.step_s)")
    return Rung("advise", target, _id(turn, case, "advise", target, mine))


def _acts(turn: Turn, case: Case, target: str) -> list[Act]:
    acts = turn.ledger.of_incident(case.incident)
    return [act for act in acts if act.target == target and act.scheduler == turn.scheduler]


def _id(turn: Turn, case: Case, verb: str, target: str, mine: list[Act]) -> str:
    """Return the id of an act: the one that waits already, else a new one, the same for the same past."""
    before = [act for act in mine if act.verb == verb]
    for act in before:
        if act.state == PROPOSED and not 0 <= act.expires_ns <= turn.now_ns:
            return act.id
    tries = sum(act.state in (*OVER, *TRIED, PROPOSED) for act in before)
    text = "|".join((turn.scheduler, case.incident, verb, target, str(tries)))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
