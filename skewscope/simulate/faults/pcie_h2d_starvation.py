"""A rank's GPU waits for its input to be copied from the host.

Large batches of raw input go over PCIe before the forward pass and nothing hides them. The link is at full width and
generation; bytes to the GPU are many, the copy phase is long, the SMs are idle meanwhile. Source: TraceML overhead
bands, NVML PCIe byte counters.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class PcieH2dStarvation:
    """A rank's GPU waits for its input to be copied from the host."""

    kind: ClassVar[str] = "rank"
    severity: ClassVar[float] = 0.18
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.rank.scale("h2d_factor", fault.gpus, 1.0 + fault.amount / 0.008)
        usable = world.fleet.hardware.pcie_bytes_per_s
        busy = fault.amount / (1.0 + fault.amount) * fault.rng.uniform(0.5, 0.9)
        world.gpu.add("pcie_foreign_bytes_per_s", fault.gpus, usable * busy)
