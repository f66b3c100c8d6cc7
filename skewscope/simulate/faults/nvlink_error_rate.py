"""An NVLink has errors all the time: packets are replayed, the link recovers.

Signal integrity of one link. Which counter is loud depends on the generation: replays, recoveries and CRC errors, or
symbol errors with a bit error ratio. The link's rate suffers while it recovers, so collectives inside the host take
longer for the whole group. Source: NVML fields 206-222; NVRx counts windows with growth.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..injection import Injection
from ..world import World


class NvlinkErrorRate:
    """An NVLink has errors all the time: packets are replayed, the link recovers."""

    kind: ClassVar[str] = "gpu"
    severity: ClassVar[float] = 0.25
    shapes: ClassVar[tuple[str, ...]] = ("steady", "ramp", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.gpu.scale("nvlink_rate", fault.gpus, 1.0 - fault.amount)
        rate = fault.amount * fault.rng.uniform(2.0, 30.0)
        link = int(fault.rng.integers(world.fleet.hardware.nvlinks))
        for error in fault.some(["replay", "recovery", "crc_flit", "crc_data", "symbol"], 2):
            counts = fault.counts(rate)
            world.gpu.grow("skewscope_gpu_nvlink_errors_total", f"error={error}", fault.gpus, counts)
            world.gpu.grow("skewscope_gpu_nvlink_link_errors_total", f"link={link},error={error}", fault.gpus, counts)
        recovered = fault.counts(rate / 20.0)
        world.gpu.grow("skewscope_gpu_nvlink_recovery_events_total", "result=successful", fault.gpus, recovered)
        ratio = 10.0 ** fault.rng.uniform(-7.5, -5.0) * np.ones(world.windows)
        world.gpu.show("skewscope_gpu_nvlink_bit_error_ratio", "kind=symbol", fault.gpus, ratio, fault.on)
        world.gpu.show("skewscope_gpu_nvlink_bit_error_ratio", "kind=effective", fault.gpus, ratio / 20.0, fault.on)
