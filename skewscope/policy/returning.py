"""Guard 15: which of our acts are to be tested, taken back, or told to a person. The breaker is never asked here."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..acts import VERBS, Fleet, Request
from .cases import Around, Case, Said
from .hysteresis import is_healthy
from .ledger import STANDING, Act, Ledger
from .ownership import is_paused
from .settings import Policy
from .turn import Turn, said

STEPS = ("keep", "test", "undo", "drop", "escalate")


@dataclass(frozen=True)
class Return:
    """What is to happen with one standing act of ours.

    `record` is its audit record ("done"). `step`: "keep" it (`why` says until when); "test" the node now; "undo" it;
    "drop": it is no longer ours, nothing is sent, the audit says "undone" with the result "nothing";
    "escalate": a person is called, by `request` (a "ticket") where the scheduler has such a verb.
    """

    record: Mapping[str, Any]
    step: str
    why: tuple[Said, ...] = ()
    request: Request | None = None

    def __post_init__(self) -> None:
        if self.step not in STEPS:
            raise ValueError(f"no step is called {self.step!r}; there are {', '.join(STEPS)}")


def returns(
    policy: Policy, scheduler: str, cases: Sequence[Case], fleet: Fleet, ledger: Ledger, around: Around,
    verbs: Collection[str] = VERBS,
) -> list[Return]:  # fmt: skip
    """Return what is to happen with each standing act of ours on a scheduler, the newest first.

    Acts are taken back in the reverse of their order, that each finds the state which it left behind. Neither breaker,
    budgets nor the calendar keep a node from returning; the kill switch does, and a policy that only observes.
    """
    turn = Turn(policy, scheduler, cases, fleet, ledger, around, verbs)
    acts = [ledger.acts[name] for name in ledger.standing]
    mine = [act for act in acts if act.scheduler == scheduler and act.state == STANDING]
    return [_return(turn, act) for act in reversed(mine)]


def _return(turn: Turn, act: Act) -> Return:
    lost = _is_lost(turn, act)
    if lost:
        return Return(act.record, "drop", (said("ownership", lost),))
    keep = _kept(turn, act)
    if keep:
        return _kept_long(turn, act, Return(act.record, "keep", (keep,)))
    fence = _fence(turn, act)
    if fence and turn.policy.retest.required:
        return _kept_long(turn, act, _tested(turn, fence, act))
    return _undo(act, "the trouble is over")


def _kept_long(turn: Turn, act: Act, found: Return) -> Return:
    """Return what was found, or a call for a person where a node stays fenced for too long."""
    age_s, fenced_s = turn.age_s(act.done_ns), turn.policy.watcher.fenced_s
    if found.step != "keep" or not act.is_fence or age_s < fenced_s or turn.around.stopped:
        return found
    return _escalated(turn, act, f"{act.target} has been fenced for {age_s / 3600:.0f} h: {found.why[0].text}")


def _undo(act: Act, why: str) -> Return:
    return Return(act.record, "undo", (said("returns", why),))


def _is_lost(turn: Turn, act: Act) -> str:
    """Return how a drain of ours was taken over, "" where it was not; what was lifted the actuator knows better."""
    node = turn.node(act.target)
    if act.verb not in ("drain", "quarantine") or node is None:
        return ""
    if node.owner and not node.ours:
        return f"{act.target} belongs to {node.owner} now: {node.reason or 'no reason given'}"
    return ""


def _kept(turn: Turn, act: Act) -> Said | None:
    """Return why an act stays as it is, None where nothing speaks for that."""
    node = turn.node(act.target)
    if turn.around.stopped:
        return said("calendar", f"everything is stopped: {turn.around.stopped}")
    if turn.around.doubt:
        return said("quality", turn.around.doubt)
    if turn.policy.mode(turn.scheduler, act.target if node else "", node.groups if node else ()) == "observe":
        return said("mode", f"{turn.scheduler} is only observed here")
    if is_paused(turn, node):
        return said("ownership", f"{act.target} is paused")
    if node is None and act.is_fence:
        return said("ownership", f"{turn.scheduler} lists no node {act.target} now")
    return _blamed(turn, act) or _held(turn, act)


def _blamed(turn: Turn, act: Act) -> Said | None:
    for case in turn.cases:
        if case.incident != act.incident and (not case.node or case.node != act.target):
            continue
        if case.doubt:
            return said("quality", case.doubt)
        if not is_healthy(turn.policy, case):
            return said("hysteresis", f"incident {case.incident} still stands")
    return None


def _held(turn: Turn, act: Act) -> Said | None:
    left_s = turn.policy.hysteresis.hold_s - turn.age_s(act.done_ns)
    return said("hysteresis", f"stands for {left_s / 60:.0f} more min at least (hold_s)") if left_s > 0 else None


def _fence(turn: Turn, act: Act) -> Act | None:
    """Return the fence whose test decides on an act: itself, or the newest on its node for its incident."""
    if act.is_fence:
        return act
    around = turn.ledger.of_incident(act.incident)
    fences = [one for one in around if one.is_fence and one.state == STANDING and one.target == act.target]
    return fences[-1] if fences else None


def _tested(turn: Turn, fence: Act, act: Act) -> Return:
    """Return what the tests of a fence say about it, or about a gentler act beside it."""
    limits, since = turn.policy.retest, _latest_fence_ns(turn, fence)
    tests = sorted(test for test in _tests(turn, fence) if test[0] >= since)
    if tests and tests[-1][1] and turn.age_s(tests[-1][0]) < limits.again_s:
        return _undo(act, "the node passed its test of speed")
    if act is not fence or fence is not _newest(turn, fence):
        return Return(act.record, "keep", (said("retest", f"waits for the test of {act.target}"),))
    if sum(not passed for _, passed in tests) >= limits.tries:
        return _escalated(turn, act, f"{act.target} failed {limits.tries} tests: a person must look")
    rest_s = max(limits.after_s - turn.age_s(since), limits.again_s - turn.age_s(tests[-1][0]) if tests else 0.0)
    if rest_s > 0:
        return Return(act.record, "keep", (said("retest", f"its test comes in {rest_s / 60:.0f} min"),))
    node = turn.node(act.target)
    if node is not None and (node.jobs or not node.idle):
        return Return(act.record, "keep", (said("work", f"work still runs on {act.target}, or nobody can tell"),))
    return Return(act.record, "test", (said("retest", "it rested, and nothing is seen any more"),))


def _fences(turn: Turn, fence: Act) -> list[Act]:
    acts = turn.ledger.on(fence.target)
    return [one for one in acts if one.is_fence and one.state == STANDING and one.scheduler == turn.scheduler]


def _newest(turn: Turn, fence: Act) -> Act:
    return _fences(turn, fence)[-1]


def _latest_fence_ns(turn: Turn, fence: Act) -> int:
    return max(one.done_ns for one in _fences(turn, fence))


def _tests(turn: Turn, fence: Act) -> list[tuple[int, bool]]:
    """Return the tests of a node, whichever act they were for: a test tells of the node."""
    return [test for one in turn.ledger.on(fence.target) for test in one.tests]


def _escalated(turn: Turn, act: Act, text: str) -> Return:
    why = (said("retest", text),)
    tickets = [one for one in turn.ledger.of_incident(act.incident) if one.verb == "ticket"]
    if any(one.was_done for one in tickets) or turn.ledger.breaker:  # which calls for a person already
        return Return(act.record, "keep", why)
    name = hashlib.sha256(f"ticket|{turn.scheduler}|{act.incident}|{act.target}|{len(tickets)}".encode()).hexdigest()[
        :12
    ]
    request = Request(name, "ticket", act.target, act.incident, why[0].text, job=act.job)
    return Return(act.record, "escalate", why, request if "ticket" in turn.verbs else None)
