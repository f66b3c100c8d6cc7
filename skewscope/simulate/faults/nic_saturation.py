"""A port is full: storage or another job sends through it, and the job's transfers get what is left.

A greedy flow takes what the job leaves, so the port carries nearly its line rate all the time, one way or both; nothing
is lost and nothing is marked. Every ring through it runs at what is left of the rate. Source: conditions page A13, DPU
paper (NIC saturation).
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class NicSaturation:
    """A port is full: storage or another job sends through it, and the job's transfers get what is left."""

    kind: ClassVar[str] = "nic"
    severity: ClassVar[float] = 0.5
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.nic.scale("rate", fault.gpus, 1.0 - fault.amount)
        line = fault.rng.uniform(0.93, 0.985)
        ways = fault.pick("sent", "received", "both")
        for way in ("sent", "received"):
            if ways in (way, "both"):
                world.nic.add(f"filled_{way}", fault.gpus, line * fault.envelope)
