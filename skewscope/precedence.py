"""Which finding explains which: one cause, one culprit; what it drags along becomes its victim or its context.

Two things decide. EXPLAINED says what a cause makes visible elsewhere. And of several causes at one place and time the
one of the earlier class counts, as the field explains away: hard events, clocks, links, the host, input, the shape of
the work, the fabric, and last the device that is slow for a reason that nobody sees.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .contracts import SEVERITIES, Finding

_SLOW_JOB = (
    "comm-exposed", "step-shift", "step-spike", "coll-slow-group", "coll-slow-link", "coll-slow-endpoint",
    "kv-transfer-slow",
)  # fmt: skip
_SLOW_RANK = (
    "gpu-slow-silent", "coll-late-rank", "tp-straggler", "coll-slow-group", "step-shift", "step-spike",
    "pp-stage-imbalance",
)  # fmt: skip
_STOPPED = ("coll-hang", "coll-missing-rank", "coll-late-rank", "gpu-slow-silent", "gpu-app-fault", "step-spike")
_LATE = ("coll-late-rank", "step-shift", "step-spike", "tp-straggler", "coll-slow-group")
_UNEVEN_EXPERTS = ("coll-late-rank", "coll-slow-group", "step-shift", "step-spike", "comm-exposed", "pp-bubble-stall")
_COPIES = ("pcie-h2d-starvation", "pcie-d2h-bottleneck")
_SLOW_LINK = ("coll-late-rank", "tp-straggler", "ecmp-collision", *_SLOW_JOB)
_CONGESTED = ("fabric-congestion", "rdma-retransmit")
_LOSS = ("rdma-retransmit", "rdma-retry-exhausted")
EXPLAINED = {  # what each cause makes visible elsewhere
    "coll-late-rank": ("tp-straggler", "coll-slow-group", "step-shift", "step-spike", "pp-bubble-stall"),
    **dict.fromkeys(("rl-rollout-tail", "rl-phase-idle"), ("pp-bubble-stall", "comm-exposed", *_LATE)),
    "ckpt-stall": ("step-spike", "step-shift", "comm-exposed"),
    "data-loader-stall": ("coll-late-rank", "tp-straggler", "step-shift", "step-spike", "coll-slow-group"),
    "host-gc-pause": ("coll-late-rank", "step-spike", "data-sequence-skew"),
    "coll-slow-endpoint": ("comm-exposed", "coll-slow-link", "coll-slow-group", "step-shift", "pp-bubble-stall"),
    "coll-slow-link": ("comm-exposed", "coll-slow-group", "pp-bubble-stall"),
    "pp-stage-imbalance": ("pp-bubble-stall", "coll-late-rank"),
    "data-sequence-skew": ("step-spike", "coll-late-rank", "step-shift"),
    "moe-router-collapse": ("moe-hot-expert", "moe-rank-imbalance"),
    "moe-hot-expert": ("moe-rank-imbalance", "moe-a2a-skew", *_UNEVEN_EXPERTS),
    "moe-rank-imbalance": ("moe-a2a-skew", *_UNEVEN_EXPERTS),
    "moe-a2a-skew": ("ecmp-collision", *_UNEVEN_EXPERTS),
    "moe-rebalance-thrash": ("step-spike", "step-shift"),
    "coll-missing-rank": ("coll-hang", "step-spike"),
    "coll-desync": ("coll-hang", "coll-missing-rank"),
    "nic-driver-fault": ("nic-link-down", "nic-link-flap", *_LOSS),
    "nic-link-down": ("rail-imbalance", "nic-link-flap", "ecmp-collision", "coll-hang", *_LOSS, *_SLOW_JOB),
    "nic-link-flap": (*_LOSS, "step-spike", "step-shift"),
    "nic-phy-degraded": ("rdma-retransmit", "nic-link-flap", "ecmp-collision", "step-shift", "comm-exposed"),
    "rdma-retry-exhausted": ("coll-hang",),
    "pcie-nic-backpressure": ("pfc-storm", "ib-credit-starvation", "ecmp-collision", *_CONGESTED, *_SLOW_JOB),
    "pfc-storm": ("fabric-congestion", "ib-credit-starvation", "rdma-retransmit", "ecmp-collision", *_SLOW_JOB),
    "pcie-error-replay": ("pcie-link-degraded", "pcie-saturation", "pcie-nic-backpressure", *_COPIES, *_SLOW_LINK),
    "pcie-link-degraded": ("pcie-saturation", "pcie-nic-backpressure", "rail-imbalance", *_COPIES, *_SLOW_LINK),
    "pcie-saturation": ("pcie-nic-backpressure", *_COPIES, *_SLOW_LINK),
    "pcie-p2p-misroute": ("rail-imbalance", "pcie-saturation", *_SLOW_LINK),
    "pcie-mr-churn": ("host-launch-bound", *_LATE),
    "pcie-d2h-bottleneck": ("host-launch-bound", *_LATE),
    "pcie-h2d-starvation": _LATE,
    "host-numa-misbinding": ("host-pinned-memory-shortage", "host-launch-bound", *_COPIES, *_LATE),
    "host-pinned-memory-shortage": ("pcie-h2d-starvation", *_LATE),
    "host-cpu-contention": ("host-launch-bound", "data-loader-stall", "pcie-h2d-starvation", *_LATE),
    "host-noisy-neighbour": ("host-launch-bound", "host-cpu-contention", "data-loader-stall", "gpu-slow-silent")
    + _LATE,
    "host-launch-bound": _LATE,
    "host-process-stuck": ("coll-missing-rank", "coll-hang"),
    "gpu-squatter": ("gpu-slow-silent", "gpu-power-cap", *_LATE),
    "nvlink-error-rate": ("ecmp-collision", "tp-straggler", *_SLOW_JOB),
    "gpu-off-bus": ("gpu-gsp-timeout", "nvlink-down", "pcie-error-replay", *_STOPPED),
    "gpu-gsp-timeout": _STOPPED,
    "gpu-ecc-uncorrectable": ("gpu-row-remap", "gpu-ecc-sbe-storm", *_STOPPED),
    "nvlink-down": ("nvlink-error-rate", *_STOPPED),
    "srv-admission-backlog": ("srv-flow-skew",),
    "srv-ingress-starvation": ("srv-flow-skew",),
    "srv-dp-attention-imbalance": ("srv-flow-skew", "srv-preempt-thrash"),
    "srv-egress-backlog": ("srv-egress-jitter",),
    "kv-pressure": ("srv-preempt-thrash", "srv-prefill-decode-interference", "srv-flow-skew"),
    "srv-preempt-thrash": ("srv-prefill-decode-interference", "srv-flow-skew"),
    "gpu-sdc-suspect": ("coll-missing-rank", "coll-hang"),
    "gpu-app-fault": ("coll-missing-rank", "coll-hang"),
    "gpu-hw-slowdown": ("gpu-power-cap", "gpu-clock-pinned-low", *_SLOW_RANK),
    "power-oversubscribed": ("gpu-hw-slowdown", "gpu-power-cap", "gpu-clock-pinned-low", *_SLOW_RANK),
    "gpu-power-cap": _SLOW_RANK,
    "gpu-clock-pinned-low": _SLOW_RANK,
    "peer-churn": ("step-spike", "step-shift", "coll-missing-rank", "coll-hang"),
    "sched-topology-mismatch": ("coll-late-rank", "tp-straggler", *_SLOW_JOB),
    "mem-oom-risk": ("mem-skew", *_STOPPED),
    "mem-skew": ("gpu-slow-silent", "host-launch-bound", *_LATE),
    "gpu-slow-silent": ("coll-late-rank", "tp-straggler", "coll-slow-group", "step-shift"),
    "nic-mixed-kinds": ("nic-saturation", "fabric-congestion", "ecmp-collision", "pp-bubble-stall", *_SLOW_JOB),
    "nic-saturation": ("rail-imbalance", "fabric-congestion", "ecmp-collision", *_SLOW_JOB),
    **dict.fromkeys(
        ("rdma-retransmit", "fabric-congestion", "ib-credit-starvation", "rail-imbalance"),
        ("ecmp-collision", *_SLOW_JOB),
    ),
}
CLASSES: tuple[frozenset[str], ...] = (  # of causes; those of one class do not explain each other
    frozenset({
        "gpu-off-bus", "gpu-gsp-timeout", "gpu-ecc-uncorrectable", "gpu-row-remap", "nvlink-down", "nic-link-down",
        "nic-driver-fault", "rdma-retry-exhausted", "host-process-stuck",
    }),
    frozenset({"gpu-hw-slowdown", "gpu-power-cap", "gpu-clock-pinned-low", "power-oversubscribed"}),
    frozenset({
        "pcie-link-degraded", "pcie-error-replay", "pcie-nic-backpressure", "pcie-p2p-misroute", "nvlink-error-rate",
        "nic-link-flap", "nic-phy-degraded",
    }),
    frozenset({
        "host-noisy-neighbour", "host-cpu-contention", "host-numa-misbinding",
        "host-pinned-memory-shortage", "host-gc-pause", "gpu-squatter",
        "pcie-mr-churn", "pcie-saturation", "pcie-h2d-starvation", "pcie-d2h-bottleneck", "host-launch-bound",
    }),
    frozenset({"data-loader-stall", "ckpt-stall"}),
    frozenset({
        "data-sequence-skew", "pp-stage-imbalance", "moe-router-collapse", "moe-hot-expert", "moe-rank-imbalance",
        "moe-a2a-skew", "moe-rebalance-thrash", "mem-skew", "rl-rollout-tail", "rl-phase-idle",
    }),
    frozenset({
        "pfc-storm", "fabric-congestion", "ib-credit-starvation", "rdma-retransmit", "rail-imbalance", "ecmp-collision",
        "nic-saturation", "nic-mixed-kinds",
    }),
    frozenset({"gpu-slow-silent"}),
    frozenset({"coll-late-rank", "tp-straggler", "coll-slow-group", "step-shift", "step-spike", "pp-bubble-stall"}),
)  # fmt: skip
_CLASS = {condition: place for place, conditions in enumerate(CLASSES) for condition in conditions}
OVERLAP = 0.7  # of the effect's window
OF_JOBS = ("job", "rank", "stage", "group", "link", "layer", "expert")
EVERYWHERE = ("job", "group", "rack")  # an effect on all alike is explained wherever the cause sits


@dataclass(frozen=True)
class Explained:
    """Findings in the order to read them; `explains` maps each place to the places that it explains."""

    findings: tuple[Finding, ...]
    explains: dict[int, tuple[int, ...]]


def explain(found: Iterable[Finding]) -> Explained:
    """Return the findings sorted (culprits and severity first, then cost), with causes linked to what they explain."""
    everything = list(found)
    findings = [_demoted(finding, everything) for finding in everything]
    findings.sort(key=_order)
    links: dict[int, tuple[int, ...]] = {}
    for place, finding in enumerate(findings):
        if finding.role != "culprit":
            continue
        links[place] = tuple(
            other for other, victim in enumerate(findings) if victim.role != "culprit" and _explains(finding, victim)
        )
    return Explained(tuple(_with_also_seen(findings, links)), links)


def _demoted(finding: Finding, found: list[Finding]) -> Finding:
    """Return the finding as context where another culprit at the same place and time explains it."""
    if finding.role != "culprit":
        return finding
    for cause in found:
        if cause.role == "culprit" and draws(cause, finding):
            return replace(finding, role="context")
    return finding


def _explains(cause: Finding, effect: Finding) -> bool:
    """Return whether an effect is listed under a cause: what it makes visible anywhere, or what it outranks here."""
    return effect.condition in EXPLAINED.get(cause.condition, ()) or _outranks(cause, effect)


def draws(cause: Finding, effect: Finding) -> bool:
    """Return whether an effect is nobody's fault but the cause's."""
    if _job(cause) and _job(effect) and _job(cause) != _job(effect):
        return False
    if effect.condition in EXPLAINED.get(cause.condition, ()):
        return effect.subject.kind in EVERYWHERE or same_place(cause, effect)
    return _outranks(cause, effect)


def _job(finding: Finding) -> str:
    """Return the job in the name of a subject, "" where it names none, as that of a GPU, or only "job"."""
    name = finding.subject.id.partition("/")[0]
    return name if finding.subject.kind in OF_JOBS and name != "job" else ""


def _outranks(cause: Finding, effect: Finding) -> bool:
    """Return whether a cause of an earlier class was there while the effect was seen."""
    first, second = _CLASS.get(cause.condition), _CLASS.get(effect.condition)
    if first is None or second is None or first >= second:
        return False
    return same_place(cause, effect) and _overlap(cause, effect) >= OVERLAP


def same_place(cause: Finding, effect: Finding) -> bool:
    """Return whether a cause sits where the effect is seen: the same subject, the rank on it, or the host of it."""
    this, other = cause.subject, effect.subject
    if this.id == other.id or (this.rank >= 0 and this.rank == other.rank and "" in (this.node, other.node)):
        return True
    if not this.node or this.node != other.node:
        return False
    on_host = ("node", "nic")  # what is wrong with these meets all ranks of a host
    return this.kind in on_host or other.kind in on_host or (this.rank >= 0 and this.rank == other.rank)


def _overlap(cause: Finding, effect: Finding) -> float:
    """Return which share of the effect's window the cause covers; 1 where either is unknown.

    A hard event lasts: what it broke stays so.
    """
    begin, end = effect.window.start_ns, effect.window.end_ns
    if min(begin, end, cause.window.start_ns, cause.window.end_ns) < 0 or end <= begin:
        return 1.0
    cause_end = end if _CLASS[cause.condition] == 0 else cause.window.end_ns
    return max(0.0, min(end, cause_end) - max(begin, cause.window.start_ns)) / (end - begin)


def _order(finding: Finding) -> tuple[int, float, str, str]:
    return SEVERITIES.index(finding.severity), -finding.lost_s, finding.condition, finding.subject.id


def _with_also_seen(findings: list[Finding], links: dict[int, tuple[int, ...]]) -> Iterable[Finding]:
    for place, finding in enumerate(findings):
        seen = sorted({findings[other].condition for other in links.get(place, ())})
        yield replace(finding, also_seen=tuple(seen)) if seen else finding
