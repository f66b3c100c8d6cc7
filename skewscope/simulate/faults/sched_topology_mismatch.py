"""A job begins in the middle of a host, so that groups that would fit one host lie across two.

The scheduler filled GPUs that others left free (`JobPlan.first_slot`) and counted ranks on from there. What belongs
between NVLinks goes over the adapters instead, from the first step on; each link is as fast as ever. `severity` is the
share of the usual step by which such transfers are longer. Source: Greyhound (topology swaps, ATC'25), conditions page
A10.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..injection import Injection
from ..world import World


class SchedTopologyMismatch:
    """A job begins in the middle of a host, so that groups that would fit one host lie across two."""

    kind: ClassVar[str] = "job"
    severity: ClassVar[float] = 0.2
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = True

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        plan = world.fleet.jobs[fault.job].plan
        block = (fault.gpus - fault.gpus[0]) // plan.tp
        host = world.fleet.node_of(fault.gpus)
        across = np.array([len(np.unique(host[block == one])) > 1 for one in block.tolist()])
        if across.any():
            world.rank.scale("inside_transfer", fault.gpus[across], 1.0 + fault.amount / plan.tp_share)
