"""Hardware slows a GPU down: it is too hot, or the power supply brakes.

Heat: a fan, pump or cold plate fails, the temperature climbs to the limit, the driver lowers clocks in software first
and the hardware halves them then. Brake: the power supply of the host, or of its rack, asserts a signal and the
hardware halves the clocks at once, at normal temperatures. The nanosecond counters of the driver tell how long.
Source: NVML clocks event reasons; conditions page, part E.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..injection import Injection
from ..physics import throttled_share
from ..world import WINDOW_S, World


class GpuHwSlowdown:
    """Hardware slows a GPU down: it is too hot, or the power supply brakes."""

    kind: ClassVar[str] = "gpu"
    severity: ClassVar[float] = 0.3
    shapes: ClassVar[tuple[str, ...]] = ("steady", "ramp", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        share = np.minimum(throttled_share(fault.amount, 0.5), 1.0)
        if len(fault.gpus) > 1 or fault.rng.random() < 0.35:
            world.gpu.add("hw_power_brake", fault.gpus, share)
        else:
            world.gpu.add("hw_thermal", fault.gpus, share)
            world.gpu.add("sw_thermal", fault.gpus, np.minimum(share * fault.rng.uniform(0.1, 0.8), 1.0 - share))
            world.gpu.add("heat", fault.gpus, 40.0 * (fault.envelope > 0))  # the limit holds it below
        seconds = share * WINDOW_S
        metric = "skewscope_gpu_clock_event_observed_seconds_total"
        world.gpu.grow(metric, "reason=hw_slowdown", fault.gpus, seconds)
