"""A GPU computes wrong numbers and nothing tells.

No counter moves: the error is in the arithmetic. It shows in the loss or the norm of gradients, and in that replicas
of the same work disagree; then the job is rolled back to an older checkpoint. Source: ByteRobust (loss or gradient
norm five times the usual, or NaN).
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class GpuSdcSuspect:
    """A GPU computes wrong numbers and nothing tells."""

    kind: ClassVar[str] = "gpu"
    severity: ClassVar[float] = 0.0
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        rank = world.fleet.rank_of(fault.gpu)
        text = fault.pick("checksum-mismatch", "grad-checksum differs from replicas")
        for after_s in (2.0, 32.0):  # what the training program marks through skewscope.mark
            fault.tell(world, "mark", -1, text, f"rank{rank}", after_s=after_s)
        fault.tell(world, "restart", -1, "rolled back to the last checkpoint whose loss is sound", after_s=60.0)
        if fault.job >= 0:
            world.courses[fault.job].stalls.append((fault.onset_s + 45.0, fault.rng.uniform(90.0, 150.0), "restart"))
