"""Hints to a training script or a router: weights of micro-batches, admission limits, moves of experts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..acts import Command, Fleet, JobState, Outcome, Request, Step, Values
from ..errors import SkewscopeError
from ..plans import plain
from ..web.server import Pages
from . import _advice, _whole_file
from ._records import refused, request_of


@dataclass(frozen=True)
class Engine:
    """Keeps one hint a job in `FOLDER/JOB.json`, a `skewscope.advice/1`: advice, which nobody must follow.

    `skewscope.hook.advice.Advice` reads it in the training, from the folder or as `GET /advice?job=JOB`, which
    `skewscope node-health --advice FOLDER` and `Engine.pages` serve. A hint ends by itself after `valid_s`, so that
    none outlives us; while its act stands it is set anew.

    `params["hint"]` of the act is the hint: `weights` (a share for each rank), `limits` (numbers by name), `experts`
    (what the planner of experts says), or more. Rights: to write into `folder`. By hand: remove the job's file.
    """

    name: ClassVar[str] = "engine"
    verbs: ClassVar[tuple[str, ...]] = ("advise",)
    folder: str = ""
    valid_s: float = 21_600.0

    def look(self) -> Fleet:
        """Return the jobs that have a file; raises SkewscopeError for a folder that cannot be read."""
        files = {job: _whole_file.file_of(self.folder, job) for job in _whole_file.names_in(self.folder)}
        jobs = {
            job: JobState(job, native={"advice": _advice.sound(_whole_file.read(file))}) for job, file in files.items()
        }
        return Fleet(self.name, {}, jobs, time.time_ns())

    def pages(self) -> Pages:
        """Return what answers `GET /advice?job=JOB`, for a `skewscope.web.server.Server`."""
        return _advice.pages(self.folder)

    def command(self, request: Request, fleet: Fleet) -> Command:
        """Return the hint as it would be; refused without a job or hint, and where the file is not ours.

        An act that is set anew may come without its hint: the file still has it.
        """
        job = request.job or request.target
        former = _hint_of(job, fleet)
        mine = former if former is not None and former["act"] == request.act else None
        hint = request.params.get("hint") or (mine["hint"] if mine else None)
        why = self._unfit(request, job) or _advice.unfit(hint) or _foreign(job, fleet)
        if why:
            return refused(request, self.name, why)
        former = mine["former"] if mine else former
        content = _advice.document(job, request, plain(hint), former and {**former, "former": None})
        stands = mine is not None and mine["hint"] == content["hint"] and self._fresh(mine, fleet)
        return self._change(request, job, _hint_of(job, fleet), content, former, nothing=stands)

    def _unfit(self, request: Request, job: str) -> str:
        if request.verb not in self.verbs:
            return f"{self.name} cannot {request.verb}; it can advise"
        return "" if job else "a hint is for a job, and none is named"

    def _fresh(self, hint: Values, fleet: Fleet) -> bool:
        """Return whether a hint stands for longer than half of its time."""
        return bool(hint["expires_ns"] - fleet.read_ns > self.valid_s * 5e8)

    def _change(
        self, request: Request, job: str, now: Values | None, then: Values | None, former: Values | None, *,
        nothing: bool,
    ) -> Command:  # fmt: skip
        step = Step("file", (str(_whole_file.file_of(self.folder, job)),), then)
        undo = {"job": job, "act": request.act, "former": former}
        return Command(request, self.name, (step,), _advice.seen(now), _advice.seen(then), undo, nothing=nothing)

    def apply(self, command: Command, *, dry_run: bool = True) -> Outcome:
        """Write the hint with its version and end, under a lock; a conflict where another stands there by now."""
        if command.refused:
            return Outcome("refused", command.refused)
        if command.nothing:
            return Outcome("nothing", "it is so already")
        path = _whole_file.file_of(self.folder, command.request.job or command.request.target)
        try:
            if dry_run:
                _whole_file.names_in(self.folder)
                return _compared(command, path) or Outcome("done", "could be written")
            with _whole_file.locked(self.folder):
                found = _compared(command, path)
                if found is None:
                    _whole_file.write(path, _advice.stamped(command.steps[0].body, time.time_ns(), self.valid_s))
                return found or Outcome("done", "the hint is " + ("set" if command.steps[0].body else "gone"))
        except SkewscopeError as error:
            return Outcome("failed", str(error))

    def undo(self, record: Values, fleet: Fleet) -> Command:
        """Return the hint that stood before the act, or none; refused where a later one stands."""
        job = _job_of(record)
        told: Mapping[str, Any] = record.get("undo") or {}
        made = request_of({**record, "verb": "advise", "job": job})
        now = _hint_of(job, fleet)
        why = _foreign(job, fleet)
        if not why and now is not None and now["act"] != made.act and now != told.get("former"):
            why = "a later hint stands"
        if why:
            return refused(made, self.name, why)
        gone = now is None or now["act"] != made.act
        return self._change(made, job, now, told.get("former"), None, nothing=gone)

    def holds(self, record: Values, fleet: Fleet) -> bool | None:
        """Return whether the hint of an act stands and has not ended; None where the file is somebody else's."""
        job = _job_of(record)
        now = _hint_of(job, fleet)
        if now is None:
            return None if _foreign(job, fleet) else False
        return bool(now["act"] == record.get("act") and now["expires_ns"] > fleet.read_ns)

    def is_ending(self, record: Values, fleet: Fleet) -> bool:
        """Return whether the hint of an act is there with less than half of its time left, or has ended by itself."""
        now = _hint_of(_job_of(record), fleet)
        return now is not None and now["act"] == record.get("act") and not self._fresh(now, fleet)


def _job_of(record: Values) -> str:
    told: Mapping[str, Any] = record.get("undo") or {}
    return str(told.get("job") or record.get("job") or record.get("target") or "")


def _hint_of(job: str, fleet: Fleet) -> dict[str, Any] | None:
    state = fleet.jobs.get(job)
    return dict(state.native["advice"]) if state is not None and state.native.get("advice") else None


def _foreign(job: str, fleet: Fleet) -> str:
    return "" if job not in fleet.jobs or _hint_of(job, fleet) else "the file of that job is somebody else's"


def _compared(command: Command, path: Path) -> Outcome | None:
    """Return what speaks against writing now, None where the file is as it was, or as it is to be."""
    content = _whole_file.read(path)
    now = _advice.sound(content)
    if content is not None and now is None:
        return Outcome("refused", "the file is somebody else's")
    fits = _advice.seen(now) in (command.before, command.after)
    return None if fits else Outcome("conflict", "another hint stands by now")
