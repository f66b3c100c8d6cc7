"""A scheduler of a replica pushes running requests out for others again and again.

A fairness policy with too short a turn, or priorities without a margin: more than a fifth of the requests is put back
once, though the KV cache has room. Their keys and values are computed or copied twice, so tokens come late. Source:
FastSwitch, conditions page A13.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class SrvPreemptThrash:
    """A scheduler of a replica pushes running requests out for others again and again."""

    kind: ClassVar[str] = "replica"
    severity: ClassVar[float] = 0.2
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.rank.add("switch_share", fault.gpus, fault.amount)
