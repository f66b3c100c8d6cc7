"""The lengths of answers spread: most are as short as before and a few take several times as long.

The model learns to think long on hard questions. The batch ends with its longest answer, so that generation takes
longer though the median answer does not; every replica meets one now and then, and the others wait. Source: conditions
A13 (HybridFlow, AsyncFlow).
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class RlRolloutTail:
    """The lengths of answers spread: a few take several times as long as most."""

    kind: ClassVar[str] = "job"
    severity: ClassVar[float] = 0.13  # more spread of the logarithm of lengths
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.rank.add("rollout_spread", fault.gpus, fault.amount)
