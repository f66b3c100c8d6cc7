"""More requests come to all replicas than they can take.

A burst, or a scaling out that comes late: demand exceeds what the pool does at its best. Engines work as before and at
full batch, queues grow until clients go away, and the first token comes late by the queue. KV caches are well used, not
overflowing. Source: llm-d (requests that wait mean saturation), conditions page A9.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class SrvAdmissionBacklog:
    """More requests come to all replicas than they can take."""

    kind: ClassVar[str] = "job"
    severity: ClassVar[float] = 1.0
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.rank.add("burst", fault.gpus, fault.amount)
