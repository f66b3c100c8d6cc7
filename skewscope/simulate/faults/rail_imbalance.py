"""One adapter of a host carries nothing, another carries its bytes too.

A rail that the library lost at the start, a wrong topology file, a bond that hashes all to one port: the traffic of
two GPUs shares one adapter, whose transfers take twice as long. Bytes over the adapters of this host are uneven as on
no other host. Source: C4P (port balance).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..injection import Injection
from ..world import World


class RailImbalance:
    """One adapter of a host carries nothing, another carries its bytes too."""

    kind: ClassVar[str] = "nic"
    severity: ClassVar[float] = 0.5
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = True

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        node = int(world.fleet.node_of(fault.gpu))
        others = [int(one) for one in world.fleet.gpus_of(node) if one != fault.gpu]
        heir = int(fault.rng.choice(others)) if others else fault.gpu
        weight = world.nic.edit("weight")
        moved = weight[:, fault.gpu] * np.where(fault.on, 0.97, 0.0)
        weight[:, fault.gpu] -= moved
        weight[:, heir] += moved
        for one in (fault.gpu, heir):
            world.nic.scale("rate", one, 1.0 - fault.amount)
