"""The wire of a port has more errors than correction can hide, before it fails.

A dirty or ageing optic: symbol errors after correction, packets received with errors, retraining now and then;
integrity errors when it is bad. Lost packets are sent again, so some rate is lost. Source: IBTA counters, NVSentinel
limits, ethtool counters of the wire.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..injection import Injection
from ..world import World


class NicPhyDegraded:
    """The wire of a port has more errors than correction can hide, before it fails."""

    kind: ClassVar[str] = "nic"
    severity: ClassVar[float] = 0.15
    shapes: ClassVar[tuple[str, ...]] = ("steady", "ramp")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.nic.scale("rate", fault.gpus, 1.0 - fault.amount)
        rate = np.exp(fault.rng.uniform(np.log(0.3), np.log(8.0))) * fault.amount / 0.15
        world.nic.grow("skewscope_rdma_errors_total", "error=symbol", fault.gpus, fault.counts(rate))
        world.nic.grow("skewscope_nic_errors_total", "error=pcs_symbol", fault.gpus, fault.counts(rate * 1.3))
        world.nic.grow("skewscope_nic_errors_total", "error=corrected_bits", fault.gpus, fault.counts(3e6))
        world.nic.grow("skewscope_rdma_errors_total", "error=receive", fault.gpus, fault.counts(rate * 0.6))
        if fault.rng.random() < 0.6:
            recovered = fault.counts(fault.rng.uniform(0.05, 0.2))
            world.nic.grow("skewscope_rdma_link_events_total", "event=recovered", fault.gpus, recovered)
        if fault.rng.random() < 0.4:
            world.nic.grow("skewscope_rdma_errors_total", "error=local_integrity", fault.gpus, fault.counts(0.05))
        if fault.rng.random() < 0.4:
            world.nic.grow("skewscope_rdma_errors_total", "error=icrc", fault.gpus, fault.counts(0.1))
        ratio = 2e-7 * fault.amount / 0.15
        world.nic.grow_per_packet("skewscope_rdma_retransmissions_total", "cause=packet_sequence", fault.gpus, ratio)
