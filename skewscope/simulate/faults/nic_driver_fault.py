"""The firmware of an adapter does not answer its driver, or reports trouble.

Commands time out, the health poll fails; then the port is lost and its connections end. The kernel log tells it in
words of the driver. Source: NVSentinel patterns for mlx5 (mlx5_cmd timeout, health poll failed, unrecoverable).
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection, pci_address
from ..world import World

TEXTS = {
    "nic_firmware": (
        "mlx5_cmd_out_err:808:(pid 1234): ACCESS_REG(0x805) op_mod(0x1) failed",
        "wait_func:1158:(pid 1234): MODIFY_QP(0x503) timeout. Will cause a leak of a command resource",
    ),
    "nic_health": (
        "poll_health:801:(pid 0): device's health compromised - reached miss count",
        "mlx5_health_try_recover:335:(pid 77): health recovery flow aborted, PCI reads still not working",
    ),
}


class NicDriverFault:
    """The firmware of an adapter does not answer its driver, or reports trouble."""

    kind: ClassVar[str] = "nic"
    severity: ClassVar[float] = 1.0
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        kind = fault.pick("nic_firmware", "nic_health")
        node, slot = int(world.fleet.node_of(fault.gpu)), fault.gpu % world.fleet.gpus_per_node
        world.node.grow(
            "skewscope_kernel_messages_total", f"category={kind}", node, fault.once(float(fault.rng.integers(1, 5)))
        )
        address = pci_address("nic", slot)
        for after_s, text in enumerate(TEXTS[kind]):
            fault.tell(world, "kernel", -1, f"mlx5_core {address}: {text}", f"mlx5_{slot}", after_s=float(after_s))
        for layer in ("logical", "physical"):
            world.nic.show("skewscope_rdma_port_up", f"layer={layer}", fault.gpus, 0.0, fault.on)
        present = world.fleet.gpus_per_node - 1.0
        if fault.rng.random() < 0.5:
            world.node.show("skewscope_rdma_devices", "source=present", node, present, fault.on)
        fault.halt(world)
