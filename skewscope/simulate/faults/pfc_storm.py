"""Pause frames spread from one adapter and stop its neighbours.

A receiver that does not drain, or a faulty adapter, sends pause frames for a long time; the switch passes them back
and all who send through it stand still for a part of the time. The first pauser sends, the others receive. Source:
ethtool rx_prio3_pause(_duration), tx_pause_storm events; Microsoft's RoCE reports.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..injection import Injection
from ..world import World


class PfcStorm:
    """Pause frames spread from one adapter and stop its neighbours."""

    kind: ClassVar[str] = "nic"
    severity: ClassVar[float] = 0.35
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        neighbours = world.fleet.same_rail(fault.gpu)
        paused = np.minimum(fault.amount * fault.rng.uniform(0.6, 1.0), 0.95)
        world.nic.add("pause_sent", fault.gpus, paused)
        world.nic.add("pause_received", neighbours, paused * fault.rng.uniform(0.5, 0.9))
        world.nic.scale("rate", fault.gpus, 1.0 - fault.amount)
        if len(neighbours):
            world.nic.scale("rate", neighbours, 1.0 - fault.amount * 0.8)
        world.nic.grow("skewscope_nic_errors_total", "error=pause_storm_warning", fault.gpus, fault.counts(0.1))
        if fault.rng.random() < 0.4:
            world.nic.grow("skewscope_nic_errors_total", "error=pause_storm", fault.gpus, fault.counts(0.03))
