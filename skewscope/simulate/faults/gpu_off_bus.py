"""A GPU falls off the bus: the driver can no longer reach it.

Power, heat or PCIe: reads return all ones, the driver declares the GPU lost (XID 79). Its series end, the driver
lists one GPU less, and all ranks wait for the one that held it. Often only the kernel log has the XID, since the
event channel is gone with the GPU. Source: conditions page; DCGM issue 162.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class GpuOffBus:
    """A GPU falls off the bus: the driver can no longer reach it."""

    kind: ClassVar[str] = "gpu"
    severity: ClassVar[float] = 1.0
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        node = int(world.fleet.node_of(fault.gpu))
        sources = ("kmsg",) if fault.rng.random() < 0.6 else ("nvml", "kmsg")
        fault.xid(world, fault.gpu, 79, "GPU has fallen off the bus.", sources)
        world.gpu.show("skewscope_gpu_access_state", "state=ok", fault.gpus, 0.0, fault.on)
        world.gpu.show("skewscope_gpu_access_state", "state=lost", fault.gpus, 1.0, fault.on)
        fewer = world.fleet.gpus_per_node - float(len(fault.gpus))
        world.node.show("skewscope_gpu_devices", "source=nvml", node, fewer, fault.on)
        if fault.rng.random() < 0.5:
            world.node.show("skewscope_gpu_devices", "source=pci", node, fewer, fault.on)
        area = world.areas["gpu_port"]
        area.grow("skewscope_pcie_aer_errors_total", "role=upstream,severity=fatal", fault.gpus, fault.once())
        world.node.grow("skewscope_nvml_errors_total", "call=device,error=GPU_IS_LOST", node, fault.counts(1.0))
        world.gpu.add("reports", fault.gpus, -1.0 * fault.on)
        fault.halt(world, missing=True)
