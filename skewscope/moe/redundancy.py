"""How many redundant experts: balance against the memory they take on every GPU.

The first slot more per GPU takes the replication limit away; later ones give freedom to packing and to a free split of
tokens, at the full price in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bounds import bounds
from .placement import balancedness, start_layout
from .planner import plan

GIB = float(1 << 30)


@dataclass(frozen=True)
class Redundancy:
    """One number of slots: means over layers of the start-up layout, the bound, a plan and the plan on later loads.

    `gpu_gib` is the memory that redundant experts take on each GPU; `later_balance` is NaN without later loads.
    """

    slots: int
    gpu_gib: float
    start_balance: float
    bound_balance: float
    plan_balance: float
    later_balance: float


def redundancy(counts: NDArray[Any], gpus: int, more: Sequence[int], expert_bytes: float,
               later: NDArray[Any] | None = None) -> list[Redundancy]:  # fmt: skip
    """Return what each number of redundant slots per GPU brings: tokens [L, E] or [T, L, E], bytes of one expert.

    `more` are slots per GPU beyond the fewest that hold all experts; numbers that leave no second slot to any expert
    are as good as none. `later` are loads that the plans are scored on.

    >>> first, second = redundancy(np.array([[6, 2, 2, 2]]), 2, [0, 1], expert_bytes=float(1 << 30))
    >>> first.plan_balance, second.plan_balance, second.gpu_gib
    (0.75, 1.0, 1.0)
    """
    steps = np.asarray(counts)
    total = steps if steps.ndim == 2 else steps.sum(0)
    after = None if later is None else np.asarray(later)
    after = after.sum(0) if after is not None and after.ndim == 3 else after
    layers, experts = total.shape
    found = []
    for extra in more:
        slots = (-(-experts // gpus) + extra) * gpus
        made = plan(steps, slots=slots, gpus=gpus)
        start = balancedness(start_layout(experts, slots, gpus, layers).gpu_loads(total))
        held = np.nan if after is None else float(balancedness(made.placement.gpu_loads(after)).mean())
        limit = float(bounds(total, slots, gpus).balance.mean())
        found.append(Redundancy(slots, (slots - experts) / gpus * layers * expert_bytes / GIB, float(start.mean()),
                                limit, float(made.after.mean()), held))  # fmt: skip
    return found
