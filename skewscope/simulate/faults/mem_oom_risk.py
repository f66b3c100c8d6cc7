"""A rank's memory leaks until an allocation fails: the process ends, and its peers wait for it.

Something keeps tensors that nobody needs any more, so that the GPU's memory grows by the same amount with every step.
Nothing is slow until it is full. Source: conditions A13; issues about losses kept with their graph.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..gpu_series import JOB_BYTES_RATIO
from ..injection import Injection
from ..world import WINDOW_S, Stop, World

FULL_RATIO = 0.99  # of the device's memory: where an allocation fails


class MemOomRisk:
    """A rank's memory leaks until an allocation fails."""

    kind: ClassVar[str] = "rank"
    severity: ClassVar[float] = 1.5  # of the device's memory, an hour
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        middle_s = (np.arange(world.windows) + 0.5) * WINDOW_S - fault.onset_s
        grown = fault.severity / 3600.0 * np.maximum(middle_s, 0.0)
        full_s = fault.onset_s + (FULL_RATIO - JOB_BYTES_RATIO) / fault.severity * 3600.0
        ended = np.arange(world.windows) * WINDOW_S > full_s
        ratio = np.minimum(1.0 + grown / JOB_BYTES_RATIO, FULL_RATIO / JOB_BYTES_RATIO)
        world.gpu.scale("memory_ratio", fault.gpus, np.where(ended, 0.0, ratio))
        if fault.job >= 0:
            ranks = tuple(int(one) for one in fault.gpus - world.fleet.jobs[fault.job].first_gpu)
            world.courses[fault.job].halt(Stop(full_s, ranks, "dp", ranks))
