"""Two large flows share one link of the fabric while others are free.

The hash of the switches puts them on the same path from the first packet of the job on, so the bus bandwidth of this
job is lower than of its last start. No counter of errors moves: nothing is wrong but the choice. Source: C4 (30 % on
512 GPUs).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..injection import Injection
from ..world import World


class EcmpCollision:
    """Two large flows share one link of the fabric while others are free."""

    kind: ClassVar[str] = "rail"
    severity: ClassVar[float] = 0.45
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = True

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        fault.gpus = np.sort(fault.rng.permutation(fault.gpus)[:2])  # the two whose flows meet
        world.nic.scale("rate", fault.gpus, 1.0 - fault.amount)
