"""A GPU's clocks are locked below what it could run.

A benchmark or an admin left `nvidia-smi -lgc` or application clocks behind. The SM clock never exceeds the lock,
whatever the load; the driver's reason is app_clocks; power and temperature are lower than the peers'. Source: NVML
reasons 0x2 and 0x10; Greyhound injects slow GPUs this way.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..physics import clock_for
from ..world import WINDOW_S, World


class GpuClockPinnedLow:
    """A GPU's clocks are locked below what it could run."""

    kind: ClassVar[str] = "gpu"
    severity: ClassVar[float] = 0.2
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.gpu.scale("clock_cap", fault.gpus, clock_for(fault.amount))
        metric = "skewscope_gpu_clock_event_observed_seconds_total"
        world.gpu.grow(metric, "reason=app_clocks", fault.gpus, fault.envelope * WINDOW_S)
        world.gpu.show("skewscope_gpu_clock_event_active", "reason=app_clocks", fault.gpus, 1.0, fault.on)
