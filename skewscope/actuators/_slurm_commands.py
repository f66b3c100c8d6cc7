"""What is sent to Slurm for each verb, and the fields that change by it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..acts import OWNER, Command, Fleet, JobState, NodeState, Request, Step, plain_text
from . import _slurm_fields as fields
from ._slurm_hostlist import expand
from ._slurm_state import OUR_NAME, PREFIX, Reservation, Told

SCHEDULER = "slurm"
QUARANTINE_FLAGS = ("maint", "ignore_jobs")
TEST_KIND = "test_"
TEST_NAME = f"{OUR_NAME}{TEST_KIND}"
Changes = dict[str, Any]


class Road(Protocol):
    """A way to Slurm: its programs or its REST service. All but `told` and `send` only say what would be sent.

    A step that a way does not have is None.
    """

    def told(self) -> Told:
        """Return what Slurm says now; raises SkewscopeError."""

    def node(self, name: str, changes: Mapping[str, Any]) -> Step | None:
        """Change fields of a node."""

    def exclude(self, job: str, nodes: str) -> Step | None:
        """Change the nodes that a pending job must not get."""

    def requeue(self, job: str) -> Step | None:
        """End a job and put it into the queue again."""

    def start_soon(self, job: str) -> Step | None:
        """Spare a requeued job its wait."""

    def reserve(self, one: Reservation, users: str, minutes: int) -> Step | None:
        """Make a reservation."""

    def unreserve(self, name: str) -> Step | None:
        """Delete a reservation."""

    def send(self, step: Step) -> str:
        """Carry out one step, return a remark or ""; raises SkewscopeError."""


@dataclass(frozen=True)
class Wishes:
    """What a site chose: how much heavier an avoided node becomes, its feature, whose reservations, for how long."""

    avoid_weight: int
    avoid_feature: str
    users: str
    quarantine_minutes: int


@dataclass(frozen=True)
class Plan:
    """What a verb would do: steps and the fields they change, or why not. `raw` is a value as Slurm wrote it."""

    steps: tuple[Step | None, ...] = ()
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    job: str = ""
    raw: str = ""
    refused: str = ""


Verb = Callable[[Request, NodeState, Fleet, Road, Wishes], Plan]


def command(request: Request, fleet: Fleet, road: Road, wishes: Wishes) -> Command:
    """Return what would be sent for a request."""
    if not (verb := VERBS.get(request.verb)):
        return Command(request, SCHEDULER, refused=f"Slurm has no way to {request.verb}")
    node = fleet.nodes.get(request.target)
    if node is None and (request.verb != "requeue" or request.target):
        return Command(request, SCHEDULER, refused=f"Slurm lists no node called {plain_text(request.target, 60)}")
    return _made(request, verb(request, node or NodeState(""), fleet, road, wishes))


def _made(request: Request, plan: Plan) -> Command:
    before, after = dict(plan.before or {}), dict(plan.after or {})
    if plan.refused:
        return Command(request, SCHEDULER, before=before, after=before, refused=plan.refused)
    if before == after:
        return Command(request, SCHEDULER, before=before, after=after, nothing=True)
    if None in plan.steps:
        missing = f"the REST service has no way to {request.verb}; leave rest_url out to use scontrol"
        return Command(request, SCHEDULER, before=before, after=before, refused=missing)
    undo = {"verb": request.verb, "target": request.target, "job": plan.job, "was": before, "now": after,
            "raw": plan.raw}  # fmt: skip
    steps = tuple(step for step in plan.steps if step)
    return Command(request, SCHEDULER, steps, before, after, undo)


def _foreign(node: NodeState) -> str:
    """Return why a node is not ours to touch."""
    return f"{node.name} is fenced by somebody else: {node.owner}" if node.owner not in ("", OWNER) else ""


def _note(request: Request, node: NodeState, fleet: Fleet, road: Road, wishes: Wishes) -> Plan:
    before = fields.of_node(node, ("comment", "extra"))
    after = dict(before)
    if not before["comment"] or before["comment"].startswith(PREFIX):
        after["comment"] = request.reason
    told = {"act": plain_text(request.act, 60), "incident": plain_text(request.incident, 40)}
    written = fields.with_note(before["extra"], told | ({"gpu": request.gpu} if request.gpu >= 0 else {}))
    after["extra"] = before["extra"] if written is None else written
    if before["comment"] == after["comment"] == "" or (written is None and after["comment"] != request.reason):
        return Plan(before=before, refused=f"Comment and Extra of {node.name} hold somebody else's text")
    return Plan((_changed(road, node.name, before, after),), before, after)


def _changed(road: Road, node: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Step | None:
    return road.node(node, {key: value for key, value in after.items() if before[key] != value})


def _avoid(request: Request, node: NodeState, fleet: Fleet, road: Road, wishes: Wishes) -> Plan:
    names = ("weight", "features", "active_features") if wishes.avoid_feature else ("weight",)
    before = fields.of_node(node, names)
    if refused := _foreign(node):
        return Plan(before=before, refused=refused)
    lists = {key: fields.with_word(before[key], wishes.avoid_feature) for key in names if key != "weight"}
    held = lists == {key: before[key] for key in lists} if lists else before["weight"] >= wishes.avoid_weight
    after = before if held else {"weight": before["weight"] + wishes.avoid_weight, **lists}
    return Plan((_changed(road, node.name, before, after),), before, after)


def _drain(request: Request, node: NodeState, fleet: Fleet, road: Road, wishes: Wishes) -> Plan:
    before = fields.of_node(node, ("drained", "reason"))
    if refused := _foreign(node):
        return Plan(before=before, refused=refused)
    after = before if before["drained"] else {"drained": True, "reason": request.reason}
    return Plan((road.node(node.name, {"state": "DRAIN", "reason": request.reason}),), before, after)


def _quarantine(request: Request, node: NodeState, fleet: Fleet, road: Road, wishes: Wishes) -> Plan:
    before = fields.of_node(node, ("reservations",))
    held = [one for one in before["reservations"] if not one.startswith(OUR_NAME)]
    refused = f"{node.name} is in the reservation {plain_text(held[0], 60)}" if held else _foreign(node)
    if refused:
        return Plan(before=before, refused=refused)
    mine = [one for one in before["reservations"] if not one.startswith(TEST_NAME)]
    made = Reservation(reservation_name(request.incident, request.act), (node.name,), QUARANTINE_FLAGS)
    after = before if mine else {"reservations": [*before["reservations"], made.name]}
    return Plan((road.reserve(made, wishes.users, wishes.quarantine_minutes),), before, after)


def reservation_name(incident: str, act: str, kind: str = "") -> str:
    """Return the name of the reservation of an act: what Slurm takes as a word.

    >>> reservation_name("c0 ffee", "a-1")
    'skewscope_c0_ffee_a_1'
    """
    parts = (re.sub(r"[^A-Za-z0-9]", "_", plain_text(part, 40)) for part in (incident, act))
    return f"{OUR_NAME}{kind}" + "_".join(parts)


def _exclude(request: Request, node: NodeState, fleet: Fleet, road: Road, wishes: Wishes) -> Plan:
    job = find_job(request, fleet)
    if isinstance(job, str):
        return Plan(refused=job)
    restart = job.state != "pending" and bool(request.params.get("requeue"))
    before = fields.of_job(job, fields.JOB_FIELDS if restart else ("excluded_nodes",))
    listed = expand(job.native["excluded"])
    if refused := _not_to_be_excluded(node, job, restart):
        return Plan(before=before, refused=refused)
    if node.name in listed and not restart:
        return Plan(before=before, after=before)
    after = before | {"excluded_nodes": ",".join(sorted({*listed, node.name}))}
    step = road.exclude(job.id, fields.with_word(job.native["excluded"], node.name))
    if restart:
        after["restarts"] += 1
    steps = (road.requeue(job.id), step, road.start_soon(job.id)) if restart else (step,)
    return Plan(steps, before, after, job.id, job.native["excluded"])


def _not_to_be_excluded(node: NodeState, job: JobState, restart: bool) -> str:
    if node.name in expand(job.native["required"]):
        return f"job {job.id} asks for {node.name} by name"
    if job.state == "pending" or (restart and _may_restart(job)):
        return ""
    if job.state != "running":
        return f"job {job.id} is {job.state}"
    if restart:
        return f"job {job.id} cannot be requeued: it is no batch job, or was submitted with --no-requeue"
    return f"job {job.id} runs: which nodes it must not get can be changed only while it waits, or with a requeue"


def _may_restart(job: JobState) -> bool:
    return job.state == "running" and job.may_restart


def _requeue(request: Request, node: NodeState, fleet: Fleet, road: Road, wishes: Wishes) -> Plan:
    job = find_job(request, fleet)
    if isinstance(job, str):
        return Plan(refused=job)
    before = fields.of_job(job, ("restarts",))
    if job.state == "pending":
        return Plan(before=before, after=before)
    if not _may_restart(job):
        return Plan(before=before, refused=f"job {job.id} is {job.state} and may not be requeued")
    after = {"restarts": before["restarts"] + 1}
    return Plan((road.requeue(job.id), road.start_soon(job.id)), before, after, job.id)


def find_job(request: Request, fleet: Fleet) -> JobState | str:
    """Return the job of a request by its number or name, without one the only job of the node; else why not."""
    if request.job in fleet.jobs:
        return fleet.jobs[request.job]
    alive = [one for one in fleet.jobs.values() if one.state in ("pending", "running")]
    if request.job:
        found = [one for one in alive if one.name == request.job]
    else:
        found = [one for one in alive if request.target in one.nodes]
    if len(found) == 1:
        return found[0]
    asked = f"called {plain_text(request.job, 60)}" if request.job else f"on {plain_text(request.target, 60)}"
    return f"Slurm has {len(found) or 'no'} jobs {asked}: give the number of the job"


VERBS: dict[str, Verb] = {"note": _note, "avoid": _avoid, "exclude": _exclude, "drain": _drain,
                          "quarantine": _quarantine, "requeue": _requeue}  # fmt: skip
