"""A connection is torn down because its retries ran out.

The other end or the path is dead: after seven retries the queue pair goes into error and the collective never ends.
The adapter that gave up counts it; the fault may be elsewhere. Source: mlx5 req_transport_retries_exceeded, NCCL's IB
timeout and retry count.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class RdmaRetryExhausted:
    """A connection is torn down because its retries ran out."""

    kind: ClassVar[str] = "nic"
    severity: ClassVar[float] = 1.0
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        cause = fault.pick("transport", "transport", "rnr")
        count = float(fault.rng.integers(1, 9))
        world.nic.grow("skewscope_rdma_retries_exceeded_total", f"cause={cause}", fault.gpus, fault.once(count))
        again = "rnr" if cause == "rnr" else "ack_timeout"
        world.nic.grow("skewscope_rdma_retransmissions_total", f"cause={again}", fault.gpus, fault.once(7 * count))
        slot = fault.gpu % world.fleet.gpus_per_node
        text = "NET/IB: Got completion from peer with status=12 opcode=0 len=0 vendor err 129 (Send)"
        fault.tell(world, "nccl", 12, text, f"mlx5_{slot}")
        fault.halt(world)
