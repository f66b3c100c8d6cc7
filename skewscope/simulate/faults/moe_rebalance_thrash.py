"""Experts are moved between ranks again and again, though their loads hardly changed: each time all ranks stand still.

The interval is short and the transfer synchronous; balance after a move is what it was before. Source: SGLang #8345 and
#7879 (second-level stalls), vLLM #47206 (16 to 21 s) and #50647, conditions page A8.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .. import routing
from ..injection import Injection
from ..world import World

INTERVAL_S = 120.0


class MoeRebalanceThrash:
    """Experts are moved between ranks again and again, though their loads hardly changed."""

    kind: ClassVar[str] = "job"
    severity: ClassVar[float] = 0.05  # of the time
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        router = routing.of_job(world, fault.job, fault.condition)
        end_s = min(fault.end_s, world.windows * 30.0)
        for after_s in np.arange(5.0, end_s - fault.onset_s, INTERVAL_S).tolist():
            length_s = fault.severity * INTERVAL_S * float(fault.rng.uniform(0.9, 1.1))
            router.moves.append((fault.onset_s + after_s, length_s))
            world.courses[fault.job].stalls.append((fault.onset_s + after_s, length_s, "transfer"))
            fault.tell(world, "moe-rebalance", -1, f"experts moved in {length_s:.2f} s", after_s=after_s + length_s)
