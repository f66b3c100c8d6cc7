"""A rank's memory is nearly full while the others have room, and its allocator has to ask the driver again and again.

Its part of the model or of the data is larger: an uneven stage, hot experts, long sequences. Cached blocks are given
back and asked for anew, each time waiting for the GPU, so that the rank launches late. Source: conditions A13 (ZeRO,
PipeOffload), PyTorch's notes on num_alloc_retries.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World

FULL_RATIO = (1.27, 1.30)  # of the usual memory of a rank, which leaves 1 to 3 % of the device free


class MemSkew:
    """A rank's memory is nearly full while the others have room, and its allocator asks again and again."""

    kind: ClassVar[str] = "rank"
    severity: ClassVar[float] = 0.12
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        more = fault.rng.uniform(*FULL_RATIO) - 1.0
        world.gpu.scale("memory_ratio", fault.gpus, 1.0 + more * fault.on)
        world.rank.add("host_share", fault.gpus, fault.amount)
