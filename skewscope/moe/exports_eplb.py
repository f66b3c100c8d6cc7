"""EPLB's arrays in one .npz: `phy2log`, `log2phy` and `logcnt`, as `rebalance_experts` returns them.

Load it with `numpy.load(FILE)` and hand the arrays to what calls EPLB.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .placement import Placement
from .sound import sound

Ints = NDArray[np.int64]


def export(placement: Placement, layers: Sequence[int] | NDArray[Any]) -> bytes:
    """Return an .npz of phy2log [L, P], log2phy [L, E, most replicas] (-1 fills), logcnt [L, E] and `layers` [L]."""
    checked = sound(placement, layers)
    held = io.BytesIO()
    np.savez_compressed(
        held, phy2log=checked.slots.astype(np.int64), log2phy=log2phy(checked), logcnt=checked.replicas(),
        layers=np.asarray(layers, np.int64),
    )  # fmt: skip
    return held.getvalue()


def log2phy(placement: Placement) -> Ints:
    """Return the slots of each expert [L, E, R] in ascending order, R the most replicas of any; -1 fills.

    >>> log2phy(Placement(np.array([[0, 1, 2, 0]]), gpus=2, experts=3)).tolist()
    [[[0, 3], [1, -1], [2, -1]]]
    """
    counts, slots = placement.replicas(), placement.slots
    made = np.full((*counts.shape, max(int(counts.max()), 1)), -1, np.int64)
    order = np.argsort(slots, axis=1, kind="stable")
    expert = np.take_along_axis(slots, order, axis=1)
    first = np.cumsum(counts, axis=1) - counts
    place = np.arange(slots.shape[1]) - np.take_along_axis(first, expert, axis=1)
    made[np.arange(placement.layers)[:, None], expert, place] = order
    return made
