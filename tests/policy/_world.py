"""Builders of cases, fleets, policies and audit records for tests of the policy."""

from __future__ import annotations

from itertools import count
from typing import Any

from skewscope.acts import Fleet, JobState, NodeState
from skewscope.policy.cases import Around, Case
from skewscope.policy.decide import decide
from skewscope.policy.ledger import Ledger
from skewscope.policy.settings import Policy
from skewscope.policy.turn import Turn, Wanted

SECOND_NS = 10**9
NOW_NS = 1_750_075_200 * SECOND_NS  # Monday, 16 June 2025, 12:00 UTC
SLURM = "slurm"
JOB = "train"
VERBS = ("note", "avoid", "exclude", "drain", "quarantine", "ticket")


def ago(seconds: float) -> int:
    return NOW_NS - int(seconds * SECOND_NS)


def case(incident: str = "c0ffee", node: str = "n3", **more: Any) -> Case:
    """A case against which nothing speaks: half the step of 64 ranks is lost, well known."""
    told: dict[str, Any] = {
        "condition": "gpu-slow-silent", "subject": f"{node}/gpu1", "job": JOB, "ranks": 64, "severity": "S2",
        "confidence": 0.95, "share": 0.4, "lost_gpus": 25.0, "opened_ns": ago(3600), "seen_ns": ago(10),
        "seen_count": 5, "of_count": 5, "steps": 200, "peers": 63, "summary": f"{node} is slow",
    }  # fmt: skip
    return Case(incident, node=node, **{**told, **more})


def nodes(number: int = 200, **changed: dict[str, Any]) -> dict[str, NodeState]:
    """n0, n1, ...: the first eight of them run the job; eight a rack; `changed` are fields by node."""
    made = {}
    for at in range(number):
        busy = at < 8
        told: dict[str, Any] = {
            "idle": not busy,
            "jobs": (JOB,) if busy else (),
            "groups": ("gpu",),
            "rack": f"r{at // 8}",
        }
        made[f"n{at}"] = NodeState(f"n{at}", **{**told, **changed.get(f"n{at}", {})})
    return made


def fleet(number: int = 200, *, read_s: float = 1, complete: bool = True, **changed: dict[str, Any]) -> Fleet:
    jobs = {JOB: JobState(JOB, JOB, "ann", nodes=tuple(f"n{at}" for at in range(8)), wants_nodes=8, may_restart=True)}
    return Fleet(SLURM, nodes(number, **changed), jobs, ago(read_s), complete)


def around(**more: Any) -> Around:
    return Around(**{"now_ns": NOW_NS, **more})


def policy(**sections: Any) -> Policy:
    """A policy that acts, with the default limits but for what is given."""
    return Policy.parse({"mode": "act", **sections})


def wide(**sections: Any) -> Policy:
    """A policy that acts, whose budgets and breaker are no hindrance."""
    counts = ("nodes_at_once", "nodes_per_day", "nodes_per_rack", "nodes_per_group", "nodes_per_job")
    limits = {**dict.fromkeys(counts, 99), "share_at_once": 0.9, "share_per_day": 0.9}
    return policy(**{"budget": limits, "breaker": {"acts": 99, "out_share": 1.0, "out_nodes": 999}, **sections})


def turn(told: Policy | None = None, cases: tuple[Case, ...] = (), **more: Any) -> Turn:
    parts = {"fleet": fleet(), "ledger": Ledger(), "around": around(), "verbs": VERBS, **more}
    return Turn(told or policy(), SLURM, cases, **parts)


def wanted(verb: str = "drain", one: Case | None = None, **more: Any) -> Wanted:
    one = one or case()
    return Wanted(one, verb, more.pop("target", one.node), more.pop("id", "new"), **more)


def texts(guard: Any, at: Turn, what: Wanted) -> str:
    return "; ".join(guard(at, what))


NUMBERS = count()


def record(phase: str, act: str, seconds: float = 0, **more: Any) -> dict[str, Any]:
    """A line of the audit, so many seconds before NOW_NS."""
    told = {"scheduler": SLURM, "verb": "drain", "target": "n3", "job": JOB, "incident": "c0ffee", "dry_run": False}
    return {"seq": next(NUMBERS), "phase": phase, "act": act, "time_ns": ago(seconds), **told, **more}


def done(act: str, seconds: float, **more: Any) -> list[dict[str, Any]]:
    """The two lines of an act that was done."""
    return [record("intended", act, seconds, **more), record("done", act, seconds, result="done", **more)]


def undone(act: str, seconds: float, **more: Any) -> list[dict[str, Any]]:
    return [record(phase, f"u-{act}", seconds, of=act, **more) for phase in ("undoing", "undone")]


def decided(told: Policy, *cases: Case, **more: Any) -> list[Any]:
    parts = {"fleet": fleet(), "ledger": Ledger(), "around": around(), "verbs": VERBS, **more}
    return decide(told, SLURM, cases, **parts)
