"""Drains nodes of a Ray cluster: no new work comes, what runs goes on, and then the node leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..acts import Command, Fleet, Outcome, Request, Step, Values
from ..errors import SkewscopeError, UsageError
from . import _program, _ray_fleet, _verdicts, _whole_file
from ._records import refused, request_of, unfit
from .exec import fill

REASON = "DRAIN_NODE_REASON_PREEMPTION"  # the other one that Ray knows may be refused by a busy node
PASSED_ON = (*_program.PASSED_ON, "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@dataclass(frozen=True)
class Ray:
    """Runs `ray drain-node --address ADDRESS --node-id ID --reason ... --reason-message ...`: no HTTP path does it.

    Ray places nothing new on the node. Once it is idle its raylet ends by itself and an autoscaler may start another:
    this is more than a cordon. Ray knows no way back, so undo is `restart_words` where they are set, as
    ["ssh", "{node}", "systemctl", "restart", "ray"], and only once the node has left; else start Ray there by hand.
    The head node is never drained. `memory` is a folder where we note our drains: Ray tells too late whose they are.

    Rights: the cluster's token (RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH). `ray` and `python` are programs with the same
    version of Ray as the cluster; `deadline_s` is when the work there will be cut off, which Ray only passes on.
    """

    name: ClassVar[str] = "ray"
    verbs: ClassVar[tuple[str, ...]] = ("drain",)
    address: str = ""
    memory: str = ""
    restart_words: tuple[str, ...] = ()
    deadline_s: int = 0
    ray: str = "ray"
    python: str = "python3"
    timeout_s: float = 30.0
    environment: tuple[str, ...] = PASSED_ON

    def look(self) -> Fleet:
        """Return the nodes of now; raises SkewscopeError where Ray does not answer."""
        if not self.address or self.address.startswith("-"):
            raise UsageError("ray: set `address`, the HOST:PORT of the head's control store")
        words = (self.python, "-c", _ray_fleet.PROBE, self.address)
        ran = _program.run(words, timeout_s=self.timeout_s, passed_on=self.environment)
        return _ray_fleet.fleet(self.name, _program.document(ran, "ray"), self._notes())

    def _notes(self) -> dict[str, str]:
        """Return the reasons of our drains by Ray's id of the node."""
        notes: dict[str, str] = {}
        for name in _whole_file.names_in(self.memory) if self.memory else ():
            for one in _verdicts.acts_of(_whole_file.read(_whole_file.file_of(self.memory, name))) or []:
                notes[str(one.get("node_id", ""))] = str(one.get("reason", ""))
        return notes

    def command(self, request: Request, fleet: Fleet) -> Command:
        """Return the drain as it would be run; refused for the head, unknown nodes and drains of others."""
        why = unfit(request, self.verbs, fleet) or self._unfit(fleet, request.target)
        if why:
            return refused(request, self.name, why)
        node = fleet.nodes[request.target]
        id_ = node.native["node_id"]
        deadline = ("--deadline-remaining-seconds", str(self.deadline_s)) if self.deadline_s else ()
        words = (
            self.ray, "drain-node", "--address", self.address, "--node-id", id_, "--reason", REASON,
            "--reason-message", request.reason, *deadline,
        )  # fmt: skip
        return Command(
            request, self.name, (Step("run", words, {"node_id": id_}),),
            {"schedulable": node.schedulable, "reason": node.reason},
            {"schedulable": False, "reason": node.reason or request.reason}, {"node_id": id_, "node": node.name},
            nothing=not node.schedulable,
        )  # fmt: skip

    def _unfit(self, fleet: Fleet, name: str) -> str:
        if not self.memory:
            return "set memory: whose a drain is, Ray tells only when it is over"
        return "it is the head of the cluster" if fleet.nodes[name].native["head"] else ""

    def apply(self, command: Command, *, dry_run: bool = True) -> Outcome:
        """Look again, note the drain, and run it; or start Ray anew, for an undo."""
        if command.refused:
            return Outcome("refused", command.refused)
        if command.nothing:
            return Outcome("nothing", "it is so already")
        try:
            (step,) = command.steps
            found = self._compared(command, step.body["node_id"])
            if found is not None or dry_run:
                return found or Outcome("done", "could be sent")
            draining = not command.after["schedulable"]
            if draining:
                self._note(command.request, step.body["node_id"])
            ran = _program.run(step.words, timeout_s=self.timeout_s, passed_on=self.environment)
            if draining == (ran.code != 0):  # a drain that failed, or an undo that did not
                self._note(command.request, "")
        except SkewscopeError as error:
            return Outcome("failed", str(error))
        return Outcome("done") if ran.code == 0 else Outcome("failed", f"exit code {ran.code}: {ran.complaint}")

    def _compared(self, command: Command, id_: str) -> Outcome | None:
        """Return what speaks against sending now, None where the node is as it was."""
        node = self.look().nodes.get(command.request.target)
        if node is None:
            return Outcome("conflict", "the node is not listed any more")
        same = node.native["node_id"] == id_
        if same and node.schedulable == command.before["schedulable"]:
            return None
        done = node.schedulable == command.after["schedulable"] and (same or node.schedulable)
        return Outcome("nothing", "it is so already") if done else Outcome("conflict", "another state stands by now")

    def _note(self, request: Request, id_: str) -> None:
        """Write down, before it is sent, that a drain is ours; with id "" that it is no more."""
        path = _whole_file.file_of(self.memory, request.target)
        acts = [_verdicts.entry(request) | {"node_id": id_}] if id_ else []
        with _whole_file.locked(self.memory):
            _whole_file.write(path, _verdicts.document(request.target, acts))

    def undo(self, record: Values, fleet: Fleet) -> Command:
        """Return what starts Ray anew on the node; nothing where somebody did, refused while work still runs there."""
        request = request_of(record)
        why = unfit(request, self.verbs, fleet)
        if not why and self.holds(record, fleet) is False:
            return Command(request, self.name, nothing=True)
        if not why:
            why = self._no_way_back(fleet, request.target)
        if why:
            return refused(request, self.name, why)
        try:
            words = fill(self.restart_words, request)
        except UsageError as error:
            return refused(request, self.name, str(error))
        before = {"schedulable": False, "reason": fleet.nodes[request.target].reason}
        told = {"node_id": fleet.nodes[request.target].native["node_id"]}
        return Command(request, self.name, (Step("run", words, told),), before, {"schedulable": True, "reason": ""})

    def _no_way_back(self, fleet: Fleet, name: str) -> str:
        if not self.restart_words:
            return "Ray cannot take a drain back: start Ray anew on the node, by hand or by restart_words"
        return "the node has not left yet: work still runs there" if fleet.nodes[name].native["alive"] else ""

    def holds(self, record: Values, fleet: Fleet) -> bool | None:
        """Return whether the same raylet is being drained or has left; None where the node is not listed."""
        node = fleet.nodes.get(str(record.get("target", "")))
        told: Mapping[str, Any] = record.get("undo") or {}
        if node is None:
            return None
        return node.native["node_id"] == told.get("node_id") and not node.schedulable
