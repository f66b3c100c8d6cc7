"""Another process uses a job's GPU: it holds memory and takes time of the SMs.

A leftover of the last job, or somebody who found the GPU by its number. The driver shares the GPU in time, so the
rank's kernels take longer by the stranger's share; utilisation and clocks look well. Memory in use and processes
exceed those of the peers. Source: GCM checks, nvmlDeviceGetComputeRunningProcesses.
"""

from __future__ import annotations

from typing import ClassVar

from ..fleet import GIB
from ..injection import Injection
from ..world import World


class GpuSquatter:
    """Another process uses a job's GPU: it holds memory and takes time of the SMs."""

    kind: ClassVar[str] = "gpu"
    severity: ClassVar[float] = 0.2
    shapes: ClassVar[tuple[str, ...]] = ("steady", "bursts")
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        share = fault.amount / (1.0 + fault.amount)
        world.gpu.add("foreign", fault.gpus, share)
        held = fault.rng.uniform(2, 12) * GIB
        world.gpu.show("skewscope_gpu_foreign_processes", "", fault.gpus, float(fault.rng.integers(1, 4)), fault.on)
        world.gpu.add("foreign_memory_bytes", fault.gpus, held * (fault.envelope > 0))
