"""Verdict files for in-house launchers, prologs and Slurm's HealthCheckProgram: one JSON file a node."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

from ..acts import LADDER, Command, Fleet, Outcome, Request, Step, Values
from ..errors import SkewscopeError
from . import _verdicts, _whole_file
from ._memory import remembered
from ._node_list import node_names
from ._records import refused, request_of, unfit


@dataclass(frozen=True)
class File:
    """Writes `FOLDER/NODE.json`, a `skewscope.verdict/1` with all acts that stand on a node, and takes its own out.

    Whoever starts jobs reads the file and obeys: `keep_out` is true while the node must get no new work. Rights: to
    write into `folder`, nothing else. By hand: remove the node's file, or the act from its list.

    Settings: `folder`; `nodes` as ["n[01-64]"] or `nodes_file` with one a line, the only names that are ever written;
    `verbs` that the reader of the files understands.
    """

    name: ClassVar[str] = "file"
    folder: str = ""
    nodes: tuple[str, ...] = ()
    nodes_file: str = ""
    verbs: tuple[str, ...] = LADDER

    def look(self) -> Fleet:
        """Return the listed nodes with what stands on them; raises SkewscopeError for a folder that cannot be read."""
        return remembered(self.name, self.folder, node_names(self.nodes, self.nodes_file))

    def command(self, request: Request, fleet: Fleet) -> Command:
        """Return the file as it would be; refused for a node that is not listed, or a file that is not ours."""
        why = unfit(request, self.verbs, fleet)
        if why:
            return refused(request, self.name, why)
        acts = _verdicts.acts_on(fleet, request.target) or []
        if any(one["act"] == request.act for one in acts):
            return self._change(request, acts, acts)
        return self._change(request, acts, [*acts, _verdicts.entry(request)])

    def _change(self, request: Request, before: list[_verdicts.Document], after: list[_verdicts.Document]) -> Command:
        path = _whole_file.file_of(self.folder, request.target)
        step = Step("file", (str(path),), _verdicts.document(request.target, after))
        return Command(
            request, self.name, (step,), _verdicts.seen(before), _verdicts.seen(after),
            {"node": request.target, "act": request.act}, nothing=before == after,
        )  # fmt: skip

    def apply(self, command: Command, *, dry_run: bool = True) -> Outcome:
        """Write or remove the file, under a lock; a conflict where it is not as the command was made for."""
        if command.refused:
            return Outcome("refused", command.refused)
        if command.nothing:
            return Outcome("nothing", "it is so already")
        try:
            if dry_run:
                return self._compared(command) or self._writable()
            with _whole_file.locked(self.folder):
                found = self._compared(command)
                if found is None:
                    (step,) = command.steps
                    _whole_file.write(_whole_file.file_of(self.folder, command.request.target), step.body)
                return found or Outcome("done", f"wrote {step.words[0]}" if step.body else f"removed {step.words[0]}")
        except SkewscopeError as error:
            return Outcome("failed", str(error))

    def _compared(self, command: Command) -> Outcome | None:
        """Return what speaks against writing now, None where the file is still as it was."""
        acts = _verdicts.acts_of(_whole_file.read(_whole_file.file_of(self.folder, command.request.target)))
        if acts is None:
            return Outcome("refused", "the file is somebody else's")
        now = _verdicts.seen(acts)
        if now == command.after:
            return Outcome("nothing", "it is so already")
        return None if now == command.before else Outcome("conflict", "the file was changed meanwhile")

    def _writable(self) -> Outcome:
        if os.access(self.folder, os.W_OK | os.X_OK):
            return Outcome("done", "could be written")
        return Outcome("failed", f"{self.folder}: no permission to write")

    def undo(self, record: Values, fleet: Fleet) -> Command:
        """Return the file without the act of a record, or none where it was the last; others' acts stay."""
        request = request_of(record)
        why = unfit(request, (request.verb,), fleet)
        if why:
            return refused(request, self.name, why)
        acts = _verdicts.acts_on(fleet, request.target) or []
        return self._change(request, acts, [one for one in acts if one["act"] != request.act])

    def holds(self, record: Values, fleet: Fleet) -> bool | None:
        """Return whether the act of a record stands in its node's file."""
        request = request_of(record)
        acts = _verdicts.acts_on(fleet, request.target) if request.target in fleet.nodes else None
        return None if acts is None else any(one["act"] == request.act for one in acts)
