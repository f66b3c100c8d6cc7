"""A replica does not refill the slots of answers that ended early, while requests wait.

Batches run until their longest answer is done: the number of running requests falls from full to a part and jumps back,
requests wait all the time, and each takes longer by the share of slots that stand empty. The KV cache has room. Source:
DPU paper (early completion skew), conditions page A9.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class SrvEarlyStopSkew:
    """A replica does not refill the slots of answers that ended early, while requests wait."""

    kind: ClassVar[str] = "replica"
    severity: ClassVar[float] = 0.22
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.rank.add("drain_share", fault.gpus, fault.amount)
