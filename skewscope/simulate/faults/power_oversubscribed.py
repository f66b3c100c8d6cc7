"""A rack loses part of its power, and its brake holds all its GPUs at what is left.

A feed fails, or the row is needed elsewhere: the budget falls below what the GPUs draw at full load. The brake halves
their clocks for as much of the time as it takes to stay within it, at normal temperatures. Source: conditions A13
(POLCA); NVML clocks event reasons.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..host_series import GRANTED_RATIO
from ..injection import Injection
from ..physics import clock_for, throttled_share
from ..world import WINDOW_S, World

DRAWN_RATIO = 0.97  # of the limits, by a rack at full load
CLOCK_POWER_EXPONENT = 2.2
NEAR = (0.93, 1.0)  # of the budget that is left


class PowerOversubscribed:
    """A rack loses part of its power, and its brake holds all its GPUs at what is left."""

    kind: ClassVar[str] = "rack"
    severity: ClassVar[float] = 0.18
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        share = np.minimum(throttled_share(fault.amount, 0.5), 1.0)
        world.gpu.add("hw_power_brake", fault.gpus, share)
        metric = "skewscope_gpu_clock_event_observed_seconds_total"
        world.gpu.grow(metric, "reason=hw_slowdown", fault.gpus, share * WINDOW_S)
        drawn = DRAWN_RATIO * clock_for(np.asarray(fault.severity)) ** CLOCK_POWER_EXPONENT
        left = float(drawn) / fault.rng.uniform(*NEAR) / GRANTED_RATIO
        nodes = np.unique(world.fleet.node_of(fault.gpus))
        world.node.scale("power_budget", nodes, np.where(fault.on, left, 1.0))
