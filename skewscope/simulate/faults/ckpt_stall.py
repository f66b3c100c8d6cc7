"""The file server of the checkpoints is slow: every saving takes several times as long as before.

It is full, rebuilds a disk, or somebody else writes to it. All ranks save in the foreground and wait; nothing is wrong
between savings. Calls take longer, tasks wait for input and output. Source: conditions A10, gpud rules for storage.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..injection import Injection
from ..world import World


class CkptStall:
    """The file server of the checkpoints is slow: every saving takes several times as long as before."""

    kind: ClassVar[str] = "job"
    severity: ClassVar[float] = 0.08  # of the time from one saving to the next
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        plan = world.fleet.jobs[max(fault.job, 0)].plan
        between_s = plan.checkpoint_steps * plan.step_s + plan.checkpoint_s
        share = min(fault.severity, 0.9)
        longer_s = between_s * share / (1.0 - share)
        factor = 1.0 + longer_s / max(plan.checkpoint_s, 1e-9)
        world.rank.scale("checkpoint_factor", fault.gpus, np.where(fault.on, factor, 1.0))
