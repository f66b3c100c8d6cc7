"""Another program takes the cores of a host: threads of ranks wait for a CPU.

The threads that launch kernels and the NCCL proxies are ready but do not run, so all ranks of the host, or those on
one socket, launch late. Run delay and involuntary switches rise, the host is under pressure; the GPUs are well and
idle between kernels. Source: Greyhound (4 of 6 slow computations were CPU contention); telemetry:
/proc/PID/schedstat, PSI.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import World


class HostCpuContention:
    """Another program takes the cores of a host: threads of ranks wait for a CPU."""

    kind: ClassVar[str] = "node"
    severity: ClassVar[float] = 0.18
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        socket = fault.gpus[: max(1, len(fault.gpus) // 2)] if fault.rng.random() < 0.4 else fault.gpus
        world.rank.add("host_share", socket, fault.amount)
        world.rank.add("run_delay", socket, fault.amount * fault.rng.uniform(1.5, 4.0))  # many threads wait
        world.rank.add("switches_per_s", socket, 900.0 * fault.envelope)
        world.rank.add("cpu", socket, -0.3 * fault.amount)
        node = int(world.fleet.node_of(fault.gpu))
        world.node.add("cpu_load", node, fault.rng.uniform(0.55, 0.8) * fault.envelope)
        world.node.add("pressure", node, fault.rng.uniform(0.25, 0.6) * fault.envelope)
