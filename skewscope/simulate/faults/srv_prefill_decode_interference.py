"""Long prompts that are read between tokens stall the answers of a replica.

Prompts became longer, in waves, and are read in one piece: all answers under way wait for them. A few tokens in a
hundred come very late, the others as before, and the time between tokens follows the prompts that come. Nobody is put
back. Source: NanoFlow and BatchLLM, chunked prefill; conditions page A13.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class SrvPrefillDecodeInterference:
    """Long prompts that are read between tokens stall the answers of a replica."""

    kind: ClassVar[str] = "replica"
    severity: ClassVar[float] = 0.22
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.rank.add("stall_share", fault.gpus, fault.amount)
