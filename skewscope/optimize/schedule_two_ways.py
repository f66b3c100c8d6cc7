"""Chimera (Li and Hoefler, SC 2021) and BitPipe (2024): two pipelines in opposite directions, and the weights twice.

Even microbatches run down the devices, odd ones up, so each device holds a stage of either. BitPipe's pipelines are Vs
of two chunks per device each. The orders are not the authors': they are our orders on their placements, by list
scheduling, with 1F1B's activations of p microbatches at most. They give the published bubbles where passes are equal,
the devices even in number and the microbatches a multiple of them; a backward of twice the forward, or an odd number of
devices, gives more. The exchange of gradients between the two copies of the weights is not in the makespan.
"""

from __future__ import annotations

import numpy as np

from . import schedule_listed
from .pipeline_run import Schedule
from .schedule_listed import Placed


def chimera(devices: int, microbatches: int, forward: float = 1.0, backward: float = 2.0) -> Schedule:
    """Return our order on Chimera's placement, for a device's usual times (any unit).

    >>> [op.kind + str(op.microbatch) for op in chimera(2, 2, 1.0, 1.0).orders[0]]
    ['F0', 'F1', 'B1', 'B0']
    """
    down = np.arange(devices)
    placed = Placed("chimera", np.concatenate([down, down[::-1]]), microbatches, devices, paths=2)
    return schedule_listed.shortest(placed, forward, backward)


def bitpipe(devices: int, microbatches: int, forward: float = 1.0, backward: float = 2.0) -> Schedule:
    """Return our order on BitPipe's placement, for a device's usual times (any unit).

    >>> bitpipe(2, 2).device_of.tolist()
    [0, 1, 1, 0, 1, 0, 0, 1]
    """
    down = np.arange(devices)
    up = down[::-1]
    placed = Placed("bitpipe", np.concatenate([down, up, up, down]), microbatches, 2 * devices, paths=2)
    return schedule_listed.shortest(placed, forward, backward)
