"""Segments on the way to a host of engines are lost and sent again: its requests arrive late.

Its interface or its sockets drop what arrives, or the wire loses it; the peers send again after a timeout, and what
they sent for nothing arrives twice. In some cases the answers are lost as well. Engines notice nothing, the gateway
waits for first tokens. Source: conditions page A13, DPU paper (ingress drops and retransmissions).
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class SrvIngressLoss:
    """Segments on the way to a host of engines are lost and sent again: its requests arrive late."""

    kind: ClassVar[str] = "node"
    severity: ClassVar[float] = 0.25
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.rank.add("ingress_share", fault.gpus, fault.amount)
        node = int(world.fleet.node_of(fault.gpu))
        ratio = fault.rng.uniform(0.004, 0.02) * fault.envelope
        loud = fault.some(("dropped_in", "resent_in", "resent_out"))
        for name in loud if loud != ["resent_out"] else ("resent_in", "resent_out"):
            world.node.add(name, node, ratio)
