"""Who stands in which group when a job has stopped."""

from __future__ import annotations

import numpy as np

from .noise import Array
from .training import Run


def standing(run: Run, group: str) -> Array:
    """Return 1.0 for ranks [ranks] that wait in a call of this group since the job stopped, 0.0 for all if it runs on.

    Who is near the fault waits in the first group that cannot go on, everybody else at the last meeting of the step.
    """
    stop, ranks, groups = run.stop, run.layout.plan.ranks, run.layout.groups
    found = np.zeros(ranks)
    if stop is None or not groups:
        return found
    first = groups[0] if stop.absent or stop.group not in groups else stop.group
    near = {one for rank in (stop.absent or stop.members) for one in run.layout.members(first, rank)}
    last = "dp" if "dp" in groups else groups[-1]
    if group == first:
        found[list(near)] = 1.0
    if group == last:
        found[[rank for rank in range(ranks) if first == last or rank not in near]] = 1.0
    found[list(stop.absent)] = 0.0
    return found
