"""Closed formulas of pipeline bubbles for even stages, bounds for uneven ones, and how a bubble splits into causes.

r_ideal is the bubble over m (tf + tb), r_total the bubble over the makespan: r_total = r_ideal / (1 + r_ideal). Figures
in print mix the two. All formulas leave transfers out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Shape:
    """`devices`, `microbatches`, and a device's usual forward and whole backward for one microbatch, in seconds.

    `weight_share` of the backward is the weights' gradients; ZeRO-3 would shard the weights over `shards` ranks.
    """

    devices: int
    microbatches: int
    forward_s: float
    backward_s: float
    weight_share: float = 0.5
    shards: int = 8

    @property
    def work_s(self) -> float:
        """Return the work of a device: what a step takes without any bubble."""
        return self.microbatches * (self.forward_s + self.backward_s)


def one_forward_one_backward_s(shape: Shape) -> float:
    """Return the bubble of GPipe and 1F1B: (p - 1)(tf + tb).

    >>> one_forward_one_backward_s(Shape(4, 16, 1.0, 2.0))
    9.0
    """
    return (shape.devices - 1) * (shape.forward_s + shape.backward_s)


def interleaved_s(shape: Shape, chunks: int = 2) -> float:
    """Return the bubble of interleaved 1F1B: (p - 1)(tf + tb) / v.

    >>> interleaved_s(Shape(4, 16, 1.0, 2.0), 2)
    4.5
    """
    return one_forward_one_backward_s(shape) / chunks


def zb_h1_s(shape: Shape) -> float:
    """Return the bubble of ZB-H1: (p - 1)(tf + tb - tw), with tb here the gradients of the inputs only.

    Holds where neither part of the backward is longer than the forward; else it is a bound, and only simulation tells.

    >>> zb_h1_s(Shape(4, 16, 1.0, 2.0))
    3.0
    """
    return (shape.devices - 1) * (shape.forward_s + shape.backward_s * (1 - 2 * shape.weight_share))


def zb_h2_own_s(shape: Shape) -> float:
    """Return the bubble of ZB-H2 within each device's own span: (p - 1)(tf + tb - 2 tw), not below 0.

    >>> zb_h2_own_s(Shape(4, 16, 1.0, 2.0))
    0.0
    """
    return max(0.0, (shape.devices - 1) * (shape.forward_s + shape.backward_s * (1 - 3 * shape.weight_share)))


def zb_h2_s(shape: Shape) -> float:
    """Return the bubble of ZB-H2 by the makespan, with equal passes: (p - 1) tf.

    >>> zb_h2_s(Shape(4, 16, 1.0, 2.0))
    3.0
    """
    return (shape.devices - 1) * shape.forward_s


def hanayo_ratio(devices: int, waves: int) -> float:
    """Return (2P - 2) / (3PW + P - 1), for tb = 2 tf and no transfers; the source does not say of what it is a share.

    >>> round(hanayo_ratio(4, 2), 4)
    0.2222
    """
    return (2 * devices - 2) / (3 * devices * waves + devices - 1)


def chimera_ratio(devices: int, microbatches: int) -> float:
    """Return (D - 2) / (2N + D - 2) of the makespan, two directions, weights twice; not checked against its source.

    >>> chimera_ratio(4, 4)
    0.2
    """
    return max(0, devices - 2) / (2 * microbatches + devices - 2)


def bitpipe_ratio(devices: int, microbatches: int) -> float:
    """Return (D - 2) / (4N + D - 2) of the makespan, weights twice; not checked against its source.

    >>> round(bitpipe_ratio(4, 4), 4)
    0.1111
    """
    return max(0, devices - 2) / (4 * microbatches + devices - 2)


def bounds_s(stage_s: Array, microbatches: int) -> tuple[float, float]:
    """Return (least, most) makespan of 1F1B with uneven stages; `stage_s` [stages] forward and backward together.

    m max <= makespan <= sum + (m - 1) max.

    >>> bounds_s(np.array([3.0, 3.0, 4.5, 3.0]), 16)
    (72.0, 81.0)
    """
    slowest = float(stage_s.max())
    return microbatches * slowest, float(stage_s.sum()) + (microbatches - 1) * slowest


@dataclass(frozen=True)
class Split:
    """A bubble in seconds: `structural_s` even stages would have too, `imbalance_s` comes from uneven ones."""

    structural_s: float
    imbalance_s: float


def split(makespan_s: float, level_makespan_s: float, work_s: float) -> Split:
    """Return the bubble by cause: of the run as it is, of one with level stages, and the mean `work_s` of a device.

    >>> split(79.5, 65.25, 54.0)
    Split(structural_s=11.25, imbalance_s=14.25)
    """
    return Split(level_makespan_s - work_s, makespan_s - level_makespan_s)
