"""Fleets, requests and records for tests of the Slurm actuator that need no Slurm."""

from __future__ import annotations

import json

from skewscope.acts import Command, Fleet, Request
from skewscope.actuators._slurm_state import Reservation, Told, fleet

WHY = 'rank 7; "x" is slow\n$HOME'


def request(verb: str, target: str = "n3", act: str = "a1", incident: str = "c0ffee", **more) -> Request:
    return Request(act, verb, target, incident, more.pop("why", WHY), **more)


def record(command: Command) -> dict:
    """Return what the audit log holds of a command, as it reads it back."""
    made = command.request
    told = {"act": made.act, "verb": made.verb, "target": made.target, "job": made.job, "incident": made.incident,
            "reason": made.reason, "undo": dict(command.undo)}  # fmt: skip
    return json.loads(json.dumps(told))


def node(name: str, **fields) -> dict:
    """Return a node as `sinfo --json` of 22.05 tells of it."""
    return {"name": name, "state": "idle", "state_flags": [], "features": "h100,rack1", "weight": 10, "comment": "",
            "active_features": "h100,rack1", "extra": "", "reason": "", "partitions": ["batch"],
            "gres": "gpu:h100:8"} | fields  # fmt: skip


def job(number: int, **fields) -> dict:
    """Return a job as `squeue --json` of 22.05 tells of it."""
    return {"job_id": number, "name": f"job{number}", "job_state": "RUNNING", "user_name": "jo", "nodes": "n[3-4]",
            "node_count": 2, "requeue": True, "batch_flag": True, "excluded_nodes": "", "required_nodes": "",
            "restart_cnt": 0, "state_reason": "None"} | fields  # fmt: skip


def made(*nodes: dict, jobs: tuple[dict, ...] = (), reserved: tuple[Reservation, ...] = ()) -> Fleet:
    return fleet(Told(nodes or (node("n3"), node("n4")), jobs, reserved))
