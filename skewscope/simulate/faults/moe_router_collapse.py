"""The router forgets a part of the experts: they get no tokens any more, others more than they can take.

The weight of the balancing loss is too small, or the learning rate too high. Ranks stay even, so nothing is slow; what
goes beyond the capacity of the busy experts is dropped, and the dead ones learn nothing. Source: Switch and GShard on
dropped tokens, the loss-free balancing paper, conditions page A8.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .. import routing
from ..injection import Injection
from ..world import World

STARVED = 1e-6  # of the usual popularity


class MoeRouterCollapse:
    """The router forgets a part of the experts: they get no tokens any more."""

    kind: ClassVar[str] = "job"
    severity: ClassVar[float] = 0.25  # of the experts
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state; on each rank the same number of experts dies and one is favoured."""
        router = routing.of_job(world, fault.job, fault.condition)
        dying = max(1, min(routing.EXPERTS_PER_RANK - 2, round(fault.severity * routing.EXPERTS_PER_RANK)))
        held = np.arange(router.experts).reshape(router.plan.ep, routing.EXPERTS_PER_RANK)
        before = router.ranks()
        router.heat(held[:, :dying].ravel(), np.where(fault.on, STARVED, 1.0))
        router.heat(held[:, dying], np.where(fault.on, 4.0, 1.0))
        router.drops = True
        # Noise of popularity apart, the ranks stay even.
        router.logits[fault.on] -= np.log(router.ranks() / before)[fault.on].repeat(routing.EXPERTS_PER_RANK, -1)[
            :, None
        ]
        routing.put(world, fault.job, before)
