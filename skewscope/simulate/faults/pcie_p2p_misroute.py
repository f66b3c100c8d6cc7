"""GPUDirect traffic of a host goes through its CPUs instead of straight to the adapters.

Access control on the PCIe switches is on, or the peer-memory module is missing: NCCL stages through host memory. All
adapters of the host reach a part of their rate from the start, proxy threads copy, little device memory is mapped for
other devices. No counter of errors moves. Source: gpud (ACS check), nvmlDeviceGetP2PStatus.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class PcieP2pMisroute:
    """GPUDirect traffic of a host goes through its CPUs instead of straight to the adapters."""

    kind: ClassVar[str] = "node"
    severity: ClassVar[float] = 0.55
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = True

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.nic.scale("rate", fault.gpus, 1.0 - fault.amount)
        world.rank.add("cpu", fault.gpus, fault.rng.uniform(0.8, 1.6) * fault.envelope)
        world.gpu.show("skewscope_gpu_bar1_used_bytes", "", fault.gpus, 6.0 * 2.0**20, fault.on)
