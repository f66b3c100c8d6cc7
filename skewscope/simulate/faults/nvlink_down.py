"""NVLinks of a GPU are down.

A connector, a tray or a switch port fails; on systems with NVSwitch the fabric manager takes the GPU out and the
program ends (XID 74, or 145-149 on the newest generation, SXid in the kernel log). Links that are inactive and the
speed of all show it. Source: NVML fields 164, 165; health validation of NVIDIA (18 links on H100).
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class NvlinkDown:
    """NVLinks of a GPU are down."""

    kind: ClassVar[str] = "gpu"
    severity: ClassVar[float] = 1.0
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        hardware = world.fleet.hardware
        down = float(fault.rng.integers(1, 1 + hardware.nvlinks // 3))
        links = "skewscope_gpu_nvlink_links"
        world.gpu.show(links, "state=active", fault.gpus, hardware.nvlinks - down, fault.on)
        world.gpu.show(links, "state=inactive", fault.gpus, down, fault.on)
        speed = (hardware.nvlinks - down) * hardware.nvlink_bytes_per_s
        world.gpu.show("skewscope_gpu_nvlink_speed_bytes_per_second", "", fault.gpus, speed, fault.on)
        for error in fault.some(["recovery", "replay", "crc_flit"]):
            world.gpu.grow("skewscope_gpu_nvlink_errors_total", f"error={error}", fault.gpus, fault.once(50.0))
        world.gpu.grow("skewscope_gpu_nvlink_recovery_events_total", "result=failed", fault.gpus, fault.once(down))
        fault.xid(world, fault.gpu, int(fault.pick("74", "74", "145", "149")), "NVLink: fatal error detected on link 4")
        node = int(world.fleet.node_of(fault.gpu))
        if fault.rng.random() < 0.5:
            labels = "category=nvswitch_sxid"
            world.node.grow("skewscope_kernel_messages_total", labels, node, fault.once(2.0))
            fault.tell(
                world, "sxid", 20034, "nvidia-nvswitch0: SXid (PCI:0000:05:00.0): 20034, Fatal, Link 33 LTSSM Fault Up"
            )
        fault.halt(world, group="tp")
