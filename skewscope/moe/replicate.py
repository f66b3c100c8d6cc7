"""How many replicas each expert gets: the highest averages, which make the heaviest replica as light as can be.

Rows are independent problems: a layer, or a node of a layer. B rows, E experts, P slots.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def replicate(loads: NDArray[Any], slots: int, most: int) -> Counts:
    """Return replicas [B, E] that sum to `slots` and minimise the heaviest load / replicas: tokens [B, E].

    Each slot beyond the first goes to the expert with the most tokens per replica, up to `most` replicas (one per
    GPU); where slots outnumber E x `most`, replicas on one GPU are forced and the limit rises. Raises UsageError
    where slots are fewer than experts. Exact by exchange, as in the method of d'Hondt.

    >>> replicate(np.array([[90.0, 20.0, 10.0]]), slots=5, most=4).tolist()
    [[3, 1, 1]]
    """
    loads = np.asarray(loads, np.float64)
    rows, experts = len(loads), loads.shape[1]
    if slots < experts:
        raise UsageError(f"{slots} slots cannot hold {experts} experts; give at least one slot to each")
    most = max(most, -(-slots // experts))
    found = np.ones((rows, experts), np.int64)
    average = loads.copy() if most > 1 else np.full_like(loads, -1.0)
    each = np.arange(rows)
    for _ in range(slots - experts):
        heaviest = average.argmax(1)
        found[each, heaviest] += 1
        held = found[each, heaviest]
        average[each, heaviest] = np.where(held < most, loads[each, heaviest] / held, -1.0)
    return found


def replicas_in_order(loads: NDArray[Any], replicas: Counts) -> tuple[NDArray[np.int32], Floats]:
    """Return experts [B, P] and tokens [B, P] of all replicas, the heaviest first; replicas of one expert adjoin.

    Each row of `replicas` [B, E] sums to the same P.

    >>> experts, tokens = replicas_in_order(np.array([[9.0, 2.0]]), np.array([[2, 1]]))
    >>> experts.tolist(), tokens.tolist()
    ([[0, 0, 1]], [[4.5, 4.5, 2.0]])
    """
    share = loads / replicas
    order = np.argsort(-share, axis=1, kind="stable")
    repeats = np.take_along_axis(replicas, order, 1)
    experts = np.repeat(order.ravel(), repeats.ravel()).reshape(len(order), -1)
    return experts.astype(np.int32), np.take_along_axis(share, experts, 1)
