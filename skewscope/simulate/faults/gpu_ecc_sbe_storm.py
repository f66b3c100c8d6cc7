"""A GPU corrects far more single-bit memory errors than usual.

An ageing cell or stack: thousands of corrected errors an hour where peers have a few. The driver may tell of a storm
(XID 92). Correction hardly costs time; rows may be remapped later. Source: NVIDIA XID catalogue; GCM and AzureHPC
limits on volatile counts.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..injection import Injection
from ..world import World


class GpuEccSbeStorm:
    """A GPU corrects far more single-bit memory errors than usual."""

    kind: ClassVar[str] = "gpu"
    severity: ClassVar[float] = 0.01
    shapes: ClassVar[tuple[str, ...]] = ("steady", "ramp")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        rate = np.exp(fault.rng.uniform(np.log(20.0), np.log(3000.0)))
        counts = fault.counts(rate)
        for life in ("volatile", "aggregate"):
            labels = f"severity=corrected,lifetime={life},location=dram"
            world.gpu.grow("skewscope_gpu_ecc_errors_total", labels, fault.gpus, counts)
        if fault.rng.random() < 0.7:
            fault.xid(world, fault.gpu, 92, "High single-bit ECC error rate")
            world.gpu.grow("skewscope_gpu_events_total", "event=sbe_storm", fault.gpus, fault.once())
        world.gpu.scale("speed", fault.gpus, 1.0 / (1.0 + fault.amount))
