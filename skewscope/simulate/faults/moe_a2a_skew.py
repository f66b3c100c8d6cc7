"""The all-to-all of one rank ends late: more comes to it than to others at once, while its adapter is sound.

Tokens from all ranks arrive at one receiver together, as its experts are picked together or a chunk size does not suit;
its other collectives are as fast as anybody's. Source: DeepEP #343 (twice as slow by one overloaded host), DeepXTrace's
classes, conditions page A8.
"""

from __future__ import annotations

from typing import ClassVar

from .. import routing
from ..injection import Injection
from ..world import World


class MoeA2aSkew:
    """The all-to-all of one rank ends late: more comes to it than to others at once."""

    kind: ClassVar[str] = "rank"
    severity: ClassVar[float] = 1.5  # times the usual time, beyond it
    shapes: ClassVar[tuple[str, ...]] = ("steady", "ramp")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        routing.of_job(world, fault.job, fault.condition)
        world.rank.add("expert_transfer", fault.gpus, fault.amount)
