"""ZB-H1 and ZB-H2 (Qi and others, ICLR 2024): the gradients of the weights wait, and fill what would be a bubble.

H1 starts with p - 1 - i forward passes on device i and lets W lag i microbatches: activations as 1F1B's first stage, on
all stages. H2 starts with twice as many and lags twice as far: no device idles between its own first and last pass
where all passes are equal, for nearly twice the activations. The makespan still holds the (p - 1) forward passes until
the last device begins, so H2 pays only where the optimizer's step need not be synchronised.
"""

from __future__ import annotations

import numpy as np

from .pipeline_run import Op, Schedule


def h1(devices: int, microbatches: int) -> Schedule:
    """Return ZB-H1.

    >>> [op.kind + str(op.microbatch) for op in h1(2, 2).orders[1]]
    ['F0', 'B0', 'F1', 'B1', 'W0', 'W1']
    """
    return _schedule("zb-h1", devices, microbatches, 1)


def h2(devices: int, microbatches: int) -> Schedule:
    """Return ZB-H2.

    >>> [op.kind + str(op.microbatch) for op in h2(2, 3).orders[0]]
    ['F0', 'F1', 'F2', 'B0', 'W0', 'B1', 'W1', 'B2', 'W2']
    """
    return _schedule("zb-h2", devices, microbatches, 2)


def _schedule(name: str, devices: int, microbatches: int, times: int) -> Schedule:
    orders = []
    for device in range(devices):
        ahead, lag = min(times * (devices - 1 - device), microbatches), times * device
        order = [Op("F", device, at) for at in range(ahead)]
        for at in range(microbatches):
            order += [Op("F", device, at + ahead)] if at + ahead < microbatches else []
            order.append(Op("B", device, at))
            order += [Op("W", device, at - lag)] if at >= lag else []
        order += [Op("W", device, at) for at in range(max(microbatches - lag, 0), microbatches)]
        orders.append(order)
    return Schedule(name, orders, np.arange(devices), microbatches, split=True)
