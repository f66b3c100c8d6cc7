"""A PCIe switch is full: copies, network and local disks share it.

Checkpoint staging or a dataset on local NVMe moves through the switch that a GPU and its adapter use. The link is
sound and at full width, its bytes are near what it can carry for long; the rank's copies and its network traffic get
what is left. Source: DPU paper row (saturation), GPM PCIe bytes.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import WINDOW_S, World


class PcieSaturation:
    """A PCIe switch is full: copies, network and local disks share it."""

    kind: ClassVar[str] = "gpu"
    severity: ClassVar[float] = 0.45
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        usable = world.fleet.hardware.pcie_bytes_per_s
        world.gpu.add(
            "pcie_foreign_bytes_per_s", fault.gpus, usable * fault.rng.uniform(0.80, 0.88) * (fault.envelope > 0)
        )
        world.gpu.scale("pcie_rate", fault.gpus, 1.0 - fault.amount)
        node = int(world.fleet.node_of(fault.gpu))
        world.areas["disk"].grow(
            "skewscope_disk_bytes_total", "direction=read", node, usable * 0.4 * WINDOW_S * fault.envelope
        )
