"""One rank does more by itself between collectives, on its host, and nothing that is measured says why.

Logging, a hook, a debug check that only this rank runs: its process computes on, its GPU waits, no core is missing and
no pressure shows. Clocks, heat, links and copies are as on the others; it waits least in collectives. Source: PyTorch
straggler threads (#349 of NCCL and those that followed), conditions page A6.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class CollLateRank:
    """One rank does more by itself between collectives, on its host, and nothing that is measured says why."""

    kind: ClassVar[str] = "rank"
    severity: ClassVar[float] = 0.2
    shapes: ClassVar[tuple[str, ...]] = ("steady", "ramp")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.rank.add("host_share", fault.gpus, fault.amount)
