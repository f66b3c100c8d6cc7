"""Hosts of a job are taken away and come back, one after the other: each time the job stops and begins anew.

Spot capacity, or preemption by work that counts more. The ranks of a host end; the others find new peers, load the last
checkpoint and wait until somebody takes the place. `severity` is the share of the time that is lost so. Source: PCCL
(peers that come and go), torchrun's elastic agent, conditions page A13.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..injection import Injection
from ..world import WINDOW_S, World


class PeerChurn:
    """Hosts of a job are taken away and come back, one after the other: each time it stops and begins anew."""

    kind: ClassVar[str] = "job"
    severity: ClassVar[float] = 0.25
    shapes: ClassVar[tuple[str, ...]] = ("steady",)
    from_start: ClassVar[bool] = False
    by_clock: ClassVar[bool] = True  # its price lies between steps

    def inject(self, world: World, fault: Injection) -> None:
        """Change the ground state."""
        hosts = world.fleet.node_of(fault.gpus)
        order = fault.rng.permutation(np.unique(hosts))
        when, turn = fault.onset_s, 0
        while when < min(fault.end_s, world.windows * WINDOW_S):
            length = float(fault.rng.uniform(70.0, 90.0))
            those = tuple(np.flatnonzero(hosts == order[turn % len(order)]).tolist())
            world.courses[fault.job].away.append((when, when + length, those))
            world.courses[fault.job].stalls.append((when, length, "restart"))
            when += length / max(fault.severity, 0.01) * float(fault.rng.uniform(0.9, 1.1))
            turn += 1
