"""First, plain recommendations: one action per culprit, with the gain that a full repair would bring at most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TRUST_RATIO = 0.8  # a full repair is the best case; part of it usually remains


@dataclass(frozen=True)
class Remedy:
    """What is done about a family of conditions: the planner that works it out, the action, its price and risk."""

    planner: str
    action: str
    cost: str
    risk: str


RESTART = "one restart from the last checkpoint"
REWEIGHT = Remedy(
    "batch", "reweight", "none beyond new batch sizes per rank", "the slow rank still has to hold its part in memory"
)
EXCLUDE = Remedy(
    "none", "exclude-next", f"{RESTART}, one spare host", "the cause may follow the job: validate the host before"
)
INPUT = Remedy("none", "fix-input", "host memory for deeper prefetch", "shared storage may be the limit for all ranks")
REPACK = Remedy("sequence", "repack-sequences", "a new data order", "the order of samples changes; keep the seed")
MOVE = Remedy("pipeline", "move-layers", RESTART, "memory per stage changes")
LINK = Remedy("none", "validate-link", "a probe of the pair while the job is stopped", "the path may change on restart")
PLACE = Remedy("placement", "place-anew", RESTART, "needs free hosts under the same switch")
RESTART_NOW = Remedy("none", "drain-restart", RESTART, "save the stacks first: a code fault comes back on any host")
EXPERTS = Remedy("moe", "rebalance-experts", "moving expert weights once", "loads drift: measure again after the move")
HOLD = Remedy("moe", "hold-rebalancing", "none", "loads may drift away from the map: watch the balance")
CHECKPOINT = Remedy("checkpoint", "respace-checkpoints", "none", "a longer gap loses more work when a host fails")
HOST = Remedy("none", "fix-host", "a settings change on the host", "others may share the host")
CODE = Remedy("none", "fix-code", "a code change", "none that the recording shows")
MEMORY = Remedy("none", "even-memory", RESTART, "recomputing or offloading costs time: use it on the full rank only")
ADMIT = Remedy("none", "admit-limit", "requests turned away at the peak", "clients that retry at once make it worse")
ROUTE = Remedy("none", "route-anew", "fewer hits of the prefix cache", "sessions that must stay need a cap, not a move")
FEED = Remedy("none", "fix-ingress", "a settings change at the gateway", "engines get more at once: watch their queues")
ENGINE = Remedy("none", "engine-setting", "a restart of the replica", "other work may want the old one: try one first")
LEAK = Remedy("none", "restart-at-checkpoint", RESTART, "it comes back at the same rate until its cause is found")
SPREAD = Remedy("placement", "spread-traffic", "a settings change", "other ports fill up: look at all of the host")
POOLS = Remedy("none", "resize-pools", RESTART, "answers change in length while the model learns: measure again")
STREAM = Remedy("none", "stream-rollouts", "a code change", "answers of an older model: bound how old they may be")
POWER = Remedy("power", "even-power-limits", "none", "limits may be set for a reason: ask the site")

EXACT = {
    "coll-late-rank": REWEIGHT, "gpu-slow-silent": REWEIGHT, "compute-slow": REWEIGHT, "tp-straggler": EXCLUDE,
    "data-sequence-skew": REPACK, "data-loader-stall": INPUT, "pp-stage-imbalance": MOVE, "ckpt-stall": CHECKPOINT,
    "peer-churn": CHECKPOINT,
    "pp-bubble-stall": MOVE, "host-gc-pause": CODE, "host-launch-bound": CODE, "coll-desync": CODE,
    "coll-slow-link": LINK, "coll-slow-endpoint": EXCLUDE, "coll-slow-group": PLACE, "sched-topology-mismatch": PLACE,
    "srv-admission-backlog": ADMIT, "srv-preempt-thrash": ADMIT, "kv-pressure": ADMIT, "srv-flow-skew": ROUTE,
    "srv-ingress-starvation": FEED, "srv-ingress-loss": LINK, "kv-transfer-slow": LINK,
    "coll-missing-rank": RESTART_NOW, "moe-rebalance-thrash": HOLD, "moe-router-collapse": CODE, "moe-a2a-skew": LINK,
    "sched-lemon-node": EXCLUDE, "nic-saturation": SPREAD, "nic-mixed-kinds": PLACE,
    "mem-oom-risk": LEAK, "gpu-power-cap": POWER,
    "power-oversubscribed": POWER, "rl-phase-idle": POOLS, "rl-rollout-tail": STREAM, "comm-exposed": CODE,
}  # fmt: skip
FAMILY = {
    "moe": EXPERTS, "gpu": EXCLUDE, "pcie": EXCLUDE, "nvlink": LINK, "nic": LINK, "rdma": LINK, "ib": LINK,
    "mem": MEMORY, "fabric": PLACE, "ecmp": PLACE, "rail": PLACE, "host": HOST, "data": INPUT, "pp": MOVE,
    "srv": ENGINE,
}  # fmt: skip


def recommend(findings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return recommendations r1.. for the culprits among the findings of a report; victims and context get none.

    The predicted step time is what a full repair of this finding alone would leave, and so the best case.
    """
    made: list[dict[str, Any]] = []
    for found in findings:
        if found["role"] != "culprit":
            continue
        remedy = _remedy(found["condition"])
        if remedy is not None:
            made.append(_recommendation(f"r{len(made) + 1}", found, remedy))
    return made


def _remedy(condition: str) -> Remedy | None:
    return EXACT.get(condition) or FAMILY.get(condition.split("-")[0])


def _recommendation(name: str, found: Mapping[str, Any], remedy: Remedy) -> dict[str, Any]:
    subject, cost = found["subject"], found["cost"]
    params = {key: subject[key] for key in ("rank", "peer", "node", "stage", "layer") if subject[key] is not None}
    return {
        "id": name,
        "for": [found["id"]],
        "planner": remedy.planner,
        "action": remedy.action,
        "params": {"subject": subject["id"], **params},
        "predicted": {
            "step_time_ratio": 1 - cost["share"],
            "gpu_hours_saved": cost["gpu_hours"],
            "confidence": round(TRUST_RATIO * found["confidence"], 3),
        },
        "cost": remedy.cost,
        "risk": remedy.risk,
    }
