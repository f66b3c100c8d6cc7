"""All answers become longer, and the pool that trains waits for the pool that generates.

The pools were sized for short answers. Every replica generates longer, all alike, so that the next batch comes late:
the trainers are idle for a part of each iteration. Source: conditions A13 (ReaLHF, AsyncFlow).
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class RlPhaseIdle:
    """All answers become longer, and the pool that trains waits for the pool that generates."""

    kind: ClassVar[str] = "job"
    severity: ClassVar[float] = 0.85  # of their time, by which answers take longer
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.rank.scale("rollout_factor", fault.gpus, 1.0 + fault.amount)
