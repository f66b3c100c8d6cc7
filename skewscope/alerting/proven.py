"""In which worlds of its room each alert fires, and down to which share. Derived by `prove.py`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Proof:
    """`fires`: (world, smallest share that fires, largest that is silent or 0, hosts); `silent`: worlds."""

    fires: tuple[tuple[str, float, float, tuple[str, ...]], ...]
    silent: tuple[str, ...]


# fmt: off
PROVEN = {
    "ckpt-stall": Proof((
        ("always-long", 0.556640625, 0.5546875, ("n0", "n1",)),
    ), ("first-savings",)),
    "ecmp-collision": Proof((
        ("collides", 0.71484375, 0.712890625, ("n0", "n1", "n2", "n3", "n4",)),
    ), ("near-miss", "quiet",)),
    "fabric-congestion": Proof((
        ("crowded", 0.5, 0.498046875, ("n1",)),
        ("restarts", 0.751953125, 0.75, ("n1",)),
    ), ("near-miss", "quiet", "idle",)),
    "gpu-app-fault": Proof((
        ("again", 1.0, 0.0, ("n1",)),
    ), ("near-miss", "quiet", "followers",)),
    "gpu-clock-pinned-low": Proof((
        ("locked", 0.31640625, 0.314453125, ("n1",)),
    ), ("near-miss", "setting-near-miss", "quiet",)),
    "gpu-ecc-sbe-storm": Proof((
        ("storm", 0.201171875, 0.19921875, ("n1",)),
    ), ("near-miss", "quiet", "trickle",)),
    "gpu-ecc-uncorrectable": Proof((
        ("counted", 0.48828125, 0.486328125, ("n1",)),
    ), ("near-miss", "quiet", "remapped",)),
    "gpu-gsp-timeout": Proof((
        ("hung", 1.0, 0.998046875, ("n1",)),
        ("slow-calls", 0.833984375, 0.83203125, ("n1",)),
    ), ("near-miss", "quiet", "one-109",)),
    "gpu-hw-slowdown": Proof((
        ("hot", 0.16796875, 0.166015625, ("n1",)),
    ), ("near-miss", "quiet", "power-capped",)),
    "gpu-off-bus": Proof((
        ("lost", 1.0, 0.998046875, ("n1",)),
        ("missing", 1.0, 0.998046875, ("n1",)),
    ), ("near-miss", "quiet", "follows",)),
    "gpu-power-cap": Proof((
        ("capped-more", 0.400390625, 0.3984375, ("n1",)),
    ), ("near-miss", "quiet", "clock-only-a-little-lower",)),
    "gpu-row-remap": Proof((
        ("pending", 1.0, 0.998046875, ("n1",)),
        ("failed", 1.0, 0.998046875, ("n1",)),
    ), ("near-miss", "quiet", "remapped-before",)),
    "gpu-sdc-suspect": Proof((
        ("poison", 0.48828125, 0.486328125, ("n1",)),
    ), ("near-miss", "quiet", "few-ranks",)),
    "gpu-slow-silent": Proof((
        ("slow", 0.359375, 0.357421875, ("n1",)),
    ), ("near-miss", "quiet",)),
    "gpu-squatter": Proof((
        ("squatter", 1.0, 0.998046875, ("n0",)),
    ), ("quiet", "short-visit", "look-alike-late",)),
    "host-clock-skew": Proof((
        ("live-skewed", 0.201171875, 0.19921875, ("n1",)),
    ), ("near-miss", "live-near-miss", "quiet",)),
    "host-cpu-contention": Proof((
        ("starving", 0.126953125, 0.125, ("n0",)),
    ), ("near-miss", "quiet", "all-busy",)),
    "host-launch-bound": Proof((
        ("gaps", 0.37109375, 0.369140625, ("n0",)),
    ), ("near-miss", "quiet", "look-alike-stall",)),
    "host-numa-misbinding": Proof((
        ("far", 0.951171875, 0.94921875, ("n0",)),
    ), ("near-miss", "quiet", "look-alike-unbound",)),
    "host-pinned-memory-shortage": Proof((
        ("short", 0.509765625, 0.5078125, ("n0",)),
    ), ("near-miss", "quiet", "look-alike-copies",)),
    "host-process-stuck": Proof((
        ("stuck", 0.900390625, 0.8984375, ("n0",)),
    ), ("near-miss", "quiet", "look-alike-disk",)),
    "ib-credit-starvation": Proof((
        ("waits", 0.474609375, 0.47265625, ("n1",)),
    ), ("near-miss", "quiet", "busy-port",)),
    "kv-pressure": Proof((
        ("pressed", 0.931640625, 0.9296875, ("n0",)),
    ), ("near-miss", "quiet", "full-unharmed",)),
    "kv-transfer-slow": Proof((
        ("slow", 0.0078125, 0.005859375, ("n0",)),
    ), ("near-miss", "quiet", "look-alike-long-prompts",)),
    "mem-skew": Proof((
        ("fuller", 0.96875, 0.966796875, ("n0",)),
    ), ("near-miss", "quiet", "all-full",)),
    "moe-a2a-skew": Proof((
        ("live-on-two-hosts", 0.41796875, 0.416015625, ("n0", "n1",)),
    ), ("near-miss", "live-near-miss", "quiet",)),
    "moe-hot-expert": Proof((
        ("live", 0.333984375, 0.33203125, ("n0", "n1",)),
    ), ("near-miss", "quiet", "live-quiet",)),
    "moe-rebalance-thrash": Proof((
        ("live", 0.30078125, 0.298828125, ("n0", "n1",)),
    ), ("near-miss", "quiet", "live-quiet",)),
    "moe-router-collapse": Proof((
        ("live", 0.333984375, 0.33203125, ("n0", "n1",)),
    ), ("near-miss", "live-near-miss", "quiet",)),
    "nic-driver-fault": Proof((
        ("firmware", 1.0, 0.0, ("n1",)),
    ), ("near-miss", "quiet", "silent-port",)),
    "nic-link-down": Proof((
        ("down", 0.001953125, 0.0, ("n1",)),
        ("half-rate", 0.501953125, 0.5, ("n1",)),
    ), ("near-miss", "rate-near-miss", "quiet",)),
    "nic-link-flap": Proof((
        ("flaps", 0.25, 0.125, ("n1",)),
    ), ("near-miss", "quiet", "stays-down",)),
    "nic-mixed-kinds": Proof((
        ("one-host", 0.6015625, 0.599609375, ("n1",)),
    ), ("near-miss", "quiet", "groups-are-fast",)),
    "nic-phy-degraded": Proof((
        ("beside-noise", 0.5625, 0.53125, ("n1",)),
        ("retrains", 0.833984375, 0.83203125, ("n1",)),
    ), ("near-miss", "damaged-near-miss", "quiet",)),
    "nic-saturation": Proof((
        ("full", 0.91015625, 0.908203125, ("n1",)),
        ("received", 0.91015625, 0.908203125, ("n1",)),
    ), ("near-miss", "quiet", "checkpoint",)),
    "nvlink-down": Proof((
        ("down", 1.0, 0.998046875, ("n1",)),
    ), ("near-miss", "quiet", "asleep",)),
    "nvlink-error-rate": Proof((
        ("replays", 0.16796875, 0.166015625, ("n1",)),
        ("bit-errors", 0.251953125, 0.25, ("n1",)),
    ), ("quiet", "burst-after-reset", "symbols",)),
    "pcie-d2h-bottleneck": Proof((
        ("copies", 0.4453125, 0.443359375, ("n0",)),
    ), ("quiet", "all-to-adapters", "look-alike-late",)),
    "pcie-error-replay": Proof((
        ("many", 0.1015625, 0.099609375, ("n0",)),
        ("fatal", 0.87890625, 0.876953125, ("n0",)),
    ), ("near-miss", "quiet", "everywhere",)),
    "pcie-h2d-starvation": Proof((
        ("starving", 0.263671875, 0.26171875, ("n0",)),
    ), ("near-miss", "quiet", "look-alike-loader",)),
    "pcie-link-degraded": Proof((
        ("lanes", 0.001953125, 0.0, ("n0",)),
        ("generation", 0.001953125, 0.0, ("n0",)),
    ), ("near-miss", "quiet", "for-a-moment",)),
    "pcie-mr-churn": Proof((
        ("churn", 0.201171875, 0.19921875, ("n0",)),
    ), ("near-miss", "quiet", "growing",)),
    "pcie-nic-backpressure": Proof((
        ("waiting", 0.125, 0.123046875, ("n0",)),
    ), ("near-miss", "quiet", "look-alike-paused",)),
    "pcie-p2p-misroute": Proof((
        ("through-host", 0.76953125, 0.767578125, ("n2",)),
    ), ("near-miss", "quiet", "idle",)),
    "pcie-saturation": Proof((
        ("full", 0.943359375, 0.94140625, ("n0",)),
    ), ("near-miss", "quiet", "half-everywhere",)),
    "pfc-storm": Proof((
        ("storm", 0.05078125, 0.048828125, ("n1",)),
    ), ("near-miss", "quiet", "stall-only",)),
    "power-oversubscribed": Proof((
        ("near", 0.89453125, 0.892578125, ("n0", "n1", "n2", "n3",)),
    ), ("near-miss", "quiet", "single-window",)),
    "rail-imbalance": Proof((
        ("unused", 0.236328125, 0.234375, ("n1",)),
    ), ("near-miss", "quiet", "burst",)),
    "rdma-retransmit": Proof((
        ("losses", 0.833984375, 0.83203125, ("n1",)),
        ("damage", 0.75, 0.748046875, ("n1",)),
    ), ("near-miss", "timeouts-near-miss", "quiet",)),
    "rdma-retry-exhausted": Proof((
        ("one-port", 0.955078125, 0.953125, ("n1",)),
    ), ("near-miss", "quiet", "zero",)),
    "rl-phase-idle": Proof((
        ("waiting", 0.8515625, 0.849609375, ("n0", "n1",)),
    ), ("near-miss", "quiet", "fitting-pools",)),
    "rl-rollout-tail": Proof((
        ("tail", 0.375, 0.373046875, ("n0", "n1",)),
        ("always", 0.384765625, 0.3828125, ("n0", "n1",)),
    ), ("near-miss", "quiet", "all-long",)),
    "sched-topology-mismatch": Proof((
        ("cheap", 1.0, 0.998046875, ("n0", "n1", "n2", "n3",)),
    ), ("near-miss", "quiet", "too-large-for-a-host",)),
    "srv-admission-backlog": Proof((
        ("burst", 0.068359375, 0.06640625, ("n0", "n1", "n2", "n3",)),
    ), ("near-miss", "quiet", "one-window",)),
    "srv-dp-attention-imbalance": Proof((
        ("uneven", 0.373046875, 0.37109375, ("n1",)),
    ), ("near-miss", "quiet", "one-window",)),
    "srv-early-stop-skew": Proof((
        ("falling", 0.953125, 0.951171875, ("n0",)),
    ), ("near-miss", "quiet", "look-alike-no-queue",)),
    "srv-egress-backlog": Proof((
        ("waits", 0.51953125, 0.517578125, ("n1",)),
    ), ("near-miss", "quiet", "look-alike-client",)),
    "srv-egress-jitter": Proof((
        ("drops", 0.251953125, 0.25, ("n1",)),
        ("sent-again", 0.25, 0.248046875, ("n1",)),
    ), ("near-miss", "quiet", "look-alike-engine",)),
    "srv-flow-skew": Proof((
        ("skewed", 0.267578125, 0.265625, ("n0",)),
    ), ("near-miss", "quiet", "no-queue",)),
    "srv-ingress-loss": Proof((
        ("received-twice", 0.251953125, 0.25, ("n1",)),
        ("sent-again", 0.248046875, 0.24609375, ("n1",)),
    ), ("near-miss", "quiet", "one-window",)),
    "srv-ingress-starvation": Proof((
        ("starved", 0.80078125, 0.798828125, ("n0", "n1", "n2", "n3",)),
    ), ("near-miss", "quiet", "look-alike-no-demand",)),
    "srv-preempt-thrash": Proof((
        ("thrashing", 0.923828125, 0.921875, ("n0",)),
    ), ("quiet", "look-alike-burst",)),
    "srv-prefill-decode-interference": Proof((
        ("interference", 0.201171875, 0.19921875, ("n0",)),
    ), ("near-miss", "quiet", "look-alike-kv",)),
}
# fmt: on
