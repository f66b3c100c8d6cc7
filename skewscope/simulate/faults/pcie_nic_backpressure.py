"""A host takes the bytes of its adapter too slowly: the adapter stops its peers.

Slow memory, an IOMMU or a bad slot: the adapter waits for PCIe credits, its buffer fills, it drops or pauses what
comes. Pause frames sent by this adapter are received by its neighbours, whose data wait. Source: mlx5 ethtool
counters outbound_pci_stalled_wr(_events), rx_discards_phy.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..injection import Injection
from ..world import WINDOW_S, World


class PcieNicBackpressure:
    """A host takes the bytes of its adapter too slowly: the adapter stops its peers."""

    kind: ClassVar[str] = "nic"
    severity: ClassVar[float] = 0.5
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.nic.scale("rate", fault.gpus, 1.0 - fault.amount)
        stalled = fault.rng.uniform(0.5, 1.0) * fault.envelope * WINDOW_S
        world.nic.grow("skewscope_nic_pcie_stalled_seconds_total", "direction=write", fault.gpus, np.floor(stalled))
        if fault.rng.random() < 0.3:
            world.nic.grow(
                "skewscope_nic_pcie_stalled_seconds_total", "direction=read", fault.gpus, np.floor(stalled * 0.4)
            )
        for error in fault.some(["pcie_buffer_overflow", "discard"]):
            world.nic.grow("skewscope_nic_errors_total", f"error={error}", fault.gpus, fault.counts(40.0))
        world.nic.grow("skewscope_rdma_errors_total", "error=out_of_buffer", fault.gpus, fault.counts(2.0))
        world.nic.add("pause_sent", fault.gpus, fault.rng.uniform(0.03, 0.2) * fault.envelope)
        neighbours = world.fleet.same_rail(fault.gpu)
        world.nic.add("pause_received", neighbours, fault.rng.uniform(0.01, 0.04) * fault.envelope)
        world.nic.add("wait_share", neighbours, 0.02 * fault.envelope)
