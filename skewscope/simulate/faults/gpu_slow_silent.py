"""A GPU computes slowly though every counter says that it is well.

Marginal silicon, memory that repeats accesses, a bad firmware: clocks, temperature and errors are as on the others,
the same kernels take longer. SMs are busy for longer, tensor cores for a smaller part of it. Source: Greyhound
validation (GEMM above 1.1 times the median), PRISM (spread of a fleet).
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class GpuSlowSilent:
    """A GPU computes slowly though every counter says that it is well."""

    kind: ClassVar[str] = "gpu"
    severity: ClassVar[float] = 0.2
    shapes: ClassVar[tuple[str, ...]] = ("steady", "ramp")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.gpu.scale("speed", fault.gpus, 1.0 / (1.0 + fault.amount))
        world.gpu.scale("activity", fault.gpus, 1.0 / (1.0 + fault.amount))
