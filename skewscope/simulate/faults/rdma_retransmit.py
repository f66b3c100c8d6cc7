"""Packets of one adapter are lost on the way and sent again.

A lossy path: a full buffer without flow control, or a link that corrupts. The requester sees gaps in sequence numbers
and acknowledgements that never come, the timer fires, adaptive retransmission begins; each timeout costs
milliseconds. Source: mlx5 hw_counters packet_seq_err, local_ack_timeout_err, roce_adp_retrans.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..injection import Injection
from ..world import World


class RdmaRetransmit:
    """Packets of one adapter are lost on the way and sent again."""

    kind: ClassVar[str] = "nic"
    severity: ClassVar[float] = 0.45
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.nic.scale("rate", fault.gpus, 1.0 - fault.amount)
        metric = "skewscope_rdma_retransmissions_total"
        loss = np.exp(fault.rng.uniform(np.log(3e-6), np.log(1e-4))) * fault.amount / 0.45
        causes = {"packet_sequence": 1.0, "implied_nak": 0.3, "duplicate": 0.4, "adaptive": 0.8}
        for cause in ("packet_sequence", *fault.some(["implied_nak", "duplicate", "adaptive"])):
            world.nic.grow_per_packet(metric, f"cause={cause}", fault.gpus, loss * causes[cause])
        world.nic.grow(metric, "cause=ack_timeout", fault.gpus, fault.counts(fault.rng.uniform(1.5, 12.0)))
        if fault.rng.random() < 0.5:
            world.nic.grow(metric, "cause=adaptive_timeout", fault.gpus, fault.counts(1.0))
        world.nic.grow("skewscope_rdma_errors_total", "error=transmit_discard", fault.gpus, fault.counts(0.5))
