"""A PCIe link sends packets again and again because bits are wrong.

Signal integrity: bad packets are refused and replayed, the link retrains now and then. Which counter is loud differs:
replays and NAKs at the GPU, correctable errors at the endpoint or only at the bridge above it. A little rate is lost,
more while it retrains. Source: NVML fields 94, 169, 173-183; Linux AER statistics.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class PcieErrorReplay:
    """A PCIe link sends packets again and again because bits are wrong."""

    kind: ClassVar[str] = "gpu"
    severity: ClassVar[float] = 0.12
    shapes: ClassVar[tuple[str, ...]] = ("steady", "ramp", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.gpu.scale("pcie_rate", fault.gpus, 1.0 - fault.amount)
        rate = fault.amount * fault.rng.uniform(8.0, 60.0)
        world.gpu.grow("skewscope_gpu_pcie_replays_total", "", fault.gpus, fault.counts(rate))
        world.gpu.grow("skewscope_gpu_pcie_recovery_entries_total", "", fault.gpus, fault.counts(rate / 40.0))
        for error in fault.some(["bad_tlp", "bad_dllp", "naks_sent", "naks_received", "receiver", "lcrc"], 2):
            world.gpu.grow("skewscope_gpu_pcie_errors_total", f"error={error}", fault.gpus, fault.counts(rate * 0.7))
        world.gpu.grow("skewscope_gpu_pcie_errors_total", "error=correctable", fault.gpus, fault.counts(rate))
        area, role = ("gpu_link", "endpoint") if fault.rng.random() < 0.5 else ("gpu_port", "upstream")
        labels = f"role={role},severity=correctable"
        world.areas[area].grow("skewscope_pcie_aer_errors_total", labels, fault.gpus, fault.counts(rate))
