"""Sends a command: looks again just before, sends only what is still true, and starts over where the state moved on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..acts import Command, Outcome, Step
from . import _kubernetes_jobs as jobs
from ._kubernetes_client import Client, NoAnswer, Object, Refusal
from ._kubernetes_command import EVENTS

TRIES = 3
AGAIN_S, POLL_S = 5.0, 0.25
GONE, CONFLICT, TOO_MANY, UNAVAILABLE = 404, 409, 429, 503
RIGHTS = (401, 403)


class Moved(Exception):
    """The state of a node or job moved on between our look and our write."""


class Later(Exception):
    """Not now: why, and when to try again."""

    def __init__(self, why: str, after_s: float) -> None:
        super().__init__(why)
        self.why, self.after_s = why, after_s


@dataclass(frozen=True)
class Sending:
    """One command on its way. `again` returns the same command made from a fresh look."""

    client: Client
    command: Command
    again: Callable[[], Command]
    dry_run: bool
    evict_again_s: float
    restart_s: float
    pause: Callable[[float], None] = time.sleep
    clock_s: Callable[[], float] = time.monotonic

    def outcome(self) -> Outcome:
        """Return what came of it; never raises for what a server says."""
        try:
            for _ in range(TRIES):
                try:
                    return self._once()
                except Moved:
                    continue
            return Outcome("conflict", f"{self.command.request.target} changes all the time; nothing was forced")
        except Later as later:
            return Outcome("waiting", later.why, later.after_s)
        except Refusal as error:
            return _said_no(error)
        except NoAnswer as error:
            return Outcome("failed", str(error))

    def _once(self) -> Outcome:
        fresh = self.again()
        if fresh.refused:
            return Outcome("refused", fresh.refused)
        if fresh.nothing:
            return Outcome("nothing", "it is so already")
        if moved := _moved(self.command, fresh):
            return Outcome("conflict", moved)
        notes = self._send_all(fresh.steps)
        seen = "the server would take it; nothing was changed" if self.dry_run else f"{len(fresh.steps)} requests sent"
        return Outcome("done", "; ".join([seen, *notes]))

    def _send_all(self, steps: tuple[Step, ...]) -> list[str]:
        """Send them in turn; a pod that may not go yet does not keep the others, but the act is not done then."""
        notes, held = [], None
        for step in steps:
            try:
                notes.append(self._send(step))
            except Later as later:
                if not step.words[1].endswith("/eviction"):
                    raise
                held = held or later
        if held:
            raise held
        return [note for note in notes if note]

    def _send(self, step: Step) -> str:
        """Send one step; return what is worth telling, "" nothing."""
        method, where = step.words
        if where == EVENTS:
            return self._tell(step)
        if where.endswith("/eviction"):
            return self._evict(step)
        if step.body and jobs.SUSPENDED in ((step.body.get("metadata") or {}).get("annotations") or {}):
            return self._restart(step)
        try:
            self.client.send(method, where, step.body, dry_run=self.dry_run)
        except Refusal as error:
            if error.status == CONFLICT and error.reason != "AlreadyExists":
                raise Moved from None
            if error.status not in (CONFLICT, GONE) or (error.status == GONE and method != "DELETE"):
                raise
        return ""

    def _tell(self, step: Step) -> str:
        """Post an event; that it cannot be told does not undo the act."""
        try:
            self.client.send(step.words[0], step.words[1], step.body, dry_run=self.dry_run)
        except Refusal as error:
            return "" if error.reason == "AlreadyExists" else f"no event: {error}"
        return ""

    def _evict(self, step: Step) -> str:
        if step not in self.command.steps:  # its body names the pod by uid
            return f"{step.body['metadata']['name']} came after the decision and stays"
        try:
            self.client.send(step.words[0], step.words[1], step.body, dry_run=self.dry_run)
        except Refusal as error:
            if error.status == TOO_MANY:
                raise Later(f"a disruption budget holds {step.body['metadata']['name']}: {error}",
                            max(error.after_s, self.evict_again_s)) from None  # fmt: skip
            if error.status not in (GONE, CONFLICT):  # gone, or another pod of that name: either is fine
                raise
        return ""

    def _restart(self, step: Step) -> str:
        """Suspend a job and see its controllers end the pods, or let it go on; it is never left suspended."""
        if step.body["metadata"]["annotations"][jobs.SUSPENDED] is None:
            if not self.dry_run:  # else what it would follow upon was not done
                self._go_on(step, step.body)
            return ""
        if not jobs.is_suspended(self._patch(step, dry_run=True), step):
            raise Refusal(501, "NotImplemented", "this server does not know how to suspend such a job")
        if not self.dry_run:
            self._suspend(step)
        return ""

    def _suspend(self, step: Step) -> None:
        self._patch(step, dry_run=False)
        try:
            if self._is_heard(step):
                return
            raise Refusal(504, "Timeout", f"its controller did not suspend the job in {self.restart_s:g} s; it goes on")
        except BaseException:
            self._go_on(step, jobs.restored(step))
            raise

    def _go_on(self, step: Step, body: Object) -> None:
        """Let a job go on, also where the server is away for a moment; raises Later where it is for longer."""
        for left in reversed(range(TRIES)):
            try:
                self.client.send(step.words[0], step.words[1], body)
                return
            except NoAnswer as error:
                if not left:
                    raise Later(f"the job is still suspended: {error}", AGAIN_S) from None
                self.pause(POLL_S)

    def _is_heard(self, step: Step) -> bool:
        until_s = self.clock_s() + self.restart_s
        while not jobs.is_heard(self.client, step):
            if self.clock_s() >= until_s:
                return False
            self.pause(POLL_S)
        return True

    def _patch(self, step: Step, *, dry_run: bool) -> Object:
        try:
            return self.client.send(step.words[0], step.words[1], step.body, dry_run=dry_run)
        except Refusal as error:
            if error.status == CONFLICT:
                raise Moved from None
            raise


def _moved(command: Command, fresh: Command) -> str:
    """Return what is neither as it was when this was decided nor as it shall be, "" nothing."""
    for key, now in fresh.before.items():
        if now not in (command.before.get(key, now), command.after.get(key, now)):
            return f"{key} is {_short(now)} now, it was {_short(command.before.get(key))}"
    return ""


def _short(value: Any) -> str:  # noqa: ANN401 - any JSON
    text = str(dict(value) if isinstance(value, Mapping) else value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _said_no(error: Refusal) -> Outcome:
    if error.status in (TOO_MANY, UNAVAILABLE):
        return Outcome("waiting", str(error), error.after_s or AGAIN_S)
    mend = "; the identity of skewscope lacks this right" if error.status in RIGHTS else ""
    return Outcome("failed", f"{error}{mend}")
