"""A port of an adapter goes down and stays down.

A cable, an optic or a switch port. State and carrier say so, one event of the link is counted, and the connections
over it end: the job stands still unless the library fails over. Source: gpud (drop), NVSentinel;
/sys/class/infiniband.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection, pci_address
from ..world import World


class NicLinkDown:
    """A port of an adapter goes down and stays down."""

    kind: ClassVar[str] = "nic"
    severity: ClassVar[float] = 1.0
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        for layer in ("logical", "physical"):
            world.nic.show("skewscope_rdma_port_up", f"layer={layer}", fault.gpus, 0.0, fault.on)
            world.areas["netdev"].show("skewscope_ethernet_up", f"layer={layer}", fault.gpus, 0.0, fault.on)
        world.nic.grow("skewscope_rdma_link_events_total", "event=downed", fault.gpus, fault.once())
        world.nic.grow("skewscope_nic_errors_total", "error=link_down", fault.gpus, fault.once())
        world.areas["netdev"].grow("skewscope_nic_carrier_changes_total", "", fault.gpus, fault.once())
        slot = fault.gpu % world.fleet.gpus_per_node
        fault.tell(world, "link-down", -1, f"mlx5_core {pci_address('nic', slot)}: Link down", f"mlx5_{slot}")
        if fault.rng.random() < 0.5:
            metric = "skewscope_rdma_retries_exceeded_total"
            world.nic.grow(metric, "cause=transport", fault.gpus, fault.once(float(fault.rng.integers(1, 5))))
        fault.halt(world)
