"""What people answered to proposals: read from the file of decisions that the dashboard appends to."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from .book import Book

SCHEMA = "skewscope.decision/1"
PHASES = {"approve": "approved", "reject": "rejected", "snooze": "rejected"}
SECOND_NS = 10**9
SKEW_NS = 300 * SECOND_NS  # clocks of two hosts may differ by so much
log = logging.getLogger("skewscope.acting")
Answer = Mapping[str, Any]


class Answers(Protocol):
    """Where answers come from."""

    def new(self) -> list[Answer]:
        """Return the answers that came since the last call, the oldest first."""


class AnswerFile:
    """A file of `skewscope.decision/1` lines that another process appends to; one that is not there yet is empty."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._told = ""

    def new(self) -> list[Answer]:
        """Return the whole lines that were added; a file that became shorter is read from its start."""
        try:
            with open(self.path, "rb") as file:
                size = file.seek(0, 2)
                self._offset = min(self._offset, size) if size >= self._offset else 0
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        except OSError as error:
            self._complain(f"{self.path}: decisions cannot be read: {error.strerror or error}")
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return list(self._parsed(whole))

    def _parsed(self, data: bytes) -> Iterator[Answer]:
        for line in data.splitlines():
            try:
                told = json.loads(line)
            except ValueError:
                told = None
            if isinstance(told, dict) and told.get("schema") == SCHEMA:
                yield told
            elif line.strip():
                self._complain(f"{self.path} holds a line that is no {SCHEMA}")

    def _complain(self, text: str) -> None:
        if text != self._told:
            log.error("%s", text)
        self._told = text


def take(answers: Answers, book: Book, now_ns: int) -> None:
    """Write down what people answered to proposals that still wait; anything else is passed over.

    An answer is known by its `key`, so that one that is read again after a restart counts once; it counts for what the
    person saw (`seen` is the hash of that record), not for what was proposed before or after; a person counts once.
    """
    for answer in answers.new():
        act, key = str(answer.get("act") or ""), str(answer.get("key") or "")
        proposal = book.journal.proposals.get(act)
        phase = PHASES.get(str(answer.get("decision")))
        if proposal is None or phase is None or not key or key in book.journal.answers:
            continue
        if _is_late(answer, proposal, now_ns) or answer.get("seen", proposal["hash"]) != proposal["hash"]:
            continue
        _write(book, answer, proposal, phase)


def _is_late(answer: Answer, proposal: Mapping[str, Any], now_ns: int) -> bool:
    time_ns, expires_ns = answer.get("time_ns"), proposal.get("expires_ns")
    old = isinstance(time_ns, int) and time_ns < proposal["time_ns"] - SKEW_NS
    return old or (expires_ns is not None and expires_ns <= now_ns)


def _write(book: Book, answer: Answer, proposal: Mapping[str, Any], phase: str) -> None:
    act, person = proposal["act"], str(answer.get("person") or "somebody")
    if phase == "approved" and person in book.journal.approved.get(act, ()):
        return
    names = ("act", "scheduler", "verb", "target", "job", "incident", "finding")
    told: dict[str, Any] = {name: proposal[name] for name in names if name in proposal}
    if answer.get("decision") == "snooze":
        told["result"] = "snoozed"
        told["expires_ns"] = book.audit.now_ns() + int(float(answer.get("seconds") or 0) * SECOND_NS)
    book.append(phase, **told, actor=person, detail=str(answer.get("reason") or ""), answer=str(answer["key"]))


def expire(book: Book, now_ns: int) -> None:
    """Write down which proposals nobody answered in time."""
    for act, proposal in list(book.journal.proposals.items()):
        expires_ns = proposal.get("expires_ns")
        if expires_ns is not None and expires_ns <= now_ns:
            names = ("scheduler", "verb", "target", "job", "incident", "finding")
            told = {name: proposal[name] for name in names if name in proposal}
            book.append("expired", act=act, **told, expires_ns=expires_ns)
