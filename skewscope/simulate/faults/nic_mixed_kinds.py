"""A host of the job has adapters of an older kind: every ring through it runs at their rate.

The scheduler took it from a mixed pool. All its ports are another board and trained to what that board can do, half or
a quarter of the others' rate, from the first step on. Source: conditions page A13, Holmes (heterogeneous NICs).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..injection import Injection
from ..world import World

HALF, QUARTER = 0.5, 0.25  # of the rate


class NicMixedKinds:
    """A host of the job has adapters of an older kind: every ring through it runs at their rate."""

    kind: ClassVar[str] = "node"
    severity: ClassVar[float] = 0.6
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = True

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        left = HALF if fault.severity <= 0.6 else QUARTER
        world.nic.scale("rate", fault.gpus, np.where(fault.on, left, 1.0))
        world.nic.add("other_board", fault.gpus, np.ones(world.windows))
        rate = left * world.fleet.hardware.nic_bytes_per_s
        world.nic.show("skewscope_rdma_rate_bytes_per_second", "", fault.gpus, rate, fault.on)
