"""Sessions pile up on one replica: it gets more than it can take while others have room.

Sticky sessions or a hot prefix send a replica most of what it could do at its best beside its usual part. It works at
full batch, finishes more than the others and still queues; the others are as before. Source: conditions page A9,
DPU paper (flow skew across sessions).
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class SrvFlowSkew:
    """Sessions pile up on one replica: it gets more than it can take while others have room."""

    kind: ClassVar[str] = "replica"
    severity: ClassVar[float] = 1.0
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.rank.add("burst", fault.gpus, fault.amount)
