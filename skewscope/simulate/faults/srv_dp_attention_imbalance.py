"""Ranks of a replica that split attention get unequal work, and all wait for the fullest.

Long prompts and answers meet on one rank, as requests are given out in turn. Its part of the tokens grows, and
iterations are longer by what attention takes longer there. Source: conditions page A9, TensorRT-LLM (attention balance
0.54, a third more throughput at 0.88).
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class SrvDpAttentionImbalance:
    """Ranks of a replica that split attention get unequal work, and all wait for the fullest."""

    kind: ClassVar[str] = "replica"
    severity: ClassVar[float] = 0.25
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.rank.add("attention_share", fault.gpus, fault.amount)
