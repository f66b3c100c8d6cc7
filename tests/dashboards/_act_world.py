"""Acts as an engine writes them down, made by hand: records of `skewscope.action/1` and documents of them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from skewscope.catalogue import load

records = load("dashboards._act_records")
NOW_NS = 1_700_000_000 * 10**9
MINUTE_NS = 60 * 10**9
SLURM = {
    "scheduler": "slurm", "verb": "drain", "target": "n006", "incident": "c0ffee12", "finding": "gpu-hw-slowdown",
    "job": "4711", "reason": "skewscope:c0ffee12 gpu4 of n006 is 1.22x slower: power brake",
    "before": {"State": "ALLOCATED", "Reason": "", "Comment": "rack 3"},
    "after": {"State": "ALLOCATED+DRAIN", "Reason": "skewscope:c0ffee12 gpu4 of n006 is 1.22x slower: power brake",
              "Comment": "rack 3"},
    "sent": [{"kind": "run", "words": ["scontrol", "update", "NodeName=n006", "State=DRAIN",
                                       "Reason=skewscope:c0ffee12 gpu4 of n006 is 1.22x slower: power brake"],
              "body": None}],
    "evidence": {"confidence": 0.97, "share": 0.18, "lost_gpus": 11.3, "seen_count": 5, "of_count": 5, "steps": 240,
                 "peers": 63},
    "predicted": {"gain_gpu_hours": 45.0, "cost_gpu_hours": 2.5, "step_share": 0.18},
    "undo": {"State": "RESUME"},
}  # fmt: skip
TAINT = {"key": "skewscope/slow", "value": "c0ffee13", "effect": "NoSchedule"}
FOREIGN = {"key": "example.com/pool", "value": "a", "effect": "NoExecute"}
KUBERNETES = {
    "scheduler": "kubernetes", "verb": "exclude", "target": "gpu-b-17", "incident": "c0ffee13",
    "finding": "coll-late-rank", "job": "train-7", "reason": "skewscope:c0ffee13 rank 7 is last in 96 % of the calls",
    "before": {"spec": {"unschedulable": False, "taints": [FOREIGN]}, "metadata": {"labels": {"pool": "a"}}},
    "after": {"spec": {"unschedulable": True, "taints": [FOREIGN, TAINT]}, "metadata": {"labels": {"pool": "a"}}},
    "sent": [{"kind": "http", "words": ["PUT", "/api/v1/nodes/gpu-b-17"],
              "body": {"metadata": {"resourceVersion": "4711"}, "spec": {"taints": [FOREIGN, TAINT],
                                                                         "unschedulable": True}}}],
    "evidence": {"confidence": 0.91, "share": 0.11, "lost_gpus": 7.0, "seen_count": 4, "of_count": 5, "steps": 180,
                 "peers": 255},
    "predicted": {"gain_gpu_hours": 21.0, "cost_gpu_hours": 1.5, "step_share": 0.11},
}  # fmt: skip
ASKS = [{"guard": "approval", "text": "wants the yes of 1 person"}]


def observed(before_s: float, after_s: float) -> dict[str, Any]:
    """Return what a proof measured."""
    return {"before_s": before_s, "after_s": after_s, "windows": 8, "step_share": 1 - after_s / before_s}


class Told:
    """Writes records one after the other, a minute apart, each with a hash."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def __call__(self, phase: str, act: str = "", kind: Any = None, **more: Any) -> dict[str, Any]:
        seq = len(self.records)
        made = {
            "schema": "skewscope.action/1", "seq": seq, "time_ns": NOW_NS + (seq - 40) * MINUTE_NS, "phase": phase,
            "act": act, "actor": "skewscope", "policy": "0a1b2c3d4e5f", "dry_run": False, **(kind or {}), **more,
        }  # fmt: skip
        made["hash"] = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()
        self.records.append(made)
        return made


def told() -> list[dict[str, Any]]:
    """Return the records of a morning: two proposals, acts done, proved, taken back, failed, held, looked on."""
    say = Told()
    old = {**SLURM, "target": "n002", "incident": "beef01", "reason": "skewscope:beef01 gpu1 of n002 is slow"}
    for phase, more in (
        ("proposed", {"expires_ns": NOW_NS}), ("approved", {"actor": "ann"}), ("intended", {}), ("done", {}),
        ("proved", {"result": "realised", "observed": observed(2.0, 1.68)}), ("tested", {"result": "pass"}),
        ("undoing", {}), ("undone", {}),
    ):  # fmt: skip
        say(phase, "beef01.drain", old, **more)
    stays = {**SLURM, "target": "n004", "incident": "beef02", "finding": "nic-link-down"}
    for phase, more in (
        ("intended", {}), ("done", {}), ("proved", {"result": "less", "observed": observed(2.0, 1.9)}),
        ("tested", {"result": "fail"}),
    ):  # fmt: skip
        say(phase, "beef02.drain", stays, **more)
    say("intended", "beef03.avoid", {**KUBERNETES, "verb": "avoid", "target": "gpu-b-3", "incident": "beef03"})
    say("failed", "beef03.avoid", {**KUBERNETES, "verb": "avoid", "target": "gpu-b-3", "incident": "beef03"},
        detail="the server answers 409 three times")  # fmt: skip
    say("held", "beef04.drain", {**SLURM, "target": "n007", "incident": "beef04"}, why=[
        {"guard": "budget.at_once", "text": "1 of 1 nodes is fenced now: n004"},
        {"guard": "cool_down.node_s", "text": "n007 was returned 2 h ago, 6 h are kept"},
    ])  # fmt: skip
    say("observed", "beef05.note", {**SLURM, "verb": "note", "target": "n001", "incident": "beef05"}, dry_run=True)
    say("lease", result="taken", detail="from host a, gone for 90 s")
    say("breaker", result="closed")
    say("proposed", "c0ffee12.drain", SLURM, why=ASKS, expires_ns=NOW_NS + 30 * MINUTE_NS)
    two = [{"guard": "approval", "text": "wants the yes of 2 persons"}]
    say("proposed", "c0ffee13.exclude", KUBERNETES, why=two, expires_ns=NOW_NS + 20 * MINUTE_NS)
    return say.records


def document(**changes: Any) -> dict[str, Any]:
    """Return a document `skewscope.acts/1` of these records."""
    made = told()
    return {
        "schema": "skewscope.acts/1", "records": made, "waiting": [one for one in made[-2:]], "breaker": "",
        "modes": {"slurm": "approve", "kubernetes": "observe"}, "dry_run": {"slurm": False, "kubernetes": True},
        "budget": {
            "slurm": {"nodes": 64, "ours": 1, "foreign": 0, "out": 1, "at_once": 1, "day": 1, "per_day": 2},
            "kubernetes": {"nodes": 40, "ours": 0, "foreign": 0, "out": 0, "at_once": 1, "day": 0, "per_day": 1},
        },
        "time_ns": NOW_NS, "turned_ns": NOW_NS, "mine": True, "troubles": {"kubernetes": "the server answers 503"},
        "trust": {"gpu-hw-slowdown": 0.8, "nic-link-down": 0.4}, **changes,
    }  # fmt: skip


def acts(**changes: Any) -> Any:
    """Return the same, as pages see it."""
    return records.acts_of(document(**changes), "made up")
