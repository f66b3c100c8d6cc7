"""ZB-V (Qi and others, NeurIPS 2024): two chunks per device, down the devices and back up, and W taken apart.

The first and the last stage share device 0, so the first backward starts where its forward ended. The order is not the
authors': it comes from list scheduling, where each free device takes the first of (B, F, W) that can start, older
microbatches and later chunks first, and never holds more than p microbatches. The last device cannot begin before
(p - 1) tf / 2, so with equal passes no order ends before m (tf + tb) + (p - 1) tf / 2; this one ends there or one pass
later. The published bubble of 0 counts each device's own span.
"""

from __future__ import annotations

import numpy as np

from . import schedule_listed
from .pipeline_run import Schedule
from .schedule_listed import Placed


def schedule(devices: int, microbatches: int, forward: float = 1.0, backward: float = 2.0) -> Schedule:
    """Return the order for a device's usual times `forward` and `backward` (any unit); W is half of the backward.

    >>> from .pipeline_run import even, run
    >>> made = schedule(4, 16)
    >>> run(made, even(8, 16, 0.5, 1.0)).makespan_s, made.peaks().tolist()
    (49.5, [4.0, 4.0, 4.0, 4.0])
    """
    down = np.arange(devices)
    placed = Placed("zb-v", np.concatenate([down, down[::-1]]), microbatches, 2 * devices)
    return schedule_listed.schedule(placed, {"F": forward / 2, "B": backward / 4, "W": backward / 4})
