"""Talks to Slurm through its own programs: argument lists only, never a shell, each with a time limit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..acts import Step, plain_text
from ..errors import SkewscopeError
from ._slurm_state import Reservation, Told, racks_of, reservations_of

PROGRAM = "run"
AGAIN = ("unable to contact slurm controller", "connect failure", "connection refused", "timed out", "zero bytes",
         "munge", "try again", "not the controller", "invalid node state")  # fmt: skip
# A node's state is invalid for a while after slurmctld was started anew, until the node answers.
NODE_WORDS = {"state": "State", "reason": "Reason", "weight": "Weight", "features": "AvailableFeatures",
              "active_features": "ActiveFeatures", "comment": "Comment", "extra": "Extra"}  # fmt: skip
KEPT = ("SLURM_CONF", "SLURM_JWT")
DROPPED = ("SLURM_", "SINFO_", "SQUEUE_", "SRUN_", "SCONTROL_", "SBATCH_", "SALLOC_")
POLL_S = 0.25
# Nodes refuse every credential of a job up to the second in which its end was ordered, and the job would fail.
SOON = "StartTime=now+5"


class Unsent(SkewscopeError):
    """Slurm did not take something; `again` where it could not be asked at all."""

    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


@dataclass(frozen=True)
class Programs:
    """scontrol, sinfo, squeue and srun in the folder `bin`, or on the path; `conf` is another slurm.conf."""

    bin: str = ""
    conf: str = ""
    timeout_s: float = 20.0
    wait_s: float = 30.0
    sleep: Callable[[float], None] = time.sleep

    def told(self) -> Told:
        """Return what Slurm says now; raises Unsent."""
        reserved = self._run("scontrol", "-o", "show", "reservation")
        try:
            racks = racks_of(self._run("scontrol", "-o", "show", "topology"))
        except Unsent:  # many clusters declare none
            racks = {}
        nodes, jobs = self._nodes(), self._json("squeue", "--json")["jobs"]
        return Told(nodes, jobs, reservations_of(reserved), racks, time.time_ns())

    def node(self, name: str, changes: Mapping[str, Any]) -> Step:
        """Return what changes fields of a node."""
        return self._step("update", f"NodeName={name}", *(f"{NODE_WORDS[key]}={to}" for key, to in changes.items()))

    def exclude(self, job: str, nodes: str) -> Step:
        """Return what changes the nodes that a pending job must not get."""
        return self._step("update", f"JobId={job}", f"ExcNodeList={nodes}")

    def requeue(self, job: str) -> Step:
        """Return what ends a job and puts it into the queue again."""
        return self._step("requeue", job)

    def start_soon(self, job: str) -> Step:
        """Return what spares a requeued job most of the wait for its old credential to expire, by default 2 minutes."""
        return self._step("update", f"JobId={job}", SOON)

    def reserve(self, one: Reservation, users: str, minutes: int) -> Step:
        """Return what makes a reservation."""
        return self._step("create", "reservation", f"ReservationName={one.name}", "StartTime=now",
                          f"Duration={minutes}", f"Nodes={','.join(one.nodes)}", f"Users={users}",
                          f"Flags={','.join(one.flags)}")  # fmt: skip

    def unreserve(self, name: str) -> Step:
        """Return what deletes a reservation."""
        return self._step("delete", f"ReservationName={name}")

    def send(self, step: Step) -> str:
        """Carry out one step; raises Unsent. Return what is to be remarked of it, mostly ""."""
        if step.words[-1] == SOON:
            return self._start_soon(step)
        self._run(*step.words)
        return ""

    def written(self, *words: str, timeout_s: float = 0.0) -> str:
        """Return what a program wrote, however it ended; raises Unsent where it wrote nothing and failed."""
        return self._run(*words, timeout_s=timeout_s, any_end=True)

    def _step(self, *words: str) -> Step:
        return Step(PROGRAM, (self._program("scontrol"), *words))

    def _program(self, name: str) -> str:
        return str(Path(self.bin) / name) if self.bin else name

    def _start_soon(self, step: Step) -> str:
        """Bring a requeued job's start forward once it is through with ending, which sets it anew."""
        number = step.words[-2].removeprefix("JobId=")
        for _ in range(int(self.wait_s / POLL_S)):
            if self._run("squeue", "--noheader", f"--jobs={number}", "--format=%T") != "COMPLETING":
                break
            self.sleep(POLL_S)
        try:
            self._run(*step.words)
        except Unsent as error:
            return f"it starts by itself in some minutes: {error}"
        return ""

    def _nodes(self) -> list[Mapping[str, Any]]:
        """Newer versions tell of nodes by scontrol; in theirs sinfo lists groups of nodes."""
        try:
            return self._json("scontrol", "show", "nodes", "--json")["nodes"]  # type: ignore[no-any-return]
        except Unsent as error:
            if error.again:
                raise
        told = self._json("sinfo", "--json")
        if "nodes" not in told:
            raise Unsent("sinfo --json tells of no nodes: Slurm 21.08 or newer is needed, with its JSON plugin")
        return told["nodes"]  # type: ignore[no-any-return]

    def _json(self, *words: str) -> dict[str, Any]:
        text = self._run(*words)
        try:
            told = json.loads(text)
            if errors := [str(one.get("error") or one) for one in told.get("errors", [])]:
                raise Unsent(f"{' '.join(words)}: {plain_text(errors[0])}", again=True)
            return told  # type: ignore[no-any-return]
        except ValueError:
            raise Unsent(f"{' '.join(words)}: no JSON came; Slurm 21.08 or newer is needed") from None

    def _run(self, *words: str, timeout_s: float = 0.0, any_end: bool = False) -> str:
        limit_s = timeout_s or self.timeout_s
        program = words[0] if os.sep in words[0] else self._program(words[0])
        try:
            code, told, complaint = _ended((program, *words[1:]), self._environment(), limit_s)
        except FileNotFoundError:
            raise Unsent(
                f"{program}: not found; install Slurm's client programs, or set `bin` to their folder"
            ) from None
        except OSError as error:
            raise Unsent(f"{program}: {error}") from None
        except subprocess.TimeoutExpired:
            raise Unsent(f"{program}: no answer within {limit_s:g} s; it may have been done nevertheless") from None
        if code and not (any_end and told):
            raise _failed(words, code, complaint)
        return told

    def _environment(self) -> dict[str, str]:
        """Without the settings of a job that we may run in, or of a person's own views."""
        place = {key: value for key, value in os.environ.items() if not key.startswith(DROPPED) or key in KEPT}
        return place | {"LC_ALL": "C.UTF-8"} | ({"SLURM_CONF": self.conf} if self.conf else {})


def _ended(words: tuple[str, ...], place: Mapping[str, str], limit_s: float) -> tuple[int, str, str]:
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env=place, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, encoding="utf-8",
                          errors="replace", start_new_session=True) as program:  # fmt: skip
        try:
            told, complaint = program.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)
            program.communicate()
            raise
    return program.returncode, told.strip(), complaint


def _failed(words: tuple[str, ...], code: int, complaint: str) -> Unsent:
    lines = [line for line in complaint.splitlines() if line.strip()] or [f"exit code {code}"]
    again = any(word in complaint.lower() for word in AGAIN)
    return Unsent(f"{Path(words[0]).name} {words[1]}: {plain_text(lines[-1])}", again=again)
