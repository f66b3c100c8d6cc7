"""One GPU has a lower power limit than its peers.

Somebody lowered its limit, or a policy did for its slot. Under load it reaches the limit earlier, so the driver holds
its clock lower and for more of the time; power is flat at the lower limit. That all GPUs are capped at full load is
normal. Source: NVML limits, sw_power_cap counter.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..injection import Injection
from ..own_work import LIMIT_EXPONENT
from ..physics import clock_for
from ..world import World


class GpuPowerCap:
    """One GPU has a lower power limit than its peers."""

    kind: ClassVar[str] = "gpu"
    severity: ClassVar[float] = 0.15
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        limit = clock_for(fault.amount) ** (1.0 / LIMIT_EXPONENT)
        world.gpu.scale("limit", fault.gpus, limit)
        metric = "skewscope_gpu_power_limit_watts"
        for kind in ("enforced", "requested"):
            watts = np.round(world.fleet.hardware.limit_watts * limit)
            world.gpu.show(metric, f"kind={kind}", fault.gpus, watts, fault.on)
