"""A host breaks a good part of the jobs that it is given, and is given the next one.

Marginal memory or a weak link: it runs for hours, then a job ends on it, the host is rebooted and returns to the pool.
The accounting of the days before shows it (`severity` is the share of attempts that it breaks; the scenario says how
many days); in the run itself there is nothing but an old count of corrected errors. Source: Meta's reliability study of
research clusters (HPCA'25, lemon nodes), NVSentinel's limits of repairs, conditions page A10.
"""

from __future__ import annotations

from typing import ClassVar

from ..injection import Injection
from ..world import Event, World

DAY_S = 86_400.0


class SchedLemonNode:
    """A host breaks a good part of the jobs that it is given, and is given the next one."""

    kind: ClassVar[str] = "node"
    severity: ClassVar[float] = 0.6
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = True

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        node = int(world.fleet.node_of(fault.gpu))
        world.failing[node] = min(fault.severity, 0.95)
        labels = "severity=corrected,lifetime=aggregate,location=dram"
        world.gpu.grow("skewscope_gpu_ecc_errors_total", labels, fault.gpu, fault.once(2.0))
        for at in range(int(world.scenario.fleet.history_days * fault.severity)):
            world.events.append(Event(-(at + fault.rng.uniform(0.1, 0.9)) * DAY_S, node, "", "drain"))
