"""What if the router could send a pick to an expert that computes nothing (MoE++, LongCat-Flash), on a trace.

Such picks need no transfer and no multiplication, so the load of the real experts falls; which of them fall most
decides the balance. On a trace the weakest picks are taken: by their gate weights where the trace has them, else the
last ones, as routers list picks by weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .placement import Floats, Placement, balancedness

SOURCE = (
    "MoE++, arXiv 2410.07348 (zero, copy and constant experts, 1.1x to 2.1x expert throughput); LongCat-Flash, arXiv "
    "2509.01322 (18.6 to 31.3 billion parameters active per token)"
)
ASSUMES = "the weakest picks become zero experts; the router was not trained for it, so quality is not judged"


@dataclass(frozen=True)
class Relieved:
    """Share of picks that compute nothing, and per layer [L]: balance of GPUs before and after, hottest GPU's fall."""

    share: float
    balance_now: Floats
    balance: Floats
    hottest_ratio: Floats  # the load of the hottest GPU after, over before


def relieved(trace: NDArray[Any], placement: Placement, share: float, weights: NDArray[Any] | None = None) -> Relieved:
    """Return the what-if of a trace [tokens, L, k] with a `share` of picks sent to zero experts.

    `weights` [tokens, L, k] are those of the gate. Raises UsageError for a share outside 0 to 1 or other shapes.

    >>> half = Placement(np.array([[0, 1]]), gpus=2, experts=2)
    >>> relieved(np.array([[[0, 1]], [[0, 1]]]), half, 0.5).balance.tolist()
    [0.5]
    """
    ids = np.asarray(trace, np.int64)
    if not 0 <= share < 1 or ids.ndim != 3 or ids.shape[1] != placement.layers:
        raise UsageError(f"a share of {share} and a trace of shape {list(ids.shape)} do not fit {placement.layers} "
                         "layers")  # fmt: skip
    tokens, layers, top_k = ids.shape
    strength = -np.broadcast_to(np.arange(top_k), ids.shape) if weights is None else np.asarray(weights, np.float64)
    order = np.argsort(strength.swapaxes(0, 1).reshape(layers, -1), axis=-1, kind="stable")
    off = np.zeros(order.shape, dtype=bool)
    np.put_along_axis(off, order[:, : round(share * tokens * top_k)], True, axis=-1)
    flat = ids.swapaxes(0, 1).reshape(layers, -1)
    before = placement.gpu_loads(_counts(flat, np.ones_like(off), placement.experts))
    after = placement.gpu_loads(_counts(flat, ~off, placement.experts))
    return Relieved(share, balancedness(before), balancedness(after), after.max(-1) / np.maximum(before.max(-1), 1.0))


def _counts(ids: NDArray[np.int64], on: NDArray[np.bool_], experts: int) -> NDArray[np.int64]:
    layers = ids.shape[0]
    flat = (ids + np.arange(layers)[:, None] * experts)[on]
    return np.bincount(flat, minlength=layers * experts).reshape(layers, experts)
