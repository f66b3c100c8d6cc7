"""A rank runs on the wrong socket: its memory and CPUs are far from its GPU.

Every copy between host and device crosses the link between the sockets, and launching takes longer, from the start
and without change. The share of near CPUs is 0; pages come from the other memory node. Source: conditions page,
nvmlDeviceGetCpuAffinity and numa_maps.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class HostNumaMisbinding:
    """A rank runs on the wrong socket: its memory and CPUs are far from its GPU."""

    kind: ClassVar[str] = "rank"
    severity: ClassVar[float] = 0.1
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = True

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.rank.add("host_share", fault.gpus, 0.7 * fault.amount)
        world.rank.scale("h2d_factor", fault.gpus, 1.0 + fault.envelope * (0.7 + 3.0 * fault.severity))
        world.rank.show("skewscope_rank_numa_local", "", fault.gpus, 0.0, fault.on)
        node, far = (
            int(world.fleet.node_of(fault.gpu)),
            fault.gpu % world.fleet.gpus_per_node < world.fleet.gpus_per_node / 2,
        )
        labels = (f"node={int(far)},result=miss", f"node={1 - int(far)},result=foreign")
        for one in labels:
            world.node.grow("skewscope_host_numa_allocations_total", one, node, fault.counts(4000.0))
