"""A rank cannot pin memory: its copies to the GPU go through small pageable buffers.

The limit of locked memory, or fragmentation, leaves the rank without its staging pool. The driver copies page by page
through a small buffer of its own, which takes CPU time and leaves PCIe far from full; the GPU waits for its input.
Locked and pinned memory of the rank are small beside those of its peers. Source: DPU paper row (PCIe vantage),
/proc/PID/status VmLck and VmPin.
"""

from __future__ import annotations

from typing import ClassVar

from ..fleet import GIB
from ..injection import Injection
from ..world import World


class HostPinnedMemoryShortage:
    """A rank cannot pin memory: its copies to the GPU go through small pageable buffers."""

    kind: ClassVar[str] = "rank"
    severity: ClassVar[float] = 0.14
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = True

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.rank.scale("h2d_factor", fault.gpus, 1.0 + fault.amount / 0.008)
        world.rank.add("cpu", fault.gpus, fault.rng.uniform(0.3, 0.8) * fault.envelope)
        left = fault.rng.uniform(0.0, 0.06)
        for metric, usual in (("locked", 12 * GIB), ("pinned", 20 * GIB)):
            world.rank.show(f"skewscope_rank_{metric}_memory_bytes", "", fault.gpus, usual * left, fault.on)
        node = int(world.fleet.node_of(fault.gpu))
        world.node.grow("skewscope_host_memory_stalls_total", "cause=compaction", node, fault.counts(0.5))
