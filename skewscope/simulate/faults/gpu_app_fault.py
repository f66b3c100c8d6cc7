"""The program of a job makes a GPU fault: illegal access or exception in a kernel.

A wrong pointer or shape: XID 31 (page fault) or 13 (exception), 43 or 45 as the channel is torn down. The job
restarts from its checkpoint after some minutes and meets it again. On always the same GPU it may be hardware, over
several GPUs it is the program. Source: NVSentinel bursts, NVIDIA XID catalogue.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..injection import Injection, pci_address
from ..world import WINDOW_S, Event, World


class GpuAppFault:
    """The program of a job makes a GPU fault: illegal access or exception in a kernel."""

    kind: ClassVar[str] = "rank"
    severity: ClassVar[float] = 0.0
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        job = world.fleet.jobs[max(fault.job, 0)]
        same = fault.rng.random() < 0.4
        code = int(fault.pick("31", "13"))
        times = int(fault.rng.integers(2, 4))
        left = world.windows - fault.onset_window
        for number in range(times):
            window = fault.onset_window + int(number * min(left, 24) / times)
            gpu = fault.gpu if same else int(fault.rng.integers(job.gpus.start, job.gpus.stop))
            counts = np.zeros(world.windows)
            counts[window] = 1.0
            when = max(fault.onset_s, window * WINDOW_S)
            slot, node = gpu % world.fleet.gpus_per_node, int(world.fleet.node_of(gpu))
            for xid in (code, 43):
                for source in ("nvml", "kmsg"):
                    world.gpu.grow("skewscope_gpu_xid_errors_total", f"xid={xid},source={source}", gpu, counts)
                text = f"NVRM: Xid (PCI:{pci_address('gpu', slot)[:-2]}): {xid}, pid=31337, name=python3, Ch 00000010"
                world.events.append(Event(when, node, f"gpu{slot}", "xid", xid, text))
            if fault.job >= 0:
                world.courses[fault.job].stalls.append((when, fault.rng.uniform(60.0, 120.0), "restart"))
