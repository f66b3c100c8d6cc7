"""Carries one act out on one scheduler, or takes it back: written down before it is sent, and again what came of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..acts import Actuator, Command, Fleet, Outcome, Request
from ..errors import SkewscopeError
from .audit import AuditError, Record
from .book import Book
from .entry import Fields, kept, of_command, of_outcome, of_request
from .journal import Journal
from .pace import Pace

PHASE = {"done": "done", "nothing": "done", "refused": "refused", "conflict": "failed", "waiting": "waiting",
         "failed": "failed"}  # fmt: skip
FOREIGN = "somebody else"
log = logging.getLogger("skewscope.acting")


@dataclass
class Performer:
    """One scheduler's hand. `troubles` says why it does not answer ("" it does)."""

    name: str
    actuator: Actuator
    book: Book
    pace: Pace
    policy: str = ""  # version
    tries: int = 1  # of one act in a turn: sending a command twice does no more than sending it once
    trouble: str = ""
    fleet: Fleet | None = None

    @property
    def journal(self) -> Journal:
        """What the audit says of acts under way."""
        return self.book.journal

    def look(self) -> Fleet | None:
        """Return the fleet of now, None where the scheduler does not answer."""
        self.pace.wait()
        try:
            self.fleet = self.actuator.look()
            self.trouble = ""
        except AuditError:
            raise
        except Exception as error:  # one scheduler that is away must not keep the others from their turn
            self._fails(error)
            self.fleet = None
        return self.fleet

    def command(self, request: Request, fleet: Fleet) -> Command:
        """Return what would be sent; refused where the actuator cannot even say that."""
        try:
            return self.actuator.command(request, fleet)
        except Exception as error:
            log.exception("%s: no command for %s", self.name, request.act)
            return Command(request, self.name, refused=_said(error))

    def rehearse(self, told: Fields, command: Command) -> Record:
        """Let the scheduler check a command without changing anything, and write down that it would have been sent."""
        told = {**told, **of_command(command), "dry_run": True, "policy": self.policy}
        if command.refused or command.nothing:
            result = {"result": "refused" if command.refused else "nothing", "detail": command.refused or None}
        else:
            result = of_outcome(self.send(command, dry_run=True))
        return self.write("observed", **{**told, **result})

    def act(self, told: Fields, command: Command) -> Record:
        """Write a command down, send it, write down what came of it; return that record.

        Where it is not known what came of it, the intent stays without a result, and the next turn looks what stands.
        """
        told = {**told, **of_command(command), "dry_run": False, "policy": self.policy}
        if command.refused:
            return self.write("refused", **told, result="refused", detail=command.refused)
        if command.nothing and told["act"] not in self.journal.first:
            return self.write("done", **told, result="nothing")
        intent = self.write("intended", **told)
        whole = kept(self.journal.whole(intent)) | {"dry_run": False}
        outcome = Outcome("done") if command.nothing else self._carried_out(intent, command)
        if outcome is None:
            return intent
        more = {"after_s": outcome.after_s} if outcome.result == "waiting" else {}
        return self.write(PHASE[outcome.result], **whole, **of_outcome(outcome), **more)

    def _carried_out(self, intent: Record, command: Command) -> Outcome | None:
        """Send a command, and again where it failed; return what came of it, None where nobody can see that."""
        outcome: Outcome | None = None
        for tries in range(1, self.tries + 1):
            outcome = self.send(command)
            if outcome.result in ("failed", "conflict"):
                outcome = self._after_failure(intent, outcome)
            if outcome is None or outcome.result != "failed" or tries == self.tries:
                break
            self.pace.rest(tries)
        return outcome

    def _after_failure(self, intent: Record, outcome: Outcome) -> Outcome | None:
        """Return what really came of an act that is said to have failed: the answer may have been lost, not the act."""
        fleet = self.look()
        if fleet is None:
            return None
        if self.holds(intent, fleet) and outcome.result == "failed":
            return Outcome("done", f"it stands, though the scheduler said: {outcome.detail}")
        return outcome

    def undo(self, record: Record, fleet: Fleet, why: str, actor: str | None = None) -> Record | None:
        """Take an act back; return the last record of it, None where it was said before that this is refused."""
        act = record["act"]
        told = {**kept(self.journal.whole(record)), "of": act, "dry_run": False, "policy": self.policy, "actor": actor}
        command = self.undoing(record, fleet)
        if command.refused:
            told |= {"result": "refused", "detail": command.refused}
            return self.write("undo-failed", **told) if self._is_new(told) else None
        if command.nothing:
            return self.write("undone", **told, result="nothing", detail=why)
        changes = of_command(command)
        told |= {"before": changes["before"], "after": changes["after"], "sent": changes["sent"]}
        self.write("undoing", **told, detail=why)
        outcome = self._after_undoing(record, self.send(command))
        done = outcome.result in ("done", "nothing")
        return self.write("undone" if done else "undo-failed", **told, **of_outcome(outcome))

    def _after_undoing(self, record: Record, outcome: Outcome) -> Outcome:
        """Return what really came of an undo that is said to have failed."""
        if outcome.result != "failed":
            return outcome
        fleet = self.look()
        if fleet is None or self.holds(record, fleet) is not False:
            return outcome
        return Outcome("done", f"it is gone, though the scheduler said: {outcome.detail}")

    def undoing(self, record: Record, fleet: Fleet) -> Command:
        """Return what would be sent to take an act back."""
        try:
            return self.actuator.undo(self.journal.whole(record), fleet)
        except Exception as error:
            log.exception("%s: no undo for %s", self.name, record["act"])
            request = Request(record["act"], record["verb"], record["target"], record["incident"], "")
            return Command(request, self.name, refused=_said(error))

    def holds(self, record: Record, fleet: Fleet) -> bool | None:
        """Return whether what an act did stands, None where nobody can tell."""
        try:
            return self.actuator.holds(self.journal.whole(record), fleet)
        except Exception:
            log.exception("%s: cannot see whether %s stands", self.name, record["act"])
            return None

    def is_ending(self, record: Record, fleet: Fleet) -> bool:
        """Return whether an act wants to be set anew, since it ends by itself."""
        asked = getattr(self.actuator, "is_ending", None)
        return asked is not None and bool(asked(self.journal.whole(record), fleet))

    def write(self, phase: str, **told: Any) -> Record:  # noqa: ANN401 - any JSON value
        """Write a record down, and say so in the log."""
        record = self.book.append(phase, **told)
        log.info("%s: %s %s %s: %s", self.name, phase, record.get("verb", ""), record.get("target", ""),
                 record.get("detail") or record.get("reason") or "")  # fmt: skip
        return record

    def send(self, command: Command, *, dry_run: bool = False) -> Outcome:
        """Send a command that is written down; a fault is an outcome, too."""
        self.pace.wait()
        try:
            return self.actuator.apply(command, dry_run=dry_run)
        except AuditError:
            raise
        except Exception as error:
            self._fails(error)
            return Outcome("failed", _said(error))

    def _fails(self, error: Exception) -> None:
        said = _said(error)
        if said != self.trouble:
            log.error("%s: %s", self.name, said)
        if not isinstance(error, SkewscopeError):
            log.debug("%s", self.name, exc_info=error)
        self.trouble = said

    def _is_new(self, told: Mapping[str, Any]) -> bool:
        last = self.journal.refusals.get(told["of"])
        return bool(last != told["detail"])


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, SkewscopeError) else f"{type(error).__name__}: {error}"


def request_fields(request: Request, scheduler: str) -> Fields:
    """Return what a record says of a request that stands behind no decision: of a person, or a call for one."""
    return {"scheduler": scheduler, **of_request(request)}
