"""Another tenant of the machine slows all ranks of a host, from outside of what the job can see of itself.

A virtual machine: the hypervisor gives the host's CPU time to others, which it counts as steal. Or pods of another
tenant on the same system: they run on CPUs of their own, and take caches and memory bandwidth, so that threads of ranks
run slower though they do not wait. Source: conditions A13 (CloudFormer).
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class HostNoisyNeighbour:
    """Another tenant of the machine slows all ranks of a host."""

    kind: ClassVar[str] = "node"
    severity: ClassVar[float] = 0.15
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        node = int(world.fleet.node_of(fault.gpu))
        world.rank.add("host_share", fault.gpus, fault.amount)
        lost = fault.amount / (1.0 + fault.amount)
        if fault.rng.random() < 0.5:
            world.node.add("steal", node, lost * fault.rng.uniform(0.8, 1.2))
        else:
            world.node.add("cpu_load", node, lost * fault.rng.uniform(1.6, 2.4))
            world.node.add("pressure", node, lost * fault.rng.uniform(0.3, 0.6))
            world.node.add("memory_pressure", node, lost * fault.rng.uniform(0.3, 0.6))
