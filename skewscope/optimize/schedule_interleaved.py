"""Interleaved 1F1B (Narayanan and others, SC 2021): v chunks of layers per device, the bubble v times as small.

Costs v times the traffic between stages, and more activations. Virtual stage s sits on device s mod p; the microbatches
must be a multiple of the devices.
"""

from __future__ import annotations

import numpy as np

from ..errors import UsageError
from .pipeline_run import Op, Schedule


def schedule(devices: int, microbatches: int, chunks: int = 2) -> Schedule:
    """Return the order; raises UsageError where the microbatches are no multiple of the devices.

    >>> [f"{op.kind}{op.stage}.{op.microbatch}" for op in schedule(2, 2).orders[1]]
    ['F1.0', 'F1.1', 'F3.0', 'B3.0', 'F3.1', 'B3.1', 'B1.0', 'B1.1']
    """
    if microbatches % devices:
        raise UsageError(f"interleaved: {microbatches} microbatches are no multiple of {devices} devices")
    total = microbatches * chunks
    orders = []
    for device in range(devices):
        ahead = min(total, 2 * (devices - device - 1) + (chunks - 1) * devices)
        forward = [_turn(turn, devices, chunks) for turn in range(total)]
        passes = [Op("F", chunk * devices + device, at) for chunk, at in forward]
        back = [Op("B", (chunks - 1 - chunk) * devices + device, at) for chunk, at in forward]
        order = passes[:ahead]
        for turn in range(total):
            order += [*passes[ahead + turn : ahead + turn + 1], back[turn]]
        orders.append(order)
    return Schedule("interleaved", orders, np.arange(devices * chunks) % devices, microbatches)


def _turn(turn: int, devices: int, chunks: int) -> tuple[int, int]:
    """Return (chunk, microbatch) of the k-th pass: groups of p microbatches go through all chunks.

    >>> [_turn(turn, 2, 2) for turn in range(5)]
    [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2)]
    """
    group = devices * chunks
    return turn % group // devices, turn // group * devices + turn % devices
