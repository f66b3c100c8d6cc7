"""A port has data to send but gets no credits.

The receiver, or a switch on the way, does not free its buffers in time: the port's transmit-wait counter runs while
its data stand. The port sends less than its peers, and who needs its data waits. Source: IBTA PortXmitWait; DPU paper
row.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..injection import Injection
from ..world import World


class IbCreditStarvation:
    """A port has data to send but gets no credits."""

    kind: ClassVar[str] = "nic"
    severity: ClassVar[float] = 0.4
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.nic.scale("rate", fault.gpus, 1.0 - fault.amount)
        world.nic.add("wait_share", fault.gpus, np.minimum(fault.amount * fault.rng.uniform(0.5, 1.2), 0.9))
        world.nic.add("wait_share", world.fleet.same_rail(fault.gpu), 0.004 * fault.envelope)
