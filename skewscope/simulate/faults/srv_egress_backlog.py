"""Answers wait in the send queues of a host of engines: its way out is slower than they are.

A shaper, a proxy on one processor or a full queue of the interface. Tokens are made as fast as ever and leave later;
by Little's law the bytes that wait are those that leave in the time that each waits. Nothing is lost. Source:
conditions page A13, DPU paper (egress backlog).
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class SrvEgressBacklog:
    """Answers wait in the send queues of a host of engines: its way out is slower than they are."""

    kind: ClassVar[str] = "node"
    severity: ClassVar[float] = 0.25
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.rank.add("backlog_share", fault.gpus, fault.amount)
