"""Results leave a GPU slowly: every step waits for copies to the host.

Synchronous logging, statistics of weights or offloaded states go to the host inside the step. Bytes from the GPU
rise, the rank is busy in none of the usual phases, its GPU idles. Source: DPU paper row (D2H return), NVML PCIe byte
counters.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class PcieD2hBottleneck:
    """Results leave a GPU slowly: every step waits for copies to the host."""

    kind: ClassVar[str] = "rank"
    severity: ClassVar[float] = 0.15
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.rank.add("d2h_share", fault.gpus, fault.amount)
        world.rank.add("cpu", fault.gpus, 0.2 * fault.envelope)
