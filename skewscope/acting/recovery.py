"""What was left open: acts without a result after a crash, acts that wait, marks that a scheduler lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..acts import Command, Fleet, Outcome
from ..policy.cases import Around, Case
from ..policy.guards import against
from ..policy.settings import Policy
from ..policy.turn import Turn, Wanted
from .entry import kept, of_command, request_of
from .performing import FOREIGN, Performer

SECOND_NS = 10**9
SOFT = ("note", "avoid")  # what a scheduler may lose when it starts anew
MOST_REAPPLIED = 3
WAIT_S = 60.0  # before another try, where the scheduler does not say
CUT = "a crash cut it off; the rest is sent now"
UNSEEN = "nobody can see whether it was done; it is taken as done, so that it is not done twice"
Record = Mapping[str, Any]


def recover(hand: Performer, fleet: Fleet) -> None:
    """Say of each intent without a result whether what it wanted stands: a crash came between the two.

    One that was cut off between two of its steps is gone on with: half a restart is a job that stands still.
    """
    for record in _own(hand, hand.journal.intents):
        stands = hand.holds(record, fleet)
        rest = _rest(hand, record, fleet) if stands is not False else None
        if rest is not None:
            hand.write("waiting", **kept(hand.journal.whole(record)), dry_run=False, result="waiting", detail=CUT)
            hand.act(kept(hand.journal.whole(record)), rest)
            continue
        result = "nothing" if stands is False else "done"
        detail = UNSEEN if stands is None else None
        hand.write("recovered", **kept(hand.journal.whole(record)), dry_run=False, result=result, detail=detail)
    for record in _own(hand, hand.journal.undoings):
        stands = hand.holds(record, fleet)
        result = "nothing" if stands is False else "done"
        hand.write("recovered", **kept(record), of=record["of"], dry_run=False, result=result)


def _rest(hand: Performer, record: Record, fleet: Fleet) -> Command | None:
    """Return what is still to be sent of an act of several steps, None where that cannot be told or is nothing."""
    command = hand.command(request_of(hand.journal.whole(record)), fleet)
    is_part = 0 < len(command.steps) < len(hand.journal.whole(record).get("sent") or ())
    return command if is_part and not command.refused and not command.nothing else None


def _own(hand: Performer, some: Mapping[str, Record]) -> list[Record]:
    return [record for record in some.values() if record["scheduler"] == hand.name]


def retry(
    hand: Performer, policy: Policy, cases: Sequence[Case], fleet: Fleet, around: Around, *, dry_run: bool
) -> bool:
    """Try acts again that wait for others (a disruption budget); return whether one was sent.

    One that waited too long, or whose incident is over, ends: done where what it did so far stands, else failed. All
    safe-guards are asked again: much may have changed since.
    """
    live = {case.incident: case for case in cases if not case.healthy}
    sent = False
    for record in _own(hand, hand.journal.waits):
        first_ns = hand.journal.first[record["act"]]["time_ns"]
        case = live.get(record["incident"])
        if case is None:
            _end(hand, record, fleet, "its incident is over")
        elif around.now_ns - first_ns >= policy.work.longest_wait_s * SECOND_NS:
            _end(hand, record, fleet, "it waited too long")
        elif not dry_run and not sent and _is_due(record, around.now_ns):
            turn = Turn(policy, hand.name, cases, fleet, hand.book.ledger, around, hand.actuator.verbs)
            sent = _is_free(turn, case, record) and _again(hand, record, fleet)
    return sent


def _is_free(turn: Turn, case: Case, record: Record) -> bool:
    """Return whether nothing speaks against a waiting act now."""
    params, node = record.get("params") or {}, turn.node(record["target"])
    restarts = record["verb"] == "requeue" or bool(params.get("requeue") or params.get("evict"))
    mode = turn.policy.mode(turn.scheduler, record["target"], node.groups if node else ())
    return mode != "observe" and not against(
        turn, Wanted(case, record["verb"], record["target"], record["act"], restarts)
    )


def _is_due(record: Record, now_ns: int) -> bool:
    rest_ns = float(record.get("after_s") or WAIT_S) * SECOND_NS
    return not 0 <= now_ns - int(record["time_ns"]) < rest_ns


def _again(hand: Performer, record: Record, fleet: Fleet) -> bool:
    command = hand.command(request_of(record), fleet)
    if command.refused:
        _end(hand, record, fleet, command.refused)
        return False
    hand.act(kept(record), command)
    return True


def _end(hand: Performer, record: Record, fleet: Fleet, why: str) -> None:
    stands = hand.holds(record, fleet) is not False
    detail = f"{why}; what was done so far stands" if stands else why
    told = {**kept(hand.journal.whole(record)), "dry_run": False, "detail": detail}
    hand.write("done" if stands else "failed", **told, result="done" if stands else "failed")


def reconcile(hand: Performer, fleet: Fleet, *, dry_run: bool) -> bool:
    """See whether what we did still stands: set lost marks again, and give up what somebody else took back.

    Returns whether anything was sent.

    A fence that is gone was lifted by a person, who knows better. A mark is set again a few times at most, and what
    ends by itself as often as it ends.
    """
    sent = False
    standing = {act: one for act, one in hand.book.ledger.standing.items() if one.get("scheduler") == hand.name}
    newest = {(one["target"], one["verb"]): act for act, one in standing.items()}
    for act, record in standing.items():
        busy = act in hand.journal.undoings or act in hand.journal.testing
        covered = newest[record["target"], record["verb"]] != act  # by a later one of ours, for another incident
        if busy or covered:
            continue
        if hand.is_ending(record, fleet):
            sent |= not dry_run and fleet.complete and _reapply(hand, record, fleet)
            continue
        if hand.holds(record, fleet) is not False:
            continue
        if record["verb"] in SOFT and hand.journal.reapplied.get(act, 0) < MOST_REAPPLIED and fleet.complete:
            sent |= not dry_run and _reapply(hand, record, fleet)
        elif fleet.complete:
            detail = "it does not stand any more: somebody else took it back, or its job is over"
            hand.write("undone", **kept(record), of=act, dry_run=False, result="nothing", actor=FOREIGN, detail=detail)
    return sent


def _reapply(hand: Performer, record: Record, fleet: Fleet) -> bool:
    command = hand.command(request_of(record), fleet)
    if command.refused or command.nothing:
        return False
    told = {**kept(record), **of_command(command), "of": record["act"], "dry_run": False}
    hand.write("reapplied", **told, result="intended")
    outcome: Outcome = hand.send(command)
    hand.write("reapplied", **told, result=outcome.result, detail=outcome.detail or None)
    return True
