"""Long contexts fill the KV cache of a replica, and running requests are put back.

More than 93 % of the cache is in use; some requests are preempted and computed anew, others wait for room before they
begin. Answers take longer, half by that wait and half by the second computing. Source: vLLM's preemption of sequences,
conditions page A9.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class KvPressure:
    """Long contexts fill the KV cache of a replica, and running requests are put back."""

    kind: ClassVar[str] = "replica"
    severity: ClassVar[float] = 0.2
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.rank.add("kv_share", fault.gpus, fault.amount)
