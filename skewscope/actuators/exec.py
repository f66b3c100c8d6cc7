"""Runs a program of the site's own for each act: for LSF, PBS, Grid Engine, in-house schedulers and tickets."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..acts import VERBS, Command, Fleet, Outcome, Request, Step, Values, plain_text
from ..errors import SkewscopeError, UsageError
from . import _fleet_document, _program
from ._memory import kept, looked
from ._node_list import node_names
from ._records import LASTING, freed, marks, refused, request_of, stands, told_of, unfit

PLACES = ("{node}", "{verb}", "{reason}", "{incident}", "{act}", "{job}", "{gpu}")
AGAIN = 75  # EX_TEMPFAIL of sysexits.h


@dataclass(frozen=True)
class Exec:
    """Runs `words`, an argument list; {node}, {verb}, {reason}, {incident}, {act}, {job}, {gpu} are put in as words.

    There is no shell. On its standard input the program finds the act as JSON, `skewscope.act/1`. It exits with 0 for
    done, 75 for "try again later", anything else for failed; it must do no more for the same {act} the second time.
    `undo_words` take an act back. `look_words` print a `skewscope.fleet/1`: what nodes there are, who fenced them, what
    runs there. Without them, `nodes` (or `nodes_file`) lists them, and `memory` is a folder where skewscope writes down
    what it has sent. What lasts is only sent where it can be taken back, and where what stands is known.

    `test_words`, as ["srun", "-w", "{node}"], start the test of a fenced node, whose own words follow.

    Rights: those of the program. By hand: run `undo_words` as the audit record of the act tells them.
    """

    name: ClassVar[str] = "exec"
    words: tuple[str, ...] = ()
    undo_words: tuple[str, ...] = ()
    look_words: tuple[str, ...] = ()
    test_words: tuple[str, ...] = ()
    memory: str = ""
    nodes: tuple[str, ...] = ()
    nodes_file: str = ""
    verbs: tuple[str, ...] = VERBS
    timeout_s: float = 30.0
    again_s: float = 60.0
    environment: tuple[str, ...] = _program.PASSED_ON

    def look(self) -> Fleet:
        """Return what `look_words` print, else what we remember; raises SkewscopeError where that fails."""
        if not self.look_words:
            return looked(self.name, self.memory, node_names(self.nodes, self.nodes_file))
        ran = _program.run(self.look_words, timeout_s=self.timeout_s, passed_on=self.environment)
        return _fleet_document.fleet(self.name, _program.document(ran, self.look_words[0]))

    def command(self, request: Request, fleet: Fleet) -> Command:
        """Return the words as they would be run; refused for unknown nodes, and lasting acts that have no undo."""
        why = unfit(request, self.verbs, fleet)
        if not why and request.verb in LASTING:
            why = self._lacking()
        return refused(request, self.name, why) if why else self._made(self.words, request, fleet, "act")

    def _lacking(self) -> str:
        if not self.undo_words:
            return "set undo_words first: what cannot be taken back is not sent"
        return "" if self.look_words or self.memory else "set look_words, or memory: what stands is not known"

    def undo(self, record: Values, fleet: Fleet) -> Command:
        """Return `undo_words` as they would be run for the act of a record; nothing where its fence is gone already."""
        request = request_of(record)
        why = unfit(request, (request.verb,), fleet)
        if not why and not self.undo_words:
            why = "no undo_words are set: take it back by hand"
        if why:
            return refused(request, self.name, why)
        if freed(record, fleet):
            return Command(request, self.name, nothing=True)
        return self._made(self.undo_words, request, fleet, "undo")

    def _made(self, words: Sequence[str], request: Request, fleet: Fleet, event: str) -> Command:
        try:
            step = Step("run", fill(words, request), told_of(request, event))
        except UsageError as error:
            return refused(request, self.name, str(error))
        undo = {"act": request.act, "node": request.target} if event == "act" and self.undo_words else {}
        return Command(request, self.name, (step,), *marks(request, fleet, event), undo)

    def apply(self, command: Command, *, dry_run: bool = True) -> Outcome:
        """Run the program; "waiting" where it exits with 75. A dry run only looks whether it could be started."""
        if command.refused:
            return Outcome("refused", command.refused)
        if command.nothing:
            return Outcome("nothing", "it is so already")
        (step,) = command.steps
        if dry_run:
            found = shutil.which(step.words[0])
            return Outcome("done" if found else "failed", f"{step.words[0]} {'can' if found else 'cannot'} be run")
        try:
            ran = _program.run(step.words, step.body, timeout_s=self.timeout_s, passed_on=self.environment)
        except SkewscopeError as error:
            return Outcome("failed", str(error))
        if ran.code == AGAIN:
            return Outcome("waiting", ran.complaint or "the program asks to try again", self.again_s)
        told = ran.complaint or plain_text(ran.output[-_program.TOLD_BYTES :].decode("utf-8", "replace"))
        if ran.code:
            return Outcome("failed", f"exit code {ran.code}: {told}")
        return kept(self.memory, command.request, step.body["event"], told)

    def holds(self, record: Values, fleet: Fleet) -> bool | None:
        """Return whether the act stands, as the fleet or our memory tells; None where neither does."""
        return stands(record, fleet) if self.look_words or self.memory else None

    def test(self, record: Values, words: tuple[str, ...], timeout_s: float) -> str:
        """Return what a program wrote that `test_words` started on the node of an act; raises SkewscopeError."""
        if not self.test_words:
            raise UsageError("exec: set test_words, which start a program on a fenced node")
        filled = (*fill(self.test_words, request_of(record)), *words)
        ran = _program.run(filled, timeout_s=timeout_s, passed_on=self.environment)
        if ran.code:
            raise SkewscopeError(f"the test ended with {ran.code}: {ran.complaint or 'it said nothing'}")
        return ran.output.decode("utf-8", "replace")


def fill(words: Sequence[str], request: Request) -> tuple[str, ...]:
    """Return the words with what is asked put in; raises UsageError for what must not become a word.

    >>> fill(("fence", "{node}", "{verb}"), Request("a1", "drain", "n3", "c0ffee", "slow"))
    ('fence', 'n3', 'drain')
    """
    if not words or words[0] in PLACES:
        raise UsageError("set `words`: the program and its arguments, as a list")
    values = (request.target, request.verb, request.reason, plain_text(request.incident), plain_text(request.act),
              plain_text(request.job), str(request.gpu))  # fmt: skip
    known = dict(zip(PLACES, values, strict=True))
    for word in words:
        if word not in known and any(place in word for place in PLACES):
            raise UsageError(f"{word!r}: a place such as {{node}} must be a word of its own")
        if word in known and word != "{gpu}" and (known[word][:1] == "-" or not known[word].isprintable()):
            raise UsageError(
                f"{plain_text(known[word])!r} is not put into a command: a program might take it for a flag"
            )
    return tuple(known.get(word, word) for word in words)
