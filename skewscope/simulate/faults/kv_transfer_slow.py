"""The KV cache of requests comes slowly from where the prompt was read to a replica that answers.

Transfers fell back to a slow path or come in many small pieces: the bytes are as before, their time grows, and the
first token is later by it. Queue, prompt and tokens are as before. Source: vLLM's NIXL connector and its metrics,
conditions page A9.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class KvTransferSlow:
    """The KV cache of requests comes slowly from where the prompt was read to a replica that answers."""

    kind: ClassVar[str] = "replica"
    severity: ClassVar[float] = 0.18
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.rank.add("transfer_share", fault.gpus, fault.amount)
