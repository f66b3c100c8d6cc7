"""One expert of every layer gets several times the tokens of the others; the rank that holds them computes longer.

The traffic moved to another domain, or the router prefers it: the busiest expert alone is more than a rank's fair
share, so that no other placement helps, only a second replica. Source: vLLM and SGLang's load balancers, conditions
page A8; DeepSeek-R1's table of TensorRT-LLM has layers with twenty times the mean.
"""

from __future__ import annotations

from typing import ClassVar

from .. import routing
from ..injection import Injection
from ..world import World


class MoeHotExpert:
    """One expert of every layer gets several times the tokens of the others."""

    kind: ClassVar[str] = "job"
    severity: ClassVar[float] = 0.9  # more load than the mean on the rank that holds it
    shapes: ClassVar[tuple[str, ...]] = ("steady", "ramp")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        router = routing.of_job(world, fault.job, fault.condition)
        before = router.ranks()
        held = router.of_rank(int(fault.rng.integers(router.plan.ep)))
        router.heat(held[[int(fault.rng.integers(len(held)))]], routing.needed(1, router.experts, 1.0 + fault.amount))
        routing.put(world, fault.job, before)
