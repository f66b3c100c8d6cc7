"""Replicas onto GPUs of equally many slots: the heaviest first, each round one slot of every GPU.

Rows are independent problems: a layer, or a node of a layer. B rows, E experts, G GPUs, S slots per GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .replicate import Counts, replicas_in_order

Held = NDArray[np.int32]  # [B, G, S] experts of each GPU


def pack(loads: NDArray[Any], replicas: Counts, gpus: int) -> Held:
    """Return the experts of each GPU [B, G, S]: tokens [B, E], replicas [B, E].

    Longest processing time first with as many replicas on every GPU: in each round the GPU with the fewest tokens
    gets the heaviest replica that is left. For two slots per GPU the result is optimal for these replicas. No GPU
    gets two replicas of an expert that has at most G of them.

    >>> pack(np.array([[9.0, 4.0, 3.0]]), np.array([[2, 1, 1]]), gpus=2).tolist()
    [[[0, 1], [0, 2]]]
    """
    experts, tokens = replicas_in_order(loads, replicas)
    per_gpu = experts.shape[1] // gpus
    rows = np.arange(len(experts))[:, None]
    held = np.empty((len(experts), gpus, per_gpu), np.int32)
    held[:, :, 0] = experts[:, :gpus]
    loaded = tokens[:, :gpus].copy()
    for turn in range(1, per_gpu):
        begin = turn * gpus
        split = np.where(experts[:, begin] == experts[:, begin - 1], experts[:, begin], -1)
        holds_it = held[:, :, turn - 1] == split[:, None]
        order = np.argsort(np.where(holds_it, np.inf, loaded), axis=1, kind="stable")
        held[rows, order, turn] = experts[:, begin : begin + gpus]
        loaded[rows, order] += tokens[:, begin : begin + gpus]
    return held
