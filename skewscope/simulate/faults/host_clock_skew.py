"""The clock of a host drifts away from the others.

The time daemon has lost its servers. The offset grows, the kernel's error bound grows by itself (500 ppm), at last
the clock counts as not synchronised. Work and transfers are as before, but arrivals of this host's ranks seem late or
early by the offset. Source: adjtimex(2).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..injection import Injection
from ..world import WINDOW_S, World


class HostClockSkew:
    """The clock of a host drifts away from the others."""

    kind: ClassVar[str] = "node"
    severity: ClassVar[float] = 0.02
    shapes: ClassVar[tuple[str, ...]] = ("ramp", "steady")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        node = int(world.fleet.node_of(fault.gpu))
        sign = fault.rng.choice([-1.0, 1.0])
        world.node.add("offset_s", node, sign * fault.amount)  # severity: seconds of offset
        since = np.cumsum(fault.on) * WINDOW_S
        bound = 2e-3 + 5e-4 * since
        for name, value in (("max_error", bound), ("estimated_error", np.abs(fault.amount) + 1e-4)):
            world.node.show(f"skewscope_host_clock_{name}_seconds", "", node, value, fault.on)
        world.node.show("skewscope_host_clock_synchronized", "", node, 0.0, since > 5 * WINDOW_S)
