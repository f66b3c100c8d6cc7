"""The PCIe link of a GPU or its adapter runs with fewer lanes or a lower generation.

A bad contact, riser or retimer lets the link train to half or a quarter of its width, or one or two generations down.
What crosses it takes longer in proportion, input copies and network traffic alike. It shows under load: an idle GPU
lowers its generation by itself. Source: NVML current and maximum link, sysfs.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class PcieLinkDegraded:
    """The PCIe link of a GPU or its adapter runs with fewer lanes or a lower generation."""

    kind: ClassVar[str] = "gpu"
    severity: ClassVar[float] = 0.5
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.gpu.scale("pcie_rate", fault.gpus, 1.0 - fault.amount)
        halves = 1 if fault.severity <= 0.6 else 2
        area, address = (world.gpu, "gpu") if fault.rng.random() < 0.6 else (world.areas["nic_link"], "nic")
        lanes, speed = 16.0 / 2**halves, world.fleet.hardware.pcie_generation - halves
        by_width = fault.rng.random() < 0.7
        world.gpu.grow(
            "skewscope_gpu_pcie_recovery_entries_total", "", fault.gpus, fault.once(float(fault.rng.integers(1, 6)))
        )
        if address == "nic":
            fault.kind = "nic"  # the link that is told is the adapter's
            metric, value = "skewscope_pcie_link_width_lanes", lanes
            if not by_width:
                metric, value = "skewscope_pcie_link_transfers_per_second", 2.0**speed * 1e9
            area.show(metric, "kind=current", fault.gpus, value, fault.on)
            return
        if by_width:
            world.gpu.show("skewscope_gpu_pcie_link_width_lanes", "kind=current", fault.gpus, lanes, fault.on)
            world.areas["gpu_link"].show("skewscope_pcie_link_width_lanes", "kind=current", fault.gpus, lanes, fault.on)
        else:
            world.gpu.add("generations_lost", fault.gpus, halves * fault.on.astype(float))
