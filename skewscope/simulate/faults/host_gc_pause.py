"""Python's garbage collector stops ranks at different steps.

Each rank collects when its own allocations say so. A pause of a tenth of a step or more hits one rank now, another
later; all others wait for it, so the job loses far more than one rank's pauses. Nobody is slow for long. Source:
Llama and MegaScale practice of synchronised collection; gc phases of the what-if traces.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class HostGcPause:
    """Python's garbage collector stops ranks at different steps."""

    kind: ClassVar[str] = "job"
    severity: ClassVar[float] = 0.25
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        ranks = len(fault.gpus)
        per_step = fault.rng.uniform(0.25, 0.6)  # steps in which some rank pauses
        world.rank.add("gc_rate", fault.gpus, per_step / ranks * (fault.envelope > 0))
        world.rank.add("gc_share", fault.gpus, fault.amount)
