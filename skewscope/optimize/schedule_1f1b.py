"""1F1B (PipeDream-Flush; Narayanan and others, ICML 2021): one forward, one backward, after a warm-up.

Device i starts with p - 1 - i forward passes, so it holds p - i microbatches at most, however many there are.
"""

from __future__ import annotations

import numpy as np

from .pipeline_run import Op, Schedule


def schedule(devices: int, microbatches: int) -> Schedule:
    """Return the order; with fewer microbatches than the warm-up, all forward passes come first.

    >>> [op.kind + str(op.microbatch) for op in schedule(3, 3).orders[1]]
    ['F0', 'F1', 'B0', 'F2', 'B1', 'B2']
    """
    orders = []
    for device in range(devices):
        ahead = min(devices - 1 - device, microbatches)
        order = [Op("F", device, at) for at in range(ahead)]
        for at in range(microbatches):
            order += [Op("F", device, at + ahead)] if at + ahead < microbatches else []
            order.append(Op("B", device, at))
        orders.append(order)
    return Schedule("1f1b", orders, np.arange(devices), microbatches)
