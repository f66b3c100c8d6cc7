"""GPipe (Huang and others, NeurIPS 2019): all forward passes, then all backward passes; holds every microbatch."""

from __future__ import annotations

import numpy as np

from .pipeline_run import Op, Schedule


def schedule(devices: int, microbatches: int) -> Schedule:
    """Return the order: forward in turn, backward in turn.

    >>> [op.kind + str(op.microbatch) for op in schedule(2, 2).orders[0]]
    ['F0', 'F1', 'B0', 'B1']
    """
    orders = [[Op(kind, device, at) for kind in "FB" for at in range(microbatches)] for device in range(devices)]
    return Schedule("gpipe", orders, np.arange(devices), microbatches)
