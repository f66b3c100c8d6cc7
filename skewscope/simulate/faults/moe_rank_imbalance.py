"""The experts of one rank together get more tokens than those of any other, though none of them is hot by itself.

Experts that are somewhat popular came to lie side by side: moving them apart evens the load, no replica is needed. All
data-parallel copies of that rank compute longer, on different hosts. Source: EPLB and SGLang's balancedness,
conditions page A8.
"""

from __future__ import annotations

from typing import ClassVar

from .. import routing
from ..injection import Injection
from ..world import World


class MoeRankImbalance:
    """The experts of one rank together get more tokens than those of any other."""

    kind: ClassVar[str] = "job"
    severity: ClassVar[float] = 0.4  # more load than the mean on the rank
    shapes: ClassVar[tuple[str, ...]] = ("steady", "ramp")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        router = routing.of_job(world, fault.job, fault.condition)
        before = router.ranks()
        held = router.of_rank(int(fault.rng.integers(router.plan.ep)))
        router.heat(held, routing.needed(len(held), router.experts, 1.0 + fault.amount))
        routing.put(world, fault.job, before)
