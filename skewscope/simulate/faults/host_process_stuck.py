"""The process of a rank stands in uninterruptible sleep: it never comes to the next collective.

A file system, driver or firmware call does not return. The main thread is in state D; after 120 s the kernel tells of
a blocked task, or of a soft lockup of its core. Peers wait inside the collective. Source: gpud rules for the kernel
log, /proc/PID/stat.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..injection import Injection
from ..world import World


class HostProcessStuck:
    """The process of a rank stands in uninterruptible sleep: it never comes to the next collective."""

    kind: ClassVar[str] = "rank"
    severity: ClassVar[float] = 1.0
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        world.rank.show("skewscope_rank_uninterruptible", "", fault.gpus, 1.0, fault.on)
        node = int(world.fleet.node_of(fault.gpu))
        window = world.window(fault.onset_s + 125.0)
        counts = np.zeros(world.windows)
        counts[window::4] = 1.0
        category = fault.pick("hung_task", "hung_task", "soft_lockup")
        world.node.grow("skewscope_kernel_messages_total", f"category={category}", node, counts)
        if category == "hung_task":
            world.node.grow("skewscope_host_hung_tasks_total", "", node, counts)
            message = "INFO: task python3:31337 blocked for more than 122 seconds."
        else:
            message = "watchdog: BUG: soft lockup - CPU#17 stuck for 134s! [python3:31337]"
        fault.tell(world, "kernel", -1, message, after_s=125.0)
        world.node.show("skewscope_host_tasks", "state=blocked", node, 3.0, fault.on)
        fault.halt(world, missing=True)
