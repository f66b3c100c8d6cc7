"""Reads what Slurm says of its nodes, jobs and reservations, in the JSON of 21.08 and of every newer version."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..acts import OWNER, Fleet, JobState, NodeState, plain_text
from ._slurm_hostlist import expand

PREFIX = f"{OWNER}:"
OUR_NAME = f"{OWNER}_"  # reservations and features allow no colon
WORKING = {"IDLE", "ALLOCATED", "MIXED"}
FENCED = {"DRAIN", "FAIL", "DOWN", "ERROR"}
AWAY = {*FENCED, "MAINT", "MAINTENANCE", "NOT_RESPONDING", "POWERED_DOWN", "POWERING_DOWN", "POWER_DOWN",
        "REBOOT_ISSUED", "INVALID_REG", "INVALID"}  # fmt: skip
JOB_STATES = {"PENDING": "pending", "CONFIGURING": "running", "RUNNING": "running", "SUSPENDED": "running",
              "REQUEUED": "pending", "REQUEUE_HOLD": "pending", "SPECIAL_EXIT": "pending",
              "COMPLETING": "ending", "STOPPED": "ending", "SIGNALING": "ending", "STAGE_OUT": "ending"}  # fmt: skip
ORDER = ("ending", "pending", "running", "over")  # of several words of one job, the first counts
Document = Mapping[str, Any]


@dataclass(frozen=True)
class Reservation:
    """One reservation: its nodes and flags."""

    name: str
    nodes: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    @property
    def ours(self) -> bool:
        """Whether skewscope made it."""
        return self.name.startswith(OUR_NAME)


@dataclass(frozen=True)
class Told:
    """What Slurm told at `read_ns`: its documents of nodes and jobs, its reservations, the leaf switch by node."""

    nodes: Iterable[Document]
    jobs: Iterable[Document]
    reservations: tuple[Reservation, ...] = ()
    racks: Mapping[str, str] = field(default_factory=dict)
    read_ns: int = -1


def fleet(told: Told, scheduler: str = "slurm") -> Fleet:
    """Return the nodes and jobs as the policy sees them."""
    jobs = {job.id: job for job in map(_job, told.jobs)}
    running: dict[str, list[str]] = {}
    for job in jobs.values():
        for name in job.nodes if job.state in ("running", "ending") else ():
            running.setdefault(name, []).append(job.id)
    reserved: dict[str, list[Reservation]] = {}
    for one in told.reservations:
        for name in one.nodes:
            reserved.setdefault(name, []).append(one)
    nodes = (
        _node(one, running.get(name, []), reserved.get(name, []), told.racks.get(name, ""))
        for one in told.nodes if (name := str(one.get("name", "")))
    )  # fmt: skip
    return Fleet(scheduler, {node.name: node for node in nodes}, jobs, told.read_ns)


def reservations_of(text: str) -> tuple[Reservation, ...]:
    """Return what `scontrol -o show reservation` prints.

    >>> reservations_of("ReservationName=upgrade StartTime=x Nodes=n[1-2] NodeCnt=2 Flags=MAINT,SPEC_NODES TRES=cpu=4")
    (Reservation(name='upgrade', nodes=('n1', 'n2'), flags=('MAINT', 'SPEC_NODES')),)
    """
    found = []
    for line in text.splitlines():
        values = {key: value for key, _, value in (word.partition("=") for word in line.split())}
        if name := values.get("ReservationName"):
            nodes = values.get("Nodes", "").replace("(null)", "")
            found.append(Reservation(name, expand(nodes), _words(values.get("Flags"))))
    return tuple(found)


def racks_of(text: str) -> dict[str, str]:
    """Return the leaf switch of each node, from what `scontrol -o show topology` prints.

    >>> racks_of("SwitchName=leaf1 Level=0 LinkSpeed=1 Nodes=n[1-2]")
    {'n1': 'leaf1', 'n2': 'leaf1'}
    """
    leaves = re.findall(r"^SwitchName=(\S+) Level=0 .*?Nodes=(\S+)", text, re.MULTILINE)
    return {node: switch for switch, nodes in leaves for node in expand(nodes)}


def number(value: object, default: int = 0) -> int:
    """Return a number that may stand alone or, in newer versions, in an object.

    >>> number(7), number({"set": True, "infinite": False, "number": 8}), number({"set": False, "number": 0}, -1)
    (7, 8, -1)
    """
    if isinstance(value, Mapping):
        value = value.get("number") if value.get("set") else None
    return int(value) if isinstance(value, int | float) else default


def _words(value: object) -> tuple[str, ...]:
    """Return a list of words that may come joined by commas."""
    if isinstance(value, str):
        value = value.split(",")
    return tuple(str(one) for one in value if one) if isinstance(value, Iterable) else ()


def _node(told: Document, jobs: list[str], reserved: list[Reservation], rack: str) -> NodeState:
    words = {word.upper() for word in (*_words(told.get("state")), *_words(told.get("state_flags")))}
    native = {
        "state": sorted(words), "weight": number(told.get("weight"), 1), "features": ",".join(_words(told["features"])),
        "active_features": ",".join(_words(told.get("active_features"))), "comment": str(told.get("comment") or ""),
        "extra": str(told.get("extra") or ""), "gres": str(told.get("gres") or ""),
        "reservations": [one.name for one in reserved], "drained": "DRAIN" in words,
    }  # fmt: skip
    reason = str(told.get("reason") or "")
    return NodeState(
        name=str(told["name"]), reason=reason, jobs=tuple(jobs), rack=rack, native=native,
        schedulable=not words & AWAY and bool(words & WORKING) and not any(one.ours for one in reserved),
        owner=_owner(words, reason, reserved, native), idle=not jobs and "IDLE" in words and "COMPLETING" not in words,
        groups=_words(told.get("partitions")), reservation=",".join(one.name for one in reserved),
    )  # fmt: skip


def _owner(words: set[str], reason: str, reserved: list[Reservation], native: Mapping[str, Any]) -> str:
    """Return whose fence it bears, else whose mark."""
    if words & FENCED:
        return OWNER if reason.startswith(PREFIX) else plain_text(reason) or "slurm"
    foreign = [one.name for one in reserved if not one.ours and {"MAINT", "OVERLAP"} & set(one.flags)]
    if foreign:
        return f"reservation {plain_text(foreign[0], 60)}"
    marked = native["comment"].startswith(PREFIX) or any(one.ours for one in reserved)
    return OWNER if marked or any(one.startswith(OUR_NAME) for one in native["features"].split(",")) else ""


def _job(told: Document) -> JobState:
    words = {JOB_STATES.get(word.upper(), "over") for word in _words(told.get("job_state"))}
    excluded = told.get("excluded_nodes") or ""
    excluded = excluded if isinstance(excluded, str) else ",".join(_words(excluded))
    state = next((word for word in ORDER if word in words), "over")
    required = told.get("required_nodes") or ""
    return JobState(
        id=str(number(told.get("job_id"))), name=str(told.get("name") or ""), user=str(told.get("user_name") or ""),
        state=state, nodes=expand(str(told.get("nodes") or "")) if state in ("running", "ending") else (),
        wants_nodes=number(told.get("node_count")), may_restart=bool(told.get("requeue") and told.get("batch_flag")),
        native={
            "excluded": excluded, "restarts": number(told.get("restart_cnt")),
            "required": required if isinstance(required, str) else ",".join(_words(required)),
            "why": str(told.get("state_reason") or ""),
        },
    )  # fmt: skip
