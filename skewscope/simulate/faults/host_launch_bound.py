"""Kernels are so short that the GPU waits for the host to launch the next one.

All ranks alike: many small kernels, Python between them, no CUDA graphs. Utilisation stays near 100 % because a
kernel runs in nearly every sample, while SMs, tensor cores and power say that little is done; the launching thread
uses a whole core and no host is under pressure. Source: XPUTimer (issue latency, void share), DPU paper row.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class HostLaunchBound:
    """Kernels are so short that the GPU waits for the host to launch the next one."""

    kind: ClassVar[str] = "job"
    severity: ClassVar[float] = 0.3
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.rank.add("launch_gap", fault.gpus, fault.amount)
        world.rank.add("cpu", fault.gpus, fault.rng.uniform(0.15, 0.4) * fault.envelope)
        world.rank.add("switches_per_s", fault.gpus, 60.0 * fault.envelope)
