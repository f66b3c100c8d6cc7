"""What feeds a model's replicas is too slow: requests wait at the gateway while engines idle.

A tokenizer with too few cores, a limit of requests per connection, health checks that take replicas out: the gateway
hands on fewer requests than come, and people who wait for answers ask less. Engines run smaller batches, finish faster
by themselves and have no queue. Source: llm-d's flow control (queue at the gateway), conditions page A9.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class SrvIngressStarvation:
    """What feeds a model's replicas is too slow: requests wait at the gateway while engines idle."""

    kind: ClassVar[str] = "job"
    severity: ClassVar[float] = 0.3
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.rank.add("gate_share", fault.gpus, fault.amount)
