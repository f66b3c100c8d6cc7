"""Runs a program on a node of an act of ours, with nobody else's work let in.

A drained node runs nothing, so it is reserved for us first, then taken out of the drain, and drained again before the
reservation is deleted. Where that is cut short the reservation stands and keeps other work away. A node in quarantine
has its reservation already; one that only a job is kept off is reserved while the test runs.
"""

from __future__ import annotations

import contextlib
import math
import re
from dataclasses import dataclass

from ..acts import OWNER, Fleet, NodeState, Step, Values, plain_text
from ..errors import SkewscopeError
from . import _slurm_commands as commands
from ._slurm_programs import Programs, Unsent
from ._slurm_state import OUR_NAME, Reservation
from ._slurm_state import fleet as fleet_of

START_S = 60.0  # until a node that was drained answers and the job begins
GPUS = re.compile(r"(gpu(?::[^,:()]+)*?:\d+)(?:\([^)]*\))?")


@dataclass(frozen=True)
class Retest:
    """A re-test on `node`, in the reservation `held` that it has or else in one of the name `name`.

    `reason` is that of the drain to set again afterwards, "" where it is not drained; `options` are more of srun's.
    """

    road: Programs
    node: NodeState
    name: str
    held: str
    reason: str
    wishes: commands.Wishes
    options: tuple[str, ...] = ()
    start_s: float = START_S

    def run(self, words: tuple[str, ...], timeout_s: float) -> str:
        """Return what the program wrote; the node is as before afterwards, also where it could not be run."""
        if not self.held and self.name not in self.node.native["reservations"]:  # else one was cut short
            made = Reservation(self.name, (self.node.name,), commands.QUARANTINE_FLAGS)
            self._send(self.road.reserve(made, self.wishes.users, self._minutes(timeout_s)))
        try:
            if self.node.native["drained"]:
                self._send(self.road.node(self.node.name, {"state": "UNDRAIN"}))
            return self.road.written(*self._srun(timeout_s), "--", *words, timeout_s=timeout_s + self.start_s)
        finally:
            self._fence_again()

    def _minutes(self, timeout_s: float) -> int:
        """Return how long it is reserved: a fence outlasts us where we are cut short, else it is free soon."""
        return self.wishes.quarantine_minutes if self.reason else math.ceil((timeout_s + START_S) / 60) + 5

    def _fence_again(self) -> None:
        """Drain the node as it was, unless somebody else has drained it meanwhile; the reservation goes last."""
        with contextlib.suppress(Unsent):
            self.road.written("scancel", f"--name={self.name}")
        if self.reason and not fleet_of(self.road.told()).nodes[self.node.name].native["drained"]:
            self._send(self.road.node(self.node.name, {"state": "DRAIN", "reason": self.reason}))
        if not self.held:
            self._send(self.road.unreserve(self.name))

    def _srun(self, timeout_s: float) -> tuple[str, ...]:
        """Return srun's own words: the whole node, with its GPUs."""
        gpus = ",".join(GPUS.findall(self.node.native["gres"]))
        place = f"--partition={self.node.groups[0]}" if self.node.groups else ""
        words = ("srun", f"--reservation={self.held or self.name}", f"--nodelist={self.node.name}", "--nodes=1",
                 "--ntasks=1", f"--time={math.ceil(timeout_s / 60) + 1}", f"--job-name={self.name}", "--exclusive",
                 "--quiet", "--chdir=/tmp", place, f"--gres={gpus}" if gpus else "", *self.options)  # fmt: skip
        return tuple(word for word in words if word)

    def _send(self, step: Step) -> None:
        self.road.send(step)


def of(record: Values, fleet: Fleet, road: Programs, wishes: commands.Wishes, options: tuple[str, ...]) -> Retest:
    """Return the re-test of an act; raises SkewscopeError where the node is not ours, or not free."""
    left, target = record.get("undo") or {}, str(record.get("target", ""))
    node = fleet.nodes.get(target)
    wrote = left.get("now") or {}
    name = commands.reservation_name(
        str(record.get("incident") or ""), str(record.get("act") or ""), commands.TEST_KIND
    )
    if node is None or not wrote or not _is_ours(node, wrote, name):
        raise SkewscopeError(f"{plain_text(target, 60)}: not fenced by us for this, so it is not ours to test")
    if not node.idle:
        raise SkewscopeError(f"{node.name}: job {', '.join(node.jobs) or 'steps'} still runs or ends there")
    reason = node.reason if node.native["drained"] else str(wrote.get("reason") or "")
    ours = (one for one in node.native["reservations"] if one.startswith(OUR_NAME))
    held = [one for one in ours if not one.startswith(commands.TEST_NAME)]
    return Retest(road, node, name, held[0] if held else "", reason, wishes, options)


def _is_ours(node: NodeState, wrote: Values, name: str) -> bool:
    """Return whether nobody else has a fence there; of a drain, whether it still is the one of the act."""
    if "reason" in wrote:
        return name in node.native["reservations"] or (node.native["drained"] and node.reason == wrote["reason"])
    return node.owner in ("", OWNER)
