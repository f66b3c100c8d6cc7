"""Ports behind one leaf switch meet congestion: packets are marked, senders slow down.

Incast or too few uplinks: the switch marks packets, receivers send congestion notifications, senders obey and lower
their rate; slow restarts follow. All flows of the leaf are slower, no packet is lost. Source: DCQCN; mlx5 counters
np_cnp_sent, rp_cnp_handled, roce_slow_restart.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class FabricCongestion:
    """Ports behind one leaf switch meet congestion: packets are marked, senders slow down."""

    kind: ClassVar[str] = "rail"
    severity: ClassVar[float] = 0.4
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.nic.scale("rate", fault.gpus, 1.0 - fault.amount)
        metric = "skewscope_rdma_congestion_events_total"
        share = fault.rng.uniform(0.012, 0.05) * fault.amount / 0.4
        for event, factor in (("ecn_marked", 1.0), ("cnp_sent", 0.8), ("cnp_handled", 0.9)):
            world.nic.grow_per_packet(metric, f"event={event}", fault.gpus, share * factor)
        restarts = fault.rng.uniform(5.0, 40.0)
        for nic in fault.gpus:
            counts = fault.counts(restarts)
            world.nic.grow("skewscope_rdma_retransmissions_total", "cause=slow_restart", int(nic), counts)
        if fault.rng.random() < 0.5:
            world.nic.add("pause_received", fault.gpus, 0.005 * fault.envelope)
