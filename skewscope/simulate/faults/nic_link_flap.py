"""A port goes down and comes back, again and again.

A dirty or loose optic. Each time the link is away for some seconds, transfers over it stand still and go on if the
retries last; the job loses those seconds. Between flaps all is well. Source: gpud (3 in 12 h), AzureHPC, ByteRobust.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..injection import Injection
from ..world import WINDOW_S, Event, World


class NicLinkFlap:
    """A port goes down and comes back, again and again."""

    kind: ClassVar[str] = "nic"
    severity: ClassVar[float] = 0.0
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        length = np.flatnonzero(fault.on)
        last = int(length[-1]) if len(length) else 0
        last = min(last, fault.onset_window + 40)
        when = fault.onset_s
        slot, node = fault.gpu % world.fleet.gpus_per_node, int(world.fleet.node_of(fault.gpu))
        while when < last * WINDOW_S:
            away = fault.rng.uniform(4.0, 28.0)
            window = world.window(when)
            counts = np.zeros(world.windows)
            counts[window] = 1.0
            world.nic.grow("skewscope_rdma_link_events_total", "event=downed", fault.gpus, counts)
            world.nic.grow("skewscope_nic_errors_total", "error=link_down", fault.gpus, counts)
            world.areas["netdev"].grow("skewscope_nic_carrier_changes_total", "", fault.gpus, 2 * counts)
            world.nic.add("away", fault.gpus, counts * away / WINDOW_S)
            world.events.append(Event(when, node, f"mlx5_{slot}", "link-down", -1, "Link down"))
            world.events.append(Event(when + away, node, f"mlx5_{slot}", "link-up", -1, "Link up"))
            if fault.job >= 0:
                world.courses[fault.job].stalls.append((when, away + fault.rng.uniform(1.0, 4.0), "transfer"))
            when += away + fault.rng.uniform(60.0, 240.0)
