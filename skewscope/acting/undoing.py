"""Acts taken back by a person's word."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..acts import Fleet
from ..errors import SkewscopeError, UsageError
from ..policy.settings import Policy
from . import rooms
from .audit import Audit, Record
from .book import Book
from .entry import of_command
from .lease import Turns
from .lines import MemoryLines
from .pace import Pace
from .performing import Performer


def look(policy: Policy, path: Path, act: str, now_ns: int) -> tuple[Record, Mapping[str, Any]]:
    """Return the record of an act and what would be sent to take it back; nothing is changed or written.

    Raises UsageError where no such act stands, SkewscopeError where the scheduler does not answer.
    """
    lines = MemoryLines()
    lines.data += path.read_bytes()
    hand, record, fleet = _found(policy, Book(Audit(lines, lambda: now_ns)), act)
    command = hand.undoing(record, fleet)
    return record, {**of_command(command), "refused": command.refused, "nothing": command.nothing}


def undo(policy: Policy, path: Path, act: str, person: str, why: str) -> Record:
    """Take an act back, in turn with a watcher that acts; return the record of what came of it.

    Raises UsageError where no such act stands, SkewscopeError where the scheduler does not answer.
    """
    with Turns(path).working():
        hand, record, fleet = _found(policy, Book(Audit(path, actor=person)), act)
        hand.journal.refusals.clear()  # it is told again
        came = hand.undo(record, fleet, why)
        if came is None:
            raise SkewscopeError(f"act {record['act']} cannot be taken back")
        return came


def _found(policy: Policy, book: Book, act: str) -> tuple[Performer, Record, Fleet]:
    record = standing(book, act)
    name = record["scheduler"]
    hand = Performer(name, rooms.actuators(policy, [name])[name], book, Pace(policy.rate.per_s), policy.version)
    fleet = hand.look()
    if fleet is None:
        raise SkewscopeError(f"{name}: {hand.trouble}")
    return hand, record, fleet


def standing(book: Book, act: str) -> Record:
    """Return the record of the act whose id begins so and that stands, or may; raises UsageError."""
    journal = book.journal
    some = {**journal.intents, **journal.waits, **book.ledger.standing}
    found = [record for name, record in some.items() if name.startswith(act)] if act else []
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{act!r} may be {', '.join(one['act'] for one in found)}: give more letters")
    if any(name.startswith(act) for name in journal.first):
        raise UsageError(f"act {act!r} does not stand any more: it was undone, or failed; `skewscope audit show {act}`")
    raise UsageError(f"no act is called {act!r}; `skewscope audit list` shows those that stand")
