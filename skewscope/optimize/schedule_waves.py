"""Hanayo (Liu and others, SC 2023): W waves, so that each device holds 2W chunks in zigzag order; no copy of weights.

Virtual stages run down the devices and back up, W times. The order is not the authors': it is our order on their
placement, by list scheduling, with 1F1B's activations of p microbatches at most. With equal passes, and microbatches a
multiple of the devices, its bubble is (p - 1) tf / W. With tb = 2 tf and m = p its share of the makespan is below the
published formula and its share of the work above it, so the formula does not tell which of the two it means.
"""

from __future__ import annotations

import numpy as np

from . import schedule_listed
from .pipeline_run import Schedule
from .schedule_listed import Placed


def schedule(devices: int, microbatches: int, forward: float = 1.0, backward: float = 2.0, waves: int = 2) -> Schedule:
    """Return our order for a device's usual times `forward` and `backward` (any unit).

    >>> schedule(2, 2).device_of.tolist()
    [0, 1, 1, 0, 0, 1, 1, 0]
    """
    down = np.arange(devices)
    device_of = np.tile(np.concatenate([down, down[::-1]]), waves)
    placed = Placed("hanayo", device_of, microbatches, devices * 2 * waves)
    return schedule_listed.shortest(placed, forward, backward)
