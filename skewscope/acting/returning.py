"""The way back: standing acts are tested, taken back, or handed to a person, as the policy says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..acts import Fleet
from ..policy.cases import Around, Case
from ..policy.decide import Return, returns
from ..policy.settings import Policy
from .entry import Fields, kept, said
from .performing import FOREIGN, Performer, request_fields
from .retesting import Trials

Record = Mapping[str, Any]


def take_back(
    hand: Performer,
    policy: Policy,
    tests: Trials,
    cases: Sequence[Case],
    fleet: Fleet,
    around: Around,
    *,
    dry_run: bool,
) -> Fleet | None:
    """Do what the policy says of each standing act of a scheduler; return the fleet after it, None where it is away."""
    tests.settle(hand)
    now = fleet
    for one in returns(policy, hand.name, cases, fleet, hand.book.ledger, around, hand.actuator.verbs):
        if one.record["act"] in hand.journal.undoings or one.record["act"] in hand.journal.testing:
            continue
        if dry_run and one.step != "keep":
            _would(hand, one)
        elif _done(hand, one, tests, now):
            looked = hand.look()  # what follows must not be decided upon the state before
            if looked is None:
                return None
            now = looked
    tests.settle(hand)
    return now


def _done(hand: Performer, one: Return, tests: Trials, fleet: Fleet) -> bool:
    """Do one step; return whether anything was sent."""
    if one.step == "test":
        tests.start(hand, one.record)
        return True
    if one.step == "undo" or (one.step == "drop" and hand.holds(one.record, fleet)):
        came = hand.undo(one.record, fleet, _why(one))
        return came is not None and came.get("result") != "nothing"
    if one.step == "drop":
        told = {**kept(one.record), "of": one.record["act"], "dry_run": False, "actor": FOREIGN, "detail": _why(one)}
        hand.write("undone", **told, result="nothing")
    return one.step == "escalate" and _escalate(hand, one, fleet)


def _why(one: Return) -> str:
    return "; ".join(told.text for told in one.why)


def _would(hand: Performer, one: Return) -> None:
    """Say once what would be done."""
    told: Fields = {**kept(one.record), "of": one.record["act"], "why": said(one.why)}
    told |= {"dry_run": True, "result": one.step, "detail": f"would {one.step}: {_why(one)}"}
    if hand.journal.is_new({**told, "phase": "observed"}):
        hand.write("observed", **told)


def _escalate(hand: Performer, one: Return, fleet: Fleet) -> bool:
    """Call a person: by a ticket where the scheduler has such a thing, and in any case once in the audit."""
    told: Fields = {**kept(one.record), "of": one.record["act"], "why": said(one.why)}
    told |= {"result": "escalate", "detail": f"a person is called: {_why(one)}"}
    request = one.request
    if request is None:
        if hand.journal.is_new({**told, "phase": "held"}):
            hand.write("held", **told)
        return False
    if request.act in hand.journal.first or request.act in hand.journal.done:
        return False
    fields = {**request_fields(request, hand.name), "finding": one.record.get("finding"), "why": said(one.why)}
    hand.act(fields, hand.command(request, fleet))
    return True
