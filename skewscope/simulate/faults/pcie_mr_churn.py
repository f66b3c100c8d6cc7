"""A rank registers and frees memory for RDMA all the time.

No registration cache, or buffers that move at every step: each registration pins pages, takes a system call and the
locks of the address space. Pinned memory goes up and down, system time and voluntary switches rise, the rank launches
late. Source: DPU paper row (registration churn).
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class PcieMrChurn:
    """A rank registers and frees memory for RDMA all the time."""

    kind: ClassVar[str] = "rank"
    severity: ClassVar[float] = 0.12
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.rank.add("host_share", fault.gpus, fault.amount)
        world.rank.add("cpu", fault.gpus, fault.rng.uniform(0.4, 0.9) * fault.envelope)
        world.rank.add("switches_per_s", fault.gpus, 700.0 * fault.envelope)
        world.rank.add("pinned_swing", fault.gpus, 0.45 * fault.envelope)
        world.gpu.add("bar1_swing", fault.gpus, 0.5 * fault.envelope)
