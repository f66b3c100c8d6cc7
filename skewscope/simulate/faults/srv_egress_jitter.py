"""Tokens leave a host of engines by fits and starts, though its GPUs make them evenly.

Its interface drops part of what it should send, or the wire does; a stream stands still until a token was sent again
and goes on at its pace. A few tokens in a hundred come late, most of the lost time is theirs. Source: conditions page
A10, DPU paper (egress jitter).
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class SrvEgressJitter:
    """Tokens leave a host of engines by fits and starts, though its GPUs make them evenly."""

    kind: ClassVar[str] = "node"
    severity: ClassVar[float] = 0.25
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.rank.add("jitter_share", fault.gpus, fault.amount)
        node = int(world.fleet.node_of(fault.gpu))
        ratio = fault.rng.uniform(0.004, 0.02) * fault.envelope
        world.node.add("dropped_out", node, ratio)
        world.node.add("resent_out", node, ratio * fault.rng.uniform(1.0, 1.3))
